# SPDX-License-Identifier: Apache-2.0
"""Predictions of NLF: the dictionary that `detect_smpl_batched` gives, saved with torch or pickled.

A list with an entry a picture under each name: `pose` (people, 72, or 165 for SMPL-X), `betas`,
`trans` (metres, before the camera), and the fitted body's `joints3d` (millimetres) and `joints2d`
(pixels), whose relation is the camera: NLF's file has none. There are no person ids.
`fit_sequence.py` writes one person's `pose`, `betas`, `trans` and `joints` as `.npz`.

Source: demo.ipynb of github.com/isarandi/nlf; nlf/pt/multiperson/multiperson_model.py and
    nlf/tf/inference_scripts/fit_sequence.py of the same code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .building import Motion
from .cameras import IN_CAMERA, fitted_pinhole
from .content import Content
from .fields import Array, numbers, rotation_vectors
from .linking import link_places
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = ["read_nlf", "recognises_nlf"]

_LISTS = ("pose", "betas", "trans", "joints3d", "joints2d")
_MODELS = {24: "smpl", 55: "smplx"}


def recognises_nlf(content: Content) -> bool:
    """Whether a file is NLF's prediction of pictures, or its fit of a sequence."""
    return content.has(*_LISTS) or content.has("pose", "betas", "trans", "joints")


def read_nlf(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a file.

    Raises:
        ImporterError: an entry is not as NLF gives it, or nobody was seen.
    """
    data = content.data
    if not content.has(*_LISTS):
        motion = _motion(data["pose"], data["betas"], data["trans"], "person")
        return [motion.person(0, options)]
    pictures = {name: _pictures(data[name], name) for name in _LISTS}
    counts = [len(one) for one in pictures["pose"]]
    if any([len(one) for one in pictures[name]] != counts for name in _LISTS):
        raise ImporterError("the lists of the file do not agree on the people of each picture")
    if not sum(counts):
        raise ImporterError(f"{content.path.name} has no people: NLF saw nobody")
    rows = {
        name: np.concatenate([one.reshape(len(one), -1) for one in values if len(one)])
        for name, values in pictures.items()
    }
    frames = np.repeat(np.arange(len(counts)), counts)
    motion = _motion(rows["pose"], rows["betas"], rows["trans"], "")
    joints = motion.poses.shape[1]
    points = numbers(rows["joints3d"].reshape(len(frames), -1, 3), (-1, joints, 3), "joints3d")
    pixels = numbers(rows["joints2d"].reshape(len(frames), -1, 2), (-1, joints, 2), "joints2d")
    intrinsics, size = fitted_pinhole(points, pixels, options.image_size)
    people = np.array(link_places(frames.tolist(), _places(pixels)))
    note = "NLF has no person ids: people were linked from frame to frame by place"
    return [
        _some(motion, people == one).person(
            int(one), options, frames=frames[people == one], label=f"person {one}",
            intrinsics=intrinsics, world_to_camera=IN_CAMERA, image_size=size,
            notes=(note, *motion.notes),
        )
        for one in np.unique(people)
    ]  # fmt: skip


def _motion(pose: Any, betas: Any, trans: Any, label: str) -> Motion:
    poses = rotation_vectors(pose, -1, "pose")
    count = len(poses)
    if poses.shape[1] not in _MODELS:
        raise ImporterError(f"pose has {poses.shape[1]} joints, expected SMPL's 24 or SMPL-X's 55")
    shape = numbers(betas, (count, -1), "betas")
    notes = () if shape.shape[1] <= 10 else (f"10 of {shape.shape[1]} shape numbers are kept",)
    return Motion(
        poses=poses, trans=numbers(trans, (count, 3), "trans"), betas=shape[:, :10], label=label,
        model_type=_MODELS[poses.shape[1]], notes=notes,
    )  # fmt: skip


def _some(motion: Motion, rows: np.ndarray) -> Motion:
    return Motion(
        poses=motion.poses[rows], trans=motion.trans[rows], betas=motion.betas[rows], label="",
        model_type=motion.model_type,
    )  # fmt: skip


def _pictures(value: Any, name: str) -> list[Array]:
    """An array a picture, with a row a person."""
    if not isinstance(value, list | tuple | np.ndarray):
        raise ImporterError(f"{name} is a {type(value).__name__}, expected an entry a picture")
    arrays = [np.asarray(one, np.float64) for one in value]
    if any(one.ndim < 2 and one.size for one in arrays):
        raise ImporterError(f"{name} has no row a person in each picture: save it as NLF gives it")
    return arrays


def _places(pixels: Array) -> Array:
    """(N, 2) middles of people, in people's sizes."""
    sizes = np.ptp(pixels, axis=1).max(1)
    return pixels.mean(1) / max(float(np.median(sizes)), 1.0)
