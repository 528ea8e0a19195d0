# SPDX-License-Identifier: Apache-2.0
"""The rendered validation set: read as written, refused in words, and true displacement."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from posefit.body import BodyModel, PoseParameters, pose_body
from posefit.errors import PosefitError
from posefit.footage import open_footage
from posefit.parameters import parameters_of_sequence
from posefit.rasterizer import Fragments, rasterize
from posefit.training.poses import is_validation
from posefit.validation_set import (
    PERSON,
    ValidationSet,
    ValidationSetError,
    points_visible,
    read_validation_set,
    true_displacement,
    write_validation_set,
)
from posefit.views import view_of_sequence
from posefit_shared.sequence import Sequence

SIDE = 96
BUNDLED = Path(__file__).parents[2] / "benchmarks/data/validation"


def make_set(folder: Path, body_hash: str, seed: int = 3) -> ValidationSet:
    """Two people of three frames with random numbers and grey pictures."""
    random = np.random.default_rng(seed)
    files = tuple(f"p{p:02d}/f{f:02d}" for p in range(2) for f in range(3))
    intrinsics = np.array([[300.0, 0, SIDE / 2], [0, 300.0, SIDE / 2], [0, 0, 1]])
    view = np.eye(4)
    view[:3, :3], view[2, 3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]], 5.0
    dataset = ValidationSet(
        folder=folder,
        body=body_hash,
        people=("one", "two"),
        clips=("a/b", "c/d"),
        frame_rates=np.array([3.0, 5.0]),
        levels=("good", "bad"),
        image_size=(SIDE, SIDE),
        person=np.repeat([0, 1], 3),
        files=files,
        intrinsics=np.tile(intrinsics, (6, 1, 1)),
        world_to_camera=np.tile(view, (6, 1, 1)),
        betas=random.normal(size=(2, 10)).astype(np.float32),
        poses=random.normal(0, 0.1, (6, 24, 3)).astype(np.float32),
        trans=random.normal(0, 0.1, (6, 3)).astype(np.float32),
        start_betas=random.normal(size=(2, 2, 10)).astype(np.float32),
        start_poses=random.normal(0, 0.1, (2, 6, 24, 3)).astype(np.float32),
        start_trans=random.normal(0, 0.1, (2, 6, 3)).astype(np.float32),
        **{
            name: random.random(6) < 0.5
            for name in ("blurred", "shallow", "crowded", "occluded", "truncated")
        },
    )
    for number, file in enumerate(files):
        for kind, suffix, mode in (("images", "jpg", "RGB"), ("masks", "png", "P")):
            path = folder / kind / f"{file}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((SIDE, SIDE, 3), 40 * number) if mode == "RGB" else np.eye(SIDE)
            Image.fromarray(pixels.astype(np.uint8), mode=mode).save(path)
    return dataset


@pytest.fixture
def written(tmp_path: Path) -> ValidationSet:
    dataset = make_set(tmp_path / "set", "a body's hash")
    write_validation_set(dataset)
    return dataset


def test_a_set_reads_as_it_was_written(written: ValidationSet) -> None:
    found = read_validation_set(written.folder)
    for field in dataclasses.fields(ValidationSet):
        expected, value = getattr(written, field.name), getattr(found, field.name)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(value, expected)
            assert value.dtype == expected.dtype
        else:
            assert value == expected


def test_a_persons_sequences_open_with_that_persons_pictures(written: ValidationSet) -> None:
    found = read_validation_set(written.folder)
    truth, start = found.truth(1), found.start("bad", 1)
    np.testing.assert_array_equal(truth.poses, written.poses[3:])
    np.testing.assert_array_equal(start.poses, written.start_poses[1, 3:])
    np.testing.assert_array_equal(start.betas, written.start_betas[1, 1])
    view = view_of_sequence(start, open_footage(found.footage_folder(1), fps=5.0))
    assert len(view.footage) == 3
    assert abs(int(view.footage.read(0)[0, 0, 0]) - 120) <= 2, "frames of another person"
    np.testing.assert_array_equal(view.footage.read(1), found.image(4))


def test_masks_keep_their_numbers(written: ValidationSet) -> None:
    np.testing.assert_array_equal(written.mask(2), np.eye(SIDE, dtype=np.uint8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": np.array(99)}, "schema 99"),
        ({"poses": None}, "lacks poses"),
        ({"trans": np.zeros((5, 3), np.float32)}, "trans of the validation set"),
    ],
)
def test_a_set_that_cannot_be_used_is_refused_in_words(
    written: ValidationSet, change: dict, words: str
) -> None:
    path = written.folder / "set.npz"
    with np.load(path) as data:
        arrays = dict(data) | change
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ValidationSetError, match=words):
        read_validation_set(written.folder)


def test_what_is_no_set_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(b"no zip at all")
    with pytest.raises(PosefitError, match="is no validation set"):
        read_validation_set(tmp_path)
    with pytest.raises(PosefitError, match=r"render_validation\.py"):
        read_validation_set(tmp_path / "nowhere")


def test_another_body_an_unknown_start_and_a_lost_picture_are_said(written: ValidationSet) -> None:
    with pytest.raises(ValidationSetError, match="render it again"):
        written.check_body("another hash")
    with pytest.raises(ValidationSetError, match="good, bad"):
        written.start("terrible", 0)
    (written.folder / "images/p00/f00.jpg").unlink()
    with pytest.raises(ValidationSetError, match=r"f00\.jpg cannot be read"):
        written.image(0)


def stand(body: BodyModel, shift: tuple[float, float, float]) -> torch.Tensor:
    """A body that stands upside up, 3 m before a camera at the origin, moved."""
    rest = PoseParameters.rest(body)
    upside = torch.tensor([[torch.pi, 0.0, 0.0]])
    moved = torch.tensor([shift]) + torch.tensor([[0.0, -0.2, 3.0]])
    return pose_body(body, dataclasses.replace(rest, global_orient=upside, transl=moved)).vertices


INTRINSICS = torch.tensor([[[120.0, 0, 64], [0, 120.0, 64], [0, 0, 1]]])


def draw(body: BodyModel, vertices: torch.Tensor) -> Fragments:
    return rasterize(vertices, body.faces, INTRINSICS, (128, 128))


def test_the_truth_has_no_displacement(free_body: BodyModel) -> None:
    vertices = stand(free_body, (0.0, 0.0, 0.0))
    fragments = draw(free_body, vertices)
    found = true_displacement(fragments, free_body.faces, vertices, torch.eye(4)[None], INTRINSICS)
    assert (fragments.pix_to_face >= 0).sum() > 500
    assert found.abs().max() < 2e-3


def test_a_body_moved_aside_is_displaced_by_focal_length_over_depth(free_body: BodyModel) -> None:
    start, truth = stand(free_body, (0.0, 0.0, 0.0)), stand(free_body, (0.1, -0.05, 0.0))
    fragments = draw(free_body, start)
    found = true_displacement(fragments, free_body.faces, truth, torch.eye(4)[None], INTRINSICS)
    seen = fragments.pix_to_face >= 0
    expected = 120 * torch.tensor([0.1, -0.05]) / fragments.zbuf[seen][:, None]
    torch.testing.assert_close(found[seen], expected, atol=5e-3, rtol=0)
    assert (found[~seen] == 0).all()


def test_points_are_unseen_behind_things_outside_and_behind_the_body(free_body: BodyModel) -> None:
    truth = stand(free_body, (0.0, 0.0, 0.0))
    fragments = draw(free_body, truth)
    seen = fragments.pix_to_face >= 0
    still = torch.zeros(1, 128, 128, 2)
    masks = torch.full((1, 128, 128), PERSON, dtype=torch.uint8)
    masks[:, :64] = 3
    depths = truth[..., 2:]

    def visible(displacement: torch.Tensor, depths: torch.Tensor) -> torch.Tensor:
        return points_visible(fragments, fragments, free_body.faces, depths, displacement, masks)

    found = visible(still, depths)
    assert not found[:, :64].any(), "behind a thing"
    assert (found[:, 64:] == seen[:, 64:]).all()
    assert not visible(still + 500.0, depths).any(), "outside of the picture"
    assert not visible(still, depths + 0.2).any(), "behind the body's own surface"


@pytest.fixture(scope="module")
def bundled(free_body: BodyModel) -> ValidationSet:
    """The set that lies in the repository."""
    dataset = read_validation_set(BUNDLED)
    dataset.check_body(free_body.content_hash)
    return dataset


def joints(sequence: Sequence, body: BodyModel) -> np.ndarray:
    """(T, J, 3) joints from the pelvis, metres."""
    found = pose_body(body, parameters_of_sequence(sequence, body)).joints.numpy()
    return found - found[:, :1]


@pytest.mark.skipif(not (BUNDLED / "set.npz").is_file(), reason="no bundled validation set")
class TestTheBundledSet:
    """What a set must hold to be a truth."""

    def test_the_true_body_fills_the_mask_of_one_who_wears_little(
        self, bundled: ValidationSet, free_body: BodyModel
    ) -> None:
        person = bundled.people.index("boxer")
        truth = bundled.truth(person)
        vertices = pose_body(free_body, parameters_of_sequence(truth, free_body)).vertices
        views = torch.tensor(bundled.world_to_camera[bundled.person == person]).float()
        in_camera = vertices @ views[:, :3, :3].mT + views[:, None, :3, 3]
        intrinsics = torch.tensor(bundled.intrinsics[bundled.person == person]).float()
        size = bundled.image_size[::-1]
        drawn = rasterize(in_camera, free_body.faces, intrinsics, size).pix_to_face.numpy() >= 0
        masks = np.stack([bundled.mask(int(f)) for f in bundled.frames_of(person)]) == PERSON
        overlap = (drawn & masks).sum((1, 2)) / (drawn | masks).sum((1, 2))
        assert overlap.min() > 0.9
        outside = (drawn & ~masks).sum((1, 2)) / drawn.sum((1, 2))
        assert outside.max() < 0.02, "half a pixel of shift would be more"

    def test_starts_get_worse_level_by_level_and_the_first_is_good(
        self, bundled: ValidationSet, free_body: BodyModel
    ) -> None:
        true = joints(bundled.truth(0), free_body)
        means = [
            np.linalg.norm(joints(bundled.start(level, 0), free_body) - true, axis=-1).mean()
            for level in bundled.levels
        ]
        assert means == sorted(means)
        assert means[0] < 0.03

    def test_every_persons_frames_are_ten_and_of_held_out_motion(
        self, bundled: ValidationSet
    ) -> None:
        assert len(bundled.people) >= 8
        assert min(np.bincount(bundled.person)) >= 10
        assert all(is_validation(clip) for clip in bundled.clips)
