# SPDX-License-Identifier: Apache-2.0
"""Many at once are as one by one; the same seed gives the same result; a GPU's are a CPU's.

Tolerances are those of docs/numbers.md.
"""

import dataclasses
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import synthetic_clip as made
import torch
from test_solver import make_scene

from posefit.body import pose_body
from posefit.body_model import BodyModel
from posefit.crop import crop_frames
from posefit.displacement import load_estimator
from posefit.modalities import render_modalities
from posefit.parameters import parameters_of_sequence
from posefit.pipeline import Clip, refine
from posefit.rasterizer import rasterize
from posefit.refinement.observation import Observer
from posefit.refinement.pictures import body_boxes, load_pictures
from posefit.refinement.windows import join_windows, split_windows
from posefit.solver import SolverConfig, solve, take_frames
from posefit.solver.banded import BandedMatrix, multiply, solve_banded
from posefit.verdict import acceptance
from posefit.vertex_targets import aggregate
from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence, read_sequence, write_sequence
from posefit_shared.settings import RefineSettings

ANGLE = 1e-4
"""Radians, metres and coefficients by which batches of another size may differ, and threads."""
GPU_ANGLE = 2e-3
"""The same between a CPU and a GPU, whose sums come in another order."""
FRAMES = 3
QUICK = RefineSettings(crop_size=64, solver_iterations=3, rounds=2)


@pytest.fixture(scope="module")
def scene(free_body):
    return make_scene(free_body, batch=5, noise=0.1)


@pytest.fixture(scope="module")
def posed(free_body, scene):
    """Vertices, cameras and intrinsics of a batch, in float32."""
    vertices = pose_body(free_body, scene.start).vertices
    intrinsics = scene.intrinsics.expand(len(vertices), 3, 3).clone()
    intrinsics[:, :2] *= 0.25
    return vertices, scene.world_to_camera.expand(len(vertices), 4, 4), intrinsics


# Batch and loop


def test_a_batch_is_posed_and_rendered_as_its_rows_are_one_by_one(free_body, scene, posed):
    vertices, world_to_camera, intrinsics = posed
    together, fragments = render_modalities(
        free_body, vertices, world_to_camera, intrinsics, (96, 128)
    )
    for k in range(len(vertices)):
        alone = pose_body(free_body, scene.start[k : k + 1]).vertices
        torch.testing.assert_close(alone[0], vertices[k], atol=2e-6, rtol=0)
        one = slice(k, k + 1)
        single, shown = render_modalities(
            free_body, vertices[one], world_to_camera[one], intrinsics[one], (96, 128)
        )
        assert torch.equal(shown.pix_to_face[0], fragments.pix_to_face[k])
        assert torch.equal(single.depth[0], together.depth[k])
        assert torch.equal(single.vertex_colors[0], together.vertex_colors[k])
        torch.testing.assert_close(single.normals[0], together.normals[k], atol=2e-6, rtol=0)


def test_a_batch_has_the_targets_of_its_rows_one_by_one(free_body, posed):
    vertices, world_to_camera, intrinsics = posed
    modalities, fragments = render_modalities(
        free_body, vertices, world_to_camera, intrinsics, (96, 128)
    )
    found = made.ColorMatcher().predict(modalities.vertex_colors.roll(3, -1), modalities)
    together = aggregate(fragments, free_body.faces, free_body.num_vertices, found)
    assert (together.weight > 0).any(1).all()
    for k in range(len(vertices)):
        one = slice(k, k + 1)
        alone = aggregate(
            rows_of(fragments, one), free_body.faces, free_body.num_vertices, rows_of(found, one)
        )
        assert torch.equal(alone.displacement[0], together.displacement[k])
        assert torch.equal(alone.weight[0], together.weight[k])


def rows_of(record, rows):
    """Some rows of a record of tensors."""
    values = {f.name: getattr(record, f.name)[rows] for f in dataclasses.fields(record)}
    return dataclasses.replace(record, **values)


def test_crops_of_a_batch_are_those_of_its_pictures_one_by_one():
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 255, (90, 120, 3), dtype=np.uint8) for _ in range(3)]
    boxes = np.array([[60, 45, 80], [10, 80, 200], [60, 45, 16]], float)
    pinhole = np.array([[200.0, 0, 60], [0, 200, 45], [0, 0, 1]])
    cameras = [
        Camera(pinhole, np.eye(4), (120, 90), np.array([k, 0, 0, 0, 0])) for k in (0, 0.1, -0.1)
    ]
    together = crop_frames(pictures, boxes, cameras, 64)
    for k in range(3):
        alone = crop_frames(pictures[k : k + 1], boxes[k : k + 1], cameras[k : k + 1], 64)
        assert torch.equal(alone.images[0], together.images[k])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frames_that_share_nothing_are_solved_in_a_batch_as_one_by_one(free_body, dtype):
    body = free_body.to(dtype=dtype)
    scene = make_scene(body, batch=5, noise=0.1, dtype=dtype)
    config, evidence = SolverConfig(shape="frame", smoothness=0.0), scene.evidence()
    together = solve(body, scene.start, [evidence], config, reference=scene.start)
    for k in range(5):
        one = slice(k, k + 1)
        row = take_frames(evidence, one)
        alone = solve(body, scene.start[one], [row], config, reference=scene.start[one])
        assert bool(alone.converged[0]) == bool(together.converged[k])
        tolerance = ANGLE if dtype == torch.float32 else 1e-8
        for name in ("global_orient", "body_pose", "transl", "betas"):
            torch.testing.assert_close(
                getattr(alone.parameters, name)[0], getattr(together.parameters, name)[k],
                atol=tolerance, rtol=0,
            )  # fmt: skip


def test_evidence_of_a_long_clip_costs_in_parts_what_it_costs_at_once(
    free_body, scene, monkeypatch
):
    evidence = scene.evidence()
    at_once = acceptance.evidence_cost(free_body, scene.start, evidence)
    asked = []

    def counted(body, rows, *arguments, **options):
        asked.append(len(rows))
        return solve(body, rows, *arguments, **options)

    monkeypatch.setattr(acceptance, "_COST_FRAMES", 2)
    monkeypatch.setattr(acceptance, "solve", counted)
    in_parts = acceptance.evidence_cost(free_body, scene.start, evidence)
    assert asked == [2, 2, 1]
    torch.testing.assert_close(in_parts, at_once, atol=1e-4, rtol=1e-5)


def test_people_refined_one_after_another_do_not_know_of_each_other(free_body):
    first = made.refined_clip(free_body, 1)
    made.refined_clip(free_body, 2)
    again = made.refined_clip(free_body, 1)
    assert np.array_equal(first.poses, again.poses)
    assert np.array_equal(first.trans, again.trans)


# The same seed

PROGRAM = """
import sys, torch, numpy as np
torch.set_num_threads(int(sys.argv[1]))
import synthetic_clip as made
from posefit.body import load_body
result = made.refined_clip(load_body("free"), 1, 2)
np.savez(sys.argv[2], poses=result.poses, trans=result.trans, betas=result.betas)
"""


def refined_elsewhere(folder: Path, threads: int) -> dict[str, np.ndarray]:
    """What another process makes of the clip, on so many threads."""
    path = folder / f"{threads}.npz"
    search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads), str(path)], env=environment, check=True
    )
    return dict(np.load(path))


@pytest.mark.slow
def test_another_process_finds_the_same_bits_and_more_threads_nearly_so(free_body, tmp_path):
    one, two = (refined_elsewhere(tmp_path, threads) for threads in (1, 2))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        here = made.refined_clip(free_body, 1, 2)
    finally:
        torch.set_num_threads(before)
    for name in ("poses", "trans", "betas"):
        assert np.array_equal(one[name], getattr(here, name))
        np.testing.assert_allclose(one[name], two[name], atol=ANGLE)


# CPU and GPU


def on(device: str, record):
    """A record of tensors, moved."""
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    moved = {
        name: value.to(device) for name, value in values.items() if isinstance(value, torch.Tensor)
    }
    return dataclasses.replace(record, **moved)


@pytest.fixture(scope="module")
def gpu_body(free_body) -> BodyModel:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return free_body.to("cuda")


@pytest.mark.gpu
def test_a_gpu_rasterises_and_aggregates_as_a_cpu_does(free_body, gpu_body, posed):
    vertices, world_to_camera, intrinsics = posed
    here, shown = render_modalities(free_body, vertices, world_to_camera, intrinsics, (96, 128))
    there, far = render_modalities(
        gpu_body, vertices.cuda(), world_to_camera.cuda(), intrinsics.cuda(), (96, 128)
    )
    same = far.pix_to_face.cpu() == shown.pix_to_face
    assert same.float().mean() > 0.999  # an edge may fall to either of its faces
    torch.testing.assert_close(
        there.depth.cpu()[same[:, None]], here.depth[same[:, None]], atol=1e-4, rtol=0
    )
    found = made.ColorMatcher().predict(here.vertex_colors.roll(3, -1), here)
    near = aggregate(shown, free_body.faces, free_body.num_vertices, found)
    distant = aggregate(on("cuda", shown), gpu_body.faces, gpu_body.num_vertices, on("cuda", found))
    torch.testing.assert_close(distant.displacement.cpu(), near.displacement, atol=1e-4, rtol=0)
    torch.testing.assert_close(distant.weight.cpu(), near.weight, atol=1e-5, rtol=0)


@pytest.mark.gpu
def test_a_gpu_solves_as_a_cpu_does(free_body, gpu_body, scene):
    config, evidence = SolverConfig(smoothness=1.0), scene.evidence()
    here = solve(free_body, scene.start, [evidence], config, reference=scene.start)
    start = on("cuda", scene.start)
    there = solve(gpu_body, start, [on("cuda", evidence)], config, reference=start)
    for name in ("global_orient", "body_pose", "transl", "betas"):
        torch.testing.assert_close(
            getattr(there.parameters, name).cpu(), getattr(here.parameters, name),
            atol=GPU_ANGLE, rtol=0,
        )  # fmt: skip


@pytest.mark.gpu
def test_a_gpu_looks_as_a_cpu_does(free_body, gpu_body):
    """One look, before any vertices are drawn: crops, renderings, targets, figures."""
    start, view = made.filmed_clip(free_body, 1, FRAMES)
    looks = []
    for body in (free_body, gpu_body):
        parameters = parameters_of_sequence(start, body)
        pictures = load_pictures(view, range(FRAMES), pose_body(body, parameters).vertices)
        observer = Observer(body, made.SoftMatcher(), crop_size=96)
        looks.append(observer.look(pictures, range(FRAMES), parameters, lambda frames: None))
    here, there = (look.figures for look in looks)
    for name in ("error_m", "doubt_m", "seen_share", "disagreement"):
        expected, found = getattr(here, name), getattr(there, name).cpu()
        told(name, (found / expected - 1).abs().max())
        torch.testing.assert_close(found, expected, atol=0, rtol=0.01)


@pytest.mark.gpu
def test_a_gpu_refines_as_a_cpu_does(free_body, gpu_body):
    """Which vertices are drawn for the solver hangs on the last bit of a sum, so a CPU does not
    repeat itself either when its start is a micrometre elsewhere: that is the measure."""
    start, view = made.filmed_clip(free_body, 1, FRAMES)

    def found(body, moved=0.0):
        clip = Clip(start.replace(trans=start.trans + np.float32(moved)), [view])
        return refine(clip, body=body, estimator=made.SoftMatcher(), settings=QUICK).found

    expected = found(free_body)
    control = max(
        made.vertex_error_mm(free_body, expected, found(free_body, moved)).mean()
        for moved in (1e-6, -1e-6, 2e-6)
    )
    difference = made.vertex_error_mm(free_body, expected, found(gpu_body)).mean()
    moved = made.vertex_error_mm(free_body, expected, start).mean()
    told("refined, mm", difference)
    told("the same of a start elsewhere, mm", control)
    assert difference < 3 * control
    assert difference < 0.1 * moved


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["net-large", "net-fast"])
def test_a_gpus_network_sees_what_a_cpus_sees(free_body, gpu_body, name):
    """In bfloat16 there: nearer to the CPU's answer than to none, by far."""
    start, view = made.filmed_clip(free_body, 1, FRAMES)
    parameters = parameters_of_sequence(start, free_body)
    vertices = pose_body(free_body, parameters).vertices
    cameras = [view.camera(k) for k in range(FRAMES)]
    boxes = body_boxes(vertices, cameras, margin=1.3)
    crop = crop_frames([view.footage.read(k) for k in range(FRAMES)], boxes, cameras, 256)
    matrices = torch.from_numpy(np.stack([c.world_to_camera for c in cameras])).float()
    shown, _ = render_modalities(free_body, vertices, matrices, crop.intrinsics, (256, 256))
    here = load_estimator(name, "cpu").predict(crop.images, shown)
    there = load_estimator(name, "cuda").predict(crop.images.cuda(), on("cuda", shown))
    is_body = shown.mask[:, 0] > 0
    away = (there.displacement.cpu() - here.displacement).norm(dim=-1)[is_body]
    told(f"{name}, px: median, mean", f"{away.median():.4f}, {away.mean():.4f}")
    told(f"{name}, σ of the CPU's, px", here.scale[is_body].median())
    unsure = (there.visibility.cpu() - here.visibility).abs()[is_body].mean()
    told(f"{name}, visibility", unsure)
    assert away.median() < 0.25 * here.scale[is_body].median()
    assert unsure < 0.05


def told(name: str, value: object) -> None:
    """Print what was measured, for docs/numbers.md; `pytest -rP` shows it."""
    print(f"{name}: {float(value):.3g}" if not isinstance(value, str) else f"{name}: {value}")  # noqa: T201


def test_the_kernels_that_a_gpu_runs_agree_with_plain_torch_on_a_cpu(free_body, posed):
    """Depth from the kernel's barycentrics is the faces' own, and every pixel shows a face in
    front of which none of the others lies."""
    vertices, world_to_camera, intrinsics = posed
    points = vertices @ world_to_camera[:, :3, :3].mT + world_to_camera[:, None, :3, 3]
    fragments = rasterize(points, free_body.faces, intrinsics, (96, 128))
    batch, row, column = (fragments.pix_to_face >= 0).nonzero(as_tuple=True)
    face = fragments.pix_to_face[batch, row, column].long()
    corners = points[batch[:, None], free_body.faces[face]]
    place = (corners * fragments.bary_coords[batch, row, column][..., None]).sum(1)
    pixel = (place @ intrinsics[0].T)[:, :2] / place[:, 2:]
    centre = torch.stack([column, row], -1) + 0.5
    torch.testing.assert_close(place[:, 2], fragments.zbuf[batch, row, column], atol=1e-4, rtol=0)
    assert (pixel - centre).abs().max() < 0.02


# Long clips

LONG = 10_000


def test_ten_thousand_frames_are_joined_written_and_read_in_bounded_memory(tmp_path):
    rng = np.random.default_rng(0)
    windows = split_windows(LONG, 128, 16)
    poses = rng.normal(size=(LONG, 24, 3)).astype(np.float32) * 0.3

    def solved():
        for window in windows:
            rows = poses[window.start : window.stop]
            yield rows.copy(), rows[:, 0].copy()

    tracemalloc.start()
    joined, trans = join_windows(windows, solved())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * poses.nbytes  # the whole clip once, and windows beside it
    np.testing.assert_allclose(joined, poses, atol=1e-6)
    np.testing.assert_allclose(trans, poses[:, 0], atol=1e-6)
    write_sequence(tmp_path / "long.npz", Sequence(poses=joined, trans=trans))
    again = read_sequence(tmp_path / "long.npz")
    assert np.array_equal(again.poses, joined)
    assert len(again.slice(9_990, LONG)) == 10


def test_ten_thousand_frames_coupled_in_time_are_solved_exactly():
    generator = torch.Generator().manual_seed(0)
    size = 6

    def blocks():
        return torch.randn(LONG, size, size, generator=generator, dtype=torch.float64)

    diagonal = (torch.eye(size, dtype=torch.float64) * 8).repeat(LONG, 1, 1)
    matrix = BandedMatrix(diagonal, blocks() * 0.1, blocks() * 0.05)
    right = torch.randn(LONG, size, generator=generator, dtype=torch.float64)
    found, is_definite = solve_banded(matrix, right[..., None])
    assert bool(is_definite.all())
    torch.testing.assert_close(multiply(matrix, found[..., 0]), right, atol=1e-9, rtol=0)
