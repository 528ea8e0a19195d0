# SPDX-License-Identifier: Apache-2.0
"""The generator of training samples: what it says is true, and is the same every time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from made_assets import write_assets

import posefit
from posefit.body import PoseParameters, axis_angle_to_matrix, load_body, pose_body
from posefit.training import check, photometry
from posefit.training.batch import mirrored
from posefit.training.config import GeneratorConfig
from posefit.training.drawing import load_drawing
from posefit.training.draws import Draws
from posefit.training.estimate_errors import (
    LEGS,
    TWIST_JOINTS,
    compensated_twist,
    exchange_sides,
    no_errors,
)
from posefit.training.generator import Generator, GeneratorAssets, load_assets
from posefit.training.people import pose_garments
from posefit.training.personal_texture import median_color
from posefit.training.poses import PoseBank, is_validation, mirror_pose
from posefit.training.scenes import pose_by_matrices

GARMENTS = Path(posefit.__file__).parent / "assets/training/free_garments.npz"
SMALL = GeneratorConfig(people=2, frames=3, size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Asset files in the tools' layout, made up."""
    return write_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(scope="module")
def assets(folder: Path) -> GeneratorAssets:
    return load_assets(folder, GARMENTS, load_body("free"), validation=False)


def make(assets: GeneratorAssets, config: GeneratorConfig = SMALL, seed: int = 4) -> Generator:
    return Generator(assets, load_drawing(), config, seed)


def still(config: GeneratorConfig = SMALL) -> torch.Tensor:
    return torch.zeros(config.people * config.frames, len(TWIST_JOINTS))


def test_displacement_is_where_the_true_surface_point_projects(assets: GeneratorAssets) -> None:
    generator = make(assets)
    batch, truth = generator.batch_with_truth()
    where = batch.mask.nonzero()
    picks = where[torch.linspace(0, len(where) - 1, 200).long()]
    exact = check.displacement_in_float64(generator, truth, picks)
    given = batch.displacement[picks[:, 0], :, picks[:, 1], picks[:, 2]].double()
    assert (given - exact).abs().amax(1).quantile(0.98) < 0.01
    assert given.norm(dim=1).mean() > 0.3


def test_right_estimates_are_not_displaced(assets: GeneratorAssets) -> None:
    batch, _ = make(assets).batch_with_truth(errors=no_errors(6, "cpu"), twists=still())
    assert batch.mask.any()
    assert batch.displacement.abs().max() < 0.01


def test_equal_seeds_make_equal_batches_and_others_do_not(assets: GeneratorAssets) -> None:
    first, second, other = make(assets), make(assets), make(assets, seed=5)
    one, two, three = first.batch(), second.batch(), other.batch()
    assert all(torch.equal(a, b) for a, b in zip(one.tensors(), two.tensors(), strict=True))
    assert not torch.equal(one.image, three.image)
    assert not torch.equal(first.batch().image, one.image)


def test_batches_hold_finite_numbers_in_range(assets: GeneratorAssets) -> None:
    batch = make(assets, seed=11).batch()
    assert all(torch.isfinite(t).all() for t in batch.tensors())
    assert batch.image.abs().max() <= 1.0
    assert batch.render[:, :8].abs().max() <= 1.0 + 1e-5
    assert not (batch.visible & ~batch.mask).any()
    assert (batch.displacement * ~batch.mask[:, None] == 0).all()


@pytest.mark.slow
def test_checks_pass_here_and_notice_a_broken_rasterizer(assets: GeneratorAssets) -> None:
    check.check_generator(make(assets))
    generator = make(assets)
    whole = generator.drawing

    def shifted(vertices, faces, intrinsics, size, *, face_mask=None):
        moved = intrinsics.clone()
        moved[:, 0, 2] += 1.0
        return whole.rasterize(vertices, faces, moved, size, face_mask=face_mask)

    generator.drawing = dataclasses.replace(whole, rasterize=shifted)
    with pytest.raises(check.CheckError):
        check.check_generator(generator)


def test_the_mirror_image_is_a_sample_too(assets: GeneratorAssets) -> None:
    batch = make(assets).batch()
    other = mirrored(batch)
    again = mirrored(other)
    assert all(torch.equal(a, b) for a, b in zip(batch.tensors(), again.tensors(), strict=True))
    # following the displacement leads to the same place, seen in the mirror
    sample, row, column = batch.mask.nonzero()[17].tolist()
    size = batch.mask.shape[2]
    target = column + 0.5 + batch.displacement[sample, 0, row, column]
    mirrored_target = size - column - 0.5 + other.displacement[sample, 0, row, size - 1 - column]
    assert torch.isclose(target + mirrored_target, torch.tensor(float(size)), atol=1e-3)


def test_mirrored_colors_are_those_of_the_other_side() -> None:
    body = load_body("free")
    colors, template = body.vertex_colors * 2 - 1, body.v_template
    flip = torch.tensor([-1.0, 1.0, 1.0])
    middle = 0.5 * (template[:, 0].min() + template[:, 0].max())
    chosen = torch.arange(0, len(template), 97)
    reflected = (template[chosen] - torch.tensor([middle, 0, 0])) * flip
    partner = torch.cdist(reflected + torch.tensor([middle, 0, 0]), template).argmin(1)
    difference = (colors[chosen] * flip - colors[partner]).abs().max(1).values
    assert difference.quantile(0.95) < 0.05


def test_posing_by_matrices_equals_the_body_module() -> None:
    body = load_body("free")
    torch.manual_seed(0)
    betas, vectors, root = torch.randn(3, 10), torch.randn(3, 24, 3) * 0.5, torch.randn(3, 3)
    posed = pose_by_matrices(body, betas, axis_angle_to_matrix(vectors), root)
    pelvis = body.joint_template[0] + betas @ body.joint_shapedirs[0].T
    expected = pose_body(body, PoseParameters(betas, vectors[:, 0], vectors[:, 1:], root - pelvis))
    assert torch.allclose(posed.vertices, expected.vertices, atol=1e-5)
    assert torch.allclose(posed.joints, expected.joints, atol=1e-5)


def test_garments_stay_near_the_body(assets: GeneratorAssets) -> None:
    body = assets.body
    torch.manual_seed(1)
    rotations = axis_angle_to_matrix(torch.randn(2, 24, 3) * 0.3)
    betas = torch.randn(2, 10)
    posed = pose_by_matrices(body, betas, rotations, torch.zeros(2, 3))
    both = pose_garments(assets.surface, betas, posed)
    assert torch.equal(both[:, : body.num_vertices], posed.vertices)
    first = assets.surface.part_names.index("tights")
    start = body.num_vertices
    assert first == 0, "the test takes the first garment"
    near = torch.cdist(both[:, start : start + 2000 : 50], posed.vertices).min(2).values
    assert near.median() < 0.04


def test_twists_leave_what_hangs_on_a_segment_in_place() -> None:
    body = load_body("free")
    torch.manual_seed(2)
    rotations = axis_angle_to_matrix(torch.randn(1, 24, 3) * 0.4)
    angles = torch.zeros(1, len(TWIST_JOINTS))
    column = TWIST_JOINTS.index((16, 18))
    angles[0, column] = 0.9
    twisted = compensated_twist(rotations, angles, body.joint_template)
    place = [torch.zeros(1, 10), torch.zeros(1, 3)]
    before = pose_by_matrices(body, place[0], rotations, place[1])
    after = pose_by_matrices(body, place[0], twisted, place[1])
    assert torch.allclose(before.joints, after.joints, atol=1e-4)
    moved = (before.vertices - after.vertices).norm(dim=2)[0]
    arm = body.lbs_weights[:, 16] > 0.9
    hand = body.lbs_weights[:, 20] > 0.9
    assert moved[arm].mean() > 0.01
    assert moved[hand].max() < 1e-3


def test_exchanging_sides_twice_changes_nothing() -> None:
    rotations = axis_angle_to_matrix(torch.randn(2, 24, 3))
    twice = exchange_sides(exchange_sides(rotations, LEGS), LEGS)
    assert torch.allclose(twice, rotations, atol=1e-6)
    assert torch.equal(exchange_sides(rotations, LEGS)[:, 16], rotations[:, 16])


def test_mirroring_a_pose_mirrors_the_joints() -> None:
    body = load_body("free")
    torch.manual_seed(3)
    pose = torch.randn(1, 24, 3) * 0.4
    zeros = torch.zeros(1, 10), torch.zeros(1, 3)
    poses = torch.cat([pose, mirror_pose(pose)])
    joints = pose_by_matrices(
        body, zeros[0].expand(2, -1), axis_angle_to_matrix(poses), zeros[1].expand(2, -1)
    ).joints
    left, right = joints[0, 20], joints[1, 21] * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(left, right, atol=0.01)


def test_median_ignores_what_is_not_seen() -> None:
    colors = torch.rand(5, 1, 3, 2, 2)
    seen = torch.tensor([True, False, True, True, False]).view(5, 1, 1, 1).expand(5, 1, 2, 2)
    color, valid = median_color(colors, seen)
    assert valid.all()
    assert torch.equal(color, colors[[0, 2, 3]].median(0).values)
    color, valid = median_color(colors, torch.zeros_like(seen))
    assert not valid.any()
    assert (color == 0.5).all()


def test_texture_never_comes_from_the_frame_itself(assets: GeneratorAssets) -> None:
    config = dataclasses.replace(SMALL, people=1, frames=2)
    generator = make(assets, config)
    seen: list[torch.Tensor] = []
    views = generator._views

    def spy(attributes, pictures, used, frames):
        marks = torch.arange(1.0, 3.0).view(2, 1, 1, 1) / 4
        marked = torch.cat([marks.expand(2, 3, 64, 64), pictures[:, 3:]], dim=1)
        colors, sees = views(attributes, marked, torch.ones_like(used), frames)
        seen.append(torch.stack([colors[0, 0][:, sees[0, 0]].mean(), colors[0, 1].max()]))
        return colors, sees

    generator._views = spy
    right = no_errors(2, "cpu")
    generator.batch_with_truth(errors=right, twists=torch.zeros(2, len(TWIST_JOINTS)))
    inside = seen[0][0]
    if torch.isfinite(inside):
        assert 0.45 < inside <= 0.501, "frame 0 must show frame 1's mark"
    assert seen[0][1] <= 0.251, "frame 1 must show frame 0's mark"


def test_compression_of_zero_strength_changes_nothing_and_strong_one_little() -> None:
    draws = Draws(0, "cpu")
    look = photometry.sample_camera_look(draws, SMALL)
    tables = photometry.jpeg_tables("cpu")
    images = torch.rand(6, 3, 64, 64) * 0.5 + 0.2
    none = dataclasses.replace(
        look,
        gamma=torch.ones_like(look.gamma),
        gain=torch.ones_like(look.gain),
        noise=torch.zeros_like(look.noise),
        compression=torch.zeros_like(look.compression),
    )
    noise = torch.zeros_like(images)
    assert torch.allclose(photometry.develop(images, noise, none, tables), images, atol=1e-5)
    fine = dataclasses.replace(none, compression=torch.full_like(look.compression, 1e-5))
    assert torch.allclose(photometry.develop(images, noise, fine, tables), images, atol=0.01)
    kernels = torch.zeros(6, 9, 9)
    kernels[:, 4, 4] = 1.0
    assert torch.allclose(photometry.blur(images, kernels), images, atol=1e-6)


def test_the_split_keeps_parts_of_a_recording_together() -> None:
    assert is_validation("expmap/test_basketball_1") == is_validation("expmap/train_basketball_7")
    assert is_validation("deepmimic/jump_mirror") == is_validation("deepmimic/jump")


def test_no_pose_is_on_both_sides_of_the_split(folder: Path) -> None:
    train = PoseBank(folder / "poses.npz", "cpu", validation=False)
    held_out = PoseBank(folder / "poses.npz", "cpu", validation=True)
    assert set(train.clip.tolist()).isdisjoint(held_out.clip.tolist())
