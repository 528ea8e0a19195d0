# SPDX-License-Identifier: Apache-2.0
"""Training batches from real pictures: the displacement leads to where the picture shows it."""

import dataclasses

import numpy as np
import pytest
import torch
from dataset_layouts import (
    FRAMES,
    INTRINSICS,
    SIZE,
    make_truth,
    smplx_like,
    write_bedlam,
    write_emdb,
    write_image,
)
from PIL import Image
from torch.nn.functional import grid_sample

from posefit.body import axis_angle_to_matrix, load_body
from posefit.datasets import Bodies, DatasetError
from posefit.datasets.bedlam import read_bedlam
from posefit.datasets.emdb import read_emdb
from posefit.datasets.real_people import pose_person
from posefit.datasets.real_samples import RealSamples, read_picture
from posefit.displacement.inputs import MODALITY_CHANNELS
from posefit.modalities import render_modalities
from posefit.training.config import GeneratorConfig
from posefit.training.drawing import load_drawing
from posefit.training.estimate_errors import no_errors

RIGHT = {"severity": 0.0, "twist_share": 0.0, "leg_swap_share": 0.0, "wrong_focal_share": 0.0,
         "personal_share": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def body():
    return load_body("free")


@pytest.fixture(scope="module")
def truth(body):
    return make_truth(body)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, truth, body):
    """EMDB's layout; pictures show the true body in its own vertex colours on black."""
    root = write_emdb(tmp_path_factory.mktemp("emdb"), truth)
    cameras = torch.tensor(truth.cameras, dtype=torch.float32)
    modalities, _ = render_modalities(
        body,
        torch.tensor(truth.vertices, dtype=torch.float32),
        cameras,
        torch.tensor(INTRINSICS, dtype=torch.float32).expand(FRAMES, -1, -1),
        (SIZE[1], SIZE[0]),
    )
    folder = root / "P0/09_outdoor_walk/images"
    folder.mkdir()
    for k, colors in enumerate(modalities.vertex_colors):
        pixels = (colors.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:05d}.jpg", quality=98, subsampling=0)
    return list(read_emdb(root))


def samples(recordings, seed: int = 0, **changes) -> RealSamples:
    config = GeneratorConfig(people=1, frames=4, size=96, **changes)
    return RealSamples(recordings, Bodies("free"), load_drawing(), config, seed)


def test_the_displacement_leads_to_the_point_of_the_picture_that_shows_the_same_surface(
    recordings,
) -> None:
    batch = samples(recordings, severity=0.8).batch()
    assert batch.displacement.norm(dim=1)[batch.mask].mean() > 1.5
    grid = torch.stack(torch.meshgrid(torch.arange(96), torch.arange(96), indexing="xy"), -1) + 0.5
    places = (grid + batch.displacement.permute(0, 2, 3, 1)) / 48 - 1
    found = grid_sample(batch.image, places, align_corners=False)
    colors = batch.render[:, MODALITY_CHANNELS["vertex_colors"]]
    off = (found - colors).abs().amax(1)
    unmoved = (batch.image - colors).abs().amax(1)
    assert off[batch.visible].median() < 0.05
    assert off[batch.visible].mean() < 0.4 * unmoved[batch.visible].mean()
    assert batch.visible.sum() > 0.5 * batch.mask.sum()
    hidden = batch.mask & ~batch.visible
    assert hidden.any()
    assert off[hidden].mean() > 2 * off[batch.visible].mean()


def test_right_estimates_need_no_displacement(recordings) -> None:
    batch = samples(recordings, **RIGHT).batch()
    assert batch.displacement.abs().max() < 0.01
    seen = batch.visible.sum() / batch.mask.sum()
    assert seen > 0.98
    texture = batch.render[:, MODALITY_CHANNELS["texture"]]
    known = texture[:, 3] > 0
    assert (texture[:, :3] - batch.image).abs().amax(1)[known].median() < 0.1


def test_equal_seeds_make_equal_batches_and_others_others(recordings) -> None:
    one, two = (samples(recordings, seed=5).batch() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.tensors(), two.tensors(), strict=True))
    other = samples(recordings, seed=6).batch()
    assert not torch.equal(one.render, other.render)


def test_invalid_frames_and_missing_pictures_are_never_used(recordings, tmp_path, truth) -> None:
    config = GeneratorConfig(people=1, frames=FRAMES, size=64)
    with pytest.raises(DatasetError, match=f"has {FRAMES} usable frames with pictures"):
        RealSamples(recordings, Bodies("free"), load_drawing(), config, 0)
    bare = list(read_emdb(write_emdb(tmp_path, truth)))
    with pytest.raises(DatasetError, match="check where the pictures lie"):
        samples(bare)


def test_without_errors_the_estimate_is_the_truth_in_the_camera(recordings, truth, body) -> None:
    frames = list(recordings[0].samples())[:3]
    person = pose_person(frames, body, no_errors(3, "cpu"), torch.zeros(3, 10))
    chosen = [sample.frame for sample in frames]
    cameras, vertices = truth.cameras[chosen], truth.vertices[chosen]
    expected = vertices @ np.swapaxes(cameras[:, :3, :3], 1, 2) + cameras[:, None, :3, 3]
    assert np.allclose(person.true_vertices, expected, atol=1e-4)
    assert torch.allclose(person.estimated_vertices, person.true_vertices, atol=1e-5)


def test_a_sideways_picture_is_turned_to_fit_its_camera(tmp_path, truth) -> None:
    scene = "20221011_1_250_batch01hand_closeup_suburb_a_6fps"
    write_bedlam(tmp_path, truth, scene)
    recording = next(read_bedlam(tmp_path, "training"))
    sample = recording.sample(0)
    with pytest.raises(DatasetError, match="cannot be read as a picture"):
        read_picture(sample)
    write_image(sample.picture, size=(720, 1280))
    upright = np.asarray(Image.open(sample.picture))
    turned = read_picture(sample)
    assert turned.shape == (720, 1280, 3)
    # What was in the first column from the bottom up is the first row after a clockwise turn.
    assert np.array_equal(turned[0], upright[::-1, 0])
    write_image(sample.picture, size=(100, 50))
    with pytest.raises(DatasetError, match="its camera is for 1280×720"):
        read_picture(sample)


def test_errors_of_smplx_estimates_are_those_of_its_body_joints(tmp_path, truth, body) -> None:
    frames = list(next(read_bedlam(write_bedlam(tmp_path, truth), "training")).samples())[:2]
    model = smplx_like()
    errors = no_errors(2, "cpu")
    person = pose_person(frames, model, errors, torch.zeros(2, 10))
    assert torch.allclose(person.estimated_vertices, person.true_vertices, atol=1e-5)
    quarter = axis_angle_to_matrix(torch.tensor([[0.0, 0.0, 1.0]]))
    for joint, moves in ((22, False), (18, True)):
        rotations = errors.rotations.clone()
        rotations[:, joint] = quarter
        wrong = dataclasses.replace(errors, rotations=rotations)
        posed = pose_person(frames, model, wrong, torch.zeros(2, 10))
        moved = (posed.estimated_vertices - posed.true_vertices).norm(dim=-1).max()
        assert bool(moved > 0.1) == moves


def test_global_random_state_does_not_matter(recordings) -> None:
    torch.manual_seed(1)
    one = samples(recordings, seed=3).batch()
    torch.manual_seed(2)
    assert torch.equal(one.render, samples(recordings, seed=3).batch().render)
