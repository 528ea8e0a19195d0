# SPDX-License-Identifier: Apache-2.0
"""Each numeric step under inputs that no film gives: finite numbers, and no pull from nonsense."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from test_solver import make_scene

from posefit.crop import crop_frames
from posefit.displacement import DisplacementField
from posefit.metrics import align_similarity, second_difference
from posefit.modalities import render_modalities
from posefit.rasterizer import rasterize
from posefit.refinement.windows import join_windows, split_windows
from posefit.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posefit.solver import SolverConfig, solve
from posefit.vertex_targets import aggregate, select_points
from posefit_shared import rotations as shared_rotations
from posefit_shared.frames import Camera

NAN, INF = float("nan"), float("inf")
LENGTHS = [0.0, 1e-30, 1e-12, 1e-6, math.pi - 1e-6, math.pi, 2 * math.pi, 1e3, 1e6, 1e18]


def is_finite(value) -> bool:
    if dataclasses.is_dataclass(value):
        return all(is_finite(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, tuple):
        return all(map(is_finite, value))
    if isinstance(value, torch.Tensor):
        return bool(value.isfinite().all())
    return True


# Rotations


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rotation_of_any_length_is_one_and_comes_back(length, dtype):
    axis = torch.tensor([[1, 0, 0], [0, 0.6, -0.8], [-0.48, 0.6, 0.64]], dtype=dtype)
    matrix = axis_angle_to_matrix(axis * length)
    again = axis_angle_to_matrix(matrix_to_axis_angle(matrix))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    identity = torch.eye(3, dtype=dtype).expand(3, 3, 3)
    torch.testing.assert_close(matrix @ matrix.mT, identity, atol=tolerance, rtol=0)
    torch.testing.assert_close(again, matrix, atol=10 * tolerance, rtol=0)
    other = shared_rotations.rotvec_to_matrix((axis * length).double().numpy())
    if length < 1e4:
        np.testing.assert_allclose(matrix.numpy(), other, atol=1e-3 if length > 100 else 1e-5)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.full((3, 3), 1e-30), np.ones((3, 3))])
def test_a_matrix_that_is_no_rotation_gives_finite_numbers(matrix):
    assert matrix_to_axis_angle(torch.tensor(matrix)[None]).isfinite().all()
    assert np.isfinite(shared_rotations.matrix_to_rotvec(matrix)).all()


# Rendering

MESHES = {
    "behind the camera": lambda v: v - torch.tensor([0, 0, 6.0]),
    "about the camera": lambda v: v - torch.tensor([0, 0, 3.0]),
    "a thousand kilometres away": lambda v: v + torch.tensor([0, 0, 1e6]),
    "beyond the stars": lambda v: v + torch.tensor([0, 0, 1e30]),
    "not a number": lambda v: v * NAN,
    "endless": lambda v: v * INF,
    "larger than float32 can square": lambda v: v * 1e30,
    "one point": lambda v: v * 0 + torch.tensor([0, 0, 1.0]),
    "one plane through the eye": lambda v: v * torch.tensor([0, 1.0, 1.0]),
    "one vertex not a number": lambda v: torch.cat([v[:, :5] * NAN, v[:, 5:]], 1),
}


def camera(focal=300.0):
    return torch.tensor([[[focal, 0, 32], [0, focal, 32], [0, 0, 1]]])


def before_camera(body):
    return body.v_template[None] + torch.tensor([0, 0, 3.0])


@pytest.mark.parametrize("name", MESHES)
def test_any_mesh_is_rendered_in_finite_numbers(free_body, name):
    vertices = MESHES[name](before_camera(free_body))
    modalities, fragments = render_modalities(
        free_body, vertices, torch.eye(4)[None], camera(), (64, 64)
    )
    assert is_finite(modalities)
    assert is_finite(fragments)
    seen = fragments.pix_to_face >= 0
    if name in ("behind the camera", "not a number", "endless", "one point"):
        assert not seen.any()
    if name == "one vertex not a number":
        shown = free_body.faces[fragments.pix_to_face[seen].long()]
        assert (shown >= 5).all()
        assert seen.any()


@pytest.mark.parametrize("focal", [1e-6, 1.0, 1e7, 1e20, 1e38])
def test_any_focal_length_is_rendered_in_finite_numbers(free_body, focal):
    fragments = rasterize(before_camera(free_body), free_body.faces, camera(focal), (64, 64))
    assert is_finite(fragments)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (16_384, 8)])
def test_any_picture_size_is_rendered(free_body, size):
    fragments = rasterize(before_camera(free_body), free_body.faces, camera(), size)
    assert fragments.pix_to_face.shape == (1, *size)
    assert is_finite(fragments)


def test_faces_without_area_show_nothing(free_body):
    flat = free_body.faces[:, :1].expand(-1, 3).contiguous()
    some = torch.cat([free_body.faces[:1000], flat[1000:]])
    vertices = before_camera(free_body)
    assert (rasterize(vertices, flat, camera(), (64, 64)).pix_to_face == -1).all()
    assert (rasterize(vertices, flat[:0], camera(), (64, 64)).pix_to_face == -1).all()
    mixed = rasterize(vertices, some, camera(), (64, 64))
    assert mixed.pix_to_face.max() < 1000
    assert is_finite(mixed)


# Crops


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("k1", [0.0, 10.0, 1e30, 1e200])
@pytest.mark.parametrize("box", [(30, 25, 16), (1e9, 25, 16), (30, 25, 1e9), (30, 25, 1e-3)])
def test_any_box_and_lens_gives_a_crop_of_numbers(k1, box):
    picture = np.full((50, 60, 3), 200, np.uint8)
    pinhole = np.array([[300.0, 0, 30], [0, 300, 25], [0, 0, 1]])
    lens = Camera(pinhole, np.eye(4), (60, 50), np.array([k1, 0, 0, 0, 0]))
    crop = crop_frames([picture], np.array([box], float), [lens], 64)
    assert crop.images.isfinite().all()
    assert crop.images.max() <= 1


# Targets

FIELDS = [
    (0.0, 1.0, 1.0), (NAN, 1.0, 1.0), (INF, 1.0, 1.0), (3e38, 1.0, 1.0), (0.0, NAN, 1.0),
    (0.0, INF, 1.0), (0.0, 3e38, 1.0), (0.0, -1.0, 1.0), (0.0, 0.0, 1.0), (0.0, 1.0, NAN),
    (0.0, 1.0, INF), (0.0, 1.0, 0.0), (0.0, 1.0, -1.0),
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_a_field_of_anything_gives_finite_targets(free_body, field):
    fragments = rasterize(before_camera(free_body), free_body.faces, camera(), (64, 64))
    displacement, scale, visibility = field
    targets = aggregate(
        fragments, free_body.faces, free_body.num_vertices,
        DisplacementField(torch.full((1, 64, 64, 2), displacement),
                          torch.full((1, 64, 64), scale), torch.full((1, 64, 64), visibility)),
    )  # fmt: skip
    assert is_finite(targets)
    indices, weights = select_points(targets.weight, 50)
    assert weights.isfinite().all()
    assert 0 <= indices.min() <= indices.max() < free_body.num_vertices
    if not (math.isfinite(displacement) and math.isfinite(scale)) or not visibility > 0:
        assert not targets.weight.any()


def test_one_pixel_that_is_no_number_pulls_nothing(free_body):
    fragments = rasterize(before_camera(free_body), free_body.faces, camera(), (64, 64))
    clean = DisplacementField(torch.ones(1, 64, 64, 2), torch.ones(1, 64, 64),
                              torch.ones(1, 64, 64))  # fmt: skip
    row, column = (fragments.pix_to_face[0] >= 0).nonzero()[200].tolist()
    hostile = dataclasses.replace(clean, displacement=clean.displacement.clone())
    hostile.displacement[0, row, column, 0] = NAN
    targets = aggregate(fragments, free_body.faces, free_body.num_vertices, hostile)
    seen = targets.weight > 0
    torch.testing.assert_close(
        targets.displacement[seen], torch.ones_like(targets.displacement[seen])
    )


# Solver


@pytest.fixture(scope="module")
def scene(free_body):
    return make_scene(free_body, batch=3)


EVIDENCE = {
    "targets that are no number": lambda e: {"targets": e.targets * NAN},
    "targets at infinity": lambda e: {"targets": e.targets + INF},
    "targets beyond squaring": lambda e: {"targets": e.targets * 1e30},
    "weights of nothing": lambda e: {"weights": e.weights * 0},
    "weights that are no number": lambda e: {"weights": e.weights * NAN},
    "endless weights": lambda e: {"weights": e.weights * INF},
    "negative weights": lambda e: {"weights": -e.weights},
    "huge weights": lambda e: {"weights": e.weights * 1e30},
    "scales of nothing": lambda e: {"scales": e.scales * 0},
    "scales that are no number": lambda e: {"scales": e.scales * NAN},
    "endless scales": lambda e: {"scales": e.scales * INF},
    "one point": lambda e: {"weights": e.weights * (torch.arange(e.weights.shape[1]) == 7)},
    "a focal length of a pixel": lambda e: {"intrinsics": e.intrinsics * lens(2e-3)},
    "a focal length of five million": lambda e: {"intrinsics": e.intrinsics * lens(1e4)},
}  # fmt: skip
NOTHING_TO_SEE = {
    "targets that are no number", "targets at infinity", "targets beyond squaring",
    "weights of nothing", "weights that are no number", "endless weights", "negative weights",
}  # fmt: skip


def lens(factor):
    return torch.tensor([[factor, factor, 1], [factor, factor, 1], [1, 1, 1]])


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("name", EVIDENCE)
def test_any_evidence_is_solved_in_finite_numbers(free_body, scene, name, with_reference):
    clean = scene.evidence()
    hostile = dataclasses.replace(clean, **EVIDENCE[name](clean))
    reference = scene.start if with_reference else None
    solution = solve(
        free_body, scene.start, [hostile], SolverConfig(smoothness=1.0), reference=reference
    )
    assert is_finite(solution.parameters)
    assert is_finite((solution.cost_before, solution.cost_after))
    assert solution.cost_after.sum() <= solution.cost_before.sum() * (1 + 1e-6)
    if name in NOTHING_TO_SEE:
        assert not solution.converged.any()


STARTS = {
    "behind the camera": lambda s: {"transl": s.transl * torch.tensor([1, 1, -1.0])},
    "about the camera": lambda s: {"transl": s.transl * 0},
    "a million times as far": lambda s: {"transl": s.transl * 1e6},
    "betas of 50": lambda s: {"betas": s.betas * 0 + 50},
    "betas beyond squaring": lambda s: {"betas": s.betas * 0 + 1e30},
    "joints wound up": lambda s: {"body_pose": s.body_pose * 1e6},
}


@pytest.mark.parametrize("name", STARTS)
def test_any_start_is_solved_in_finite_numbers(free_body, scene, name):
    start = dataclasses.replace(scene.start, **STARTS[name](scene.start))
    solution = solve(
        free_body, start, [scene.evidence()], SolverConfig(smoothness=1.0), reference=start
    )
    assert is_finite(solution.parameters)


def test_a_frame_whose_start_is_no_number_comes_back_as_it_was_and_spares_the_others(
    free_body, scene
):
    """Frames on their own: neighbours in time would share its fate, and files hold none such."""
    pose = scene.start.body_pose.clone()
    pose[1, 3] = NAN
    start = dataclasses.replace(scene.start, body_pose=pose)
    config = SolverConfig(shape="frame", smoothness=0.0)
    solution = solve(free_body, start, [scene.evidence()], config, reference=start)
    assert solution.converged.tolist() == [True, False, True]
    assert torch.equal(solution.parameters.transl[1], start.transl[1])
    clean = solve(free_body, scene.start, [scene.evidence()], config, reference=scene.start)
    assert clean.parameters.body_pose[[0, 2]].isfinite().all()
    assert solution.parameters.body_pose[[0, 2]].isfinite().all()
    assert not torch.equal(solution.parameters.body_pose[0], start.body_pose[0])


@pytest.mark.parametrize("times", [[0, 1e-6, 2e-6], [0, 1e9, 2e9], [0, 1e-6, 1e6]])
@pytest.mark.parametrize("stiffness", [0.0, 1.0, 1e12])
def test_any_times_and_stiffness_are_solved_in_finite_numbers(free_body, scene, times, stiffness):
    solution = solve(
        free_body, scene.start, [scene.evidence()], SolverConfig(smoothness=1.0),
        reference=scene.start, times=torch.tensor(times, dtype=torch.float64),
        stiffness=torch.full((24,), stiffness),
    )  # fmt: skip
    assert is_finite(solution.parameters)


@pytest.mark.parametrize("times", [[0, 0, 1], [0, 2, 1], [0, NAN, 1]])
def test_times_that_do_not_rise_are_refused(free_body, scene, times):
    with pytest.raises(ValueError, match="increasing seconds"):
        solve(free_body, scene.start, [scene.evidence()], times=torch.tensor(times).double())


def test_nothing_that_may_move_and_nothing_that_was_seen_is_an_answer(free_body, scene):
    everything = {"locked": torch.ones(24, dtype=torch.bool), "pinned": torch.ones(3).bool()}
    for freedom in ({name: value} for name, value in everything.items()):
        solution = solve(free_body, scene.start, [scene.evidence()], **freedom)
        assert torch.equal(solution.parameters.body_pose, scene.start.body_pose)
    unseen = solve(free_body, scene.start, [], SolverConfig(smoothness=1.0))
    assert is_finite(unseen.parameters)
    assert not unseen.converged.any()


# Motion


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_of_very_few_frames_have_contacts_windows_and_no_acceleration(free_body, frames):
    windows = split_windows(frames, 4, 2)
    poses = np.random.default_rng(0).normal(size=(frames, 24, 3)).astype(np.float32)
    joined, trans = join_windows(windows, [(poses, poses[:, 0])])
    assert np.array_equal(joined, poses)
    assert len(trans) == frames
    points = np.zeros((frames, 5, 3))
    assert np.isfinite(second_difference(points, np.arange(frames) / 30)).all()


def test_points_without_extent_are_aligned_in_finite_numbers():
    same = np.zeros((2, 24, 3))
    line = np.zeros((2, 24, 3))
    line[..., 0] = np.arange(24)
    spread = np.random.default_rng(0).normal(size=(2, 24, 3))
    for points in (same, line, spread):
        for target in (same, line, spread):
            assert np.isfinite(align_similarity(points, target)).all()
