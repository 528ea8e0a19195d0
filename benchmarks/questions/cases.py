# SPDX-License-Identifier: Apache-2.0
"""Cases: one person's chosen frames with truth, a start, pictures, masks and painted textures.

A question changes one thing of a case (`dataclasses.replace`) and leaves the rest as it is.
Textures are painted by posefit from all of the person's frames, under the start or whatever
sequence is asked for, and kept on disk: they do not depend on the network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from posefit.body import BodyModel, pose_body
from posefit.footage import open_footage
from posefit.parameters import parameters_of_sequence
from posefit.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posefit.texture_clip import paint_from_views
from posefit.validation_set import PERSON, ValidationSet
from posefit.views import view_of_sequence
from posefit_shared.sequence import Sequence as PoseSequence

__all__ = [
    "OTHER_THING",
    "TARGETS",
    "Case",
    "Painter",
    "at_error",
    "covered",
    "joint_errors_mm",
    "load_case",
    "take_frames",
    "with_focal_length",
]

TARGETS = (1, 4)
"""Frames of each person of the texture set that were also drawn in other light and clothes."""
OTHER_THING = 3
"""Value of a mask where a thing is in front of the person (`posefit.validation_set`)."""
BIG_ERROR_MM = 1e-3


@dataclass(frozen=True)
class Case:
    """One person's frames on their way through the network and the solver."""

    person: int
    """Place in the set."""
    truth: PoseSequence
    """The chosen frames as they are, with the true camera."""
    start: PoseSequence
    """The estimate of the same frames, with the camera that it assumes."""
    pictures: tuple[npt.NDArray[np.uint8], ...]
    """(H, W, 3) RGB of each frame."""
    masks: tuple[npt.NDArray[np.uint8], ...]
    """(H, W) what is seen at each pixel (`posefit.validation_set`)."""
    textures: Float[Tensor, "frame 4 height width"] | None
    """RGB and coverage that each frame is compared with; None: there is none."""


def take_frames(sequence: PoseSequence, frames: Sequence[int]) -> PoseSequence:
    """Chosen frames of a sequence whose cameras are one a frame; the shape is the person's."""
    index = np.asarray(frames)
    assert sequence.intrinsics is not None, "sequences of rendered sets have cameras"
    assert sequence.world_to_camera is not None, "sequences of rendered sets have cameras"
    assert sequence.frame_indices is not None, "a Sequence always has frame_indices"
    return sequence.replace(
        poses=sequence.poses[index],
        trans=sequence.trans[index],
        intrinsics=sequence.intrinsics[index],
        world_to_camera=sequence.world_to_camera[index],
        frame_indices=sequence.frame_indices[index],
    )


def load_case(
    dataset: ValidationSet,
    person: int,
    level: str,
    frames: Sequence[int],
    painter: Painter | None,
    *,
    folder: str = "images",
) -> Case:
    """One person's case.

    Args:
        dataset: where from.
        person: place in the set.
        level: which of the set's simulated starts.
        frames: of that person's own frames.
        painter: paints the textures, under the start of all of the person's frames; None: none.
        folder: which pictures the chosen frames are (`light`, `clothes` in the texture set).
    """
    start, rows = dataset.start(level, person), dataset.frames_of(person)
    textures = painter.maps(dataset, person, start, frames) if painter else None
    return Case(
        person=person,
        truth=take_frames(dataset.truth(person), frames),
        start=take_frames(start, frames),
        pictures=tuple(_picture(dataset, int(rows[t]), folder) for t in frames),
        masks=tuple(dataset.mask(int(rows[t])) for t in frames),
        textures=textures,
    )


def _picture(dataset: ValidationSet, frame: int, folder: str) -> npt.NDArray[np.uint8]:
    if folder == "images":
        return dataset.image(frame)
    with Image.open(dataset.folder / folder / f"{dataset.files[frame]}.jpg") as picture:
        return np.asarray(picture.convert("RGB"))


# Textures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Painter:
    """Paints textures as posefit does, once for each sequence."""

    body: BodyModel
    cache: Path
    """Folder for painted maps."""

    def maps(
        self, dataset: ValidationSet, person: int, sequence: PoseSequence, frames: Sequence[int]
    ) -> Float[Tensor, "frame 4 height width"] | None:
        """What each frame is compared with: painted by the person's other frames.

        Args:
            dataset: whose pictures paint.
            person: place in the set.
            sequence: all frames of the person, under which the pictures are looked at.
            frames: whose maps are wanted.
        """
        path = self.cache / f"{_fingerprint(dataset, person, sequence)}.npz"
        if path.is_file():
            with np.load(path) as data:
                stored = data["maps"]
        else:
            stored = self._paint(dataset, person, sequence)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}.part.npz")
            np.savez_compressed(unfinished, maps=stored)
            unfinished.replace(path)
        if not len(stored):
            return None
        return torch.from_numpy(stored[np.asarray(frames)].astype(np.float32) / 255.0)

    def _paint(
        self, dataset: ValidationSet, person: int, sequence: PoseSequence
    ) -> npt.NDArray[np.uint8]:
        footage = open_footage(dataset.footage_folder(person), fps=sequence.mocap_framerate)
        view = view_of_sequence(sequence, footage)
        maps = paint_from_views(sequence, [view], self.body)(range(len(sequence)))
        if maps is None:
            return np.zeros((0, 4, 1, 1), np.uint8)
        return (maps * 255).round().byte().numpy()


def _fingerprint(dataset: ValidationSet, person: int, sequence: PoseSequence) -> str:
    digest = hashlib.sha256(f"{dataset.folder.resolve()} {person}".encode())
    for name in ("poses", "trans", "betas", "intrinsics", "world_to_camera"):
        digest.update(np.ascontiguousarray(getattr(sequence, name), np.float32).tobytes())
    for row in dataset.frames_of(person):
        picture = dataset.folder / "images" / f"{dataset.files[row]}.jpg"
        digest.update(str(picture.stat().st_size).encode())
    return digest.hexdigest()[:24]


# Starts ----------------------------------------------------------------------------------------


def joint_errors_mm(
    sequence: PoseSequence, truth: PoseSequence, body: BodyModel
) -> npt.NDArray[np.float64]:
    """(T,) mean distance of the joints, pelvis on pelvis, millimetres."""
    a, b = (pose_body(body, parameters_of_sequence(one, body)).joints for one in (sequence, truth))
    distance = ((a - a[:, :1]) - (b - b[:, :1])).norm(dim=-1)
    return 1e3 * distance.mean(1).double().numpy()


def at_error(
    start: PoseSequence, truth: PoseSequence, body: BodyModel, target_mm: float, *, steps: int = 4
) -> PoseSequence:
    """A start between the truth and a given one, or beyond it, with another size of error.

    Each frame's rotations and translation go the same share of the way, found by repeated
    division, so that its mean joint error is the one asked for; the shape goes the mean share.

    Args:
        start: the error's direction.
        truth: of the same frames.
        body: of both.
        target_mm: mean joint error of every frame, millimetres.
        steps: divisions.
    """
    turn = axis_angle_to_matrix(torch.from_numpy(truth.poses)).mT @ axis_angle_to_matrix(
        torch.from_numpy(start.poses)
    )
    error = matrix_to_axis_angle(turn)
    share = np.ones(len(start))
    moved = start
    for _ in range(steps if target_mm > 0 else 0):
        found = np.maximum(joint_errors_mm(moved, truth, body), BIG_ERROR_MM)
        share = np.clip(share * target_mm / found, 0.0, 2.5)
        moved = _between(truth, start, error, share)
    return _between(truth, start, error, share if target_mm > 0 else 0.0 * share)


def _between(
    truth: PoseSequence, start: PoseSequence, error: Tensor, share: npt.NDArray[np.float64]
) -> PoseSequence:
    part = torch.from_numpy(share).float()[:, None, None]
    rotations = axis_angle_to_matrix(torch.from_numpy(truth.poses)) @ axis_angle_to_matrix(
        part * error
    )
    weight = share[:, None].astype(np.float32)
    betas = truth.betas + np.float32(share.mean()) * (start.betas - truth.betas)
    return start.replace(
        poses=matrix_to_axis_angle(rotations).numpy(),
        trans=truth.trans + weight * (start.trans - truth.trans),
        betas=betas,
    )


def with_focal_length(sequence: PoseSequence, factor: float, body: BodyModel) -> PoseSequence:
    """The estimate that one would make with another focal length: as large in the picture.

    Args:
        sequence: an estimate.
        factor: assumed focal length by the true one; the pelvis goes as much further away.
        body: of the estimate.
    """
    assert sequence.intrinsics is not None, "sequences of rendered sets have cameras"
    assert sequence.world_to_camera is not None, "sequences of rendered sets have cameras"
    intrinsics = sequence.intrinsics.copy()
    intrinsics[:, 0, 0] *= factor
    intrinsics[:, 1, 1] *= factor
    pelvis = pose_body(body, parameters_of_sequence(sequence, body)).joints[:, 0].double().numpy()
    rotation, shift = sequence.world_to_camera[:, :3, :3], sequence.world_to_camera[:, :3, 3]
    depth = (rotation @ pelvis[..., None])[:, 2, 0] + shift[:, 2]
    along = rotation[:, 2] * ((factor - 1.0) * depth)[:, None]
    return sequence.replace(
        intrinsics=intrinsics, trans=(sequence.trans + along).astype(np.float32)
    )


# Pictures --------------------------------------------------------------------------------------


def covered(case: Case, share: float, others: Case, seed: int) -> Case:
    """The case with a rectangle of another person's picture over part of the person.

    Args:
        case: what to cover; its textures stay, so that only the view of the frame changes.
        share: of the person's pixels that are seen, 0 to 1.
        others: whose pictures the rectangles are cut from.
        seed: where they lie.
    """
    if share <= 0:
        return case
    random = np.random.default_rng([seed, case.person])
    pictures, masks = [], []
    for k, (picture, mask) in enumerate(zip(case.pictures, case.masks, strict=True)):
        box = _rectangle(mask == PERSON, share, random)
        cover = others.pictures[k % len(others.pictures)]
        changed, hidden = picture.copy(), mask.copy()
        changed[box] = cover[::-1][box]
        hidden[box] = OTHER_THING
        pictures.append(changed)
        masks.append(hidden)
    return dataclasses.replace(case, pictures=tuple(pictures), masks=tuple(masks))


def _rectangle(
    seen: npt.NDArray[np.bool_], share: float, random: np.random.Generator
) -> tuple[slice, slice]:
    """A rectangle about a seen pixel that covers the share of all that are seen, or just more."""
    rows, columns = np.nonzero(seen)
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    pick = random.integers(len(rows))
    aspect = np.exp(random.uniform(-0.4, 0.4))
    for half in range(2, max(seen.shape)):
        high, wide = int(half * aspect) + 1, int(half / aspect) + 1
        box = (
            slice(max(rows[pick] - high, 0), rows[pick] + high),
            slice(max(columns[pick] - wide, 0), columns[pick] + wide),
        )
        if seen[box].sum() >= share * len(rows):
            return box
    return slice(None), slice(None)
