# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that posefit writes → motions with names: a sequence, or a shot of several people.

Numpy only; other tools' files are the backend's to read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posefit_shared.sequence import Sequence, SequenceError, read_sequence
from posefit_shared.shot import ShotCamera, read_shot


@dataclass(frozen=True)
class NamedMotion:
    """One person's motion."""

    name: str
    """What the body is to be called: the file's name, the same at every import."""
    motion: Sequence
    footage: Path | None = None
    """The footage that the file names, where it is there."""


def read_file(path: Path) -> list[NamedMotion]:
    """The people of a sequence file (`.npz`) or a shot file (`.json`).

    Raises:
        SequenceError: it is neither, or cannot be read.
    """
    if path.suffix.lower() == ".json":
        return _people_of_shot(path)
    if path.suffix.lower() != ".npz":
        raise SequenceError(f"{path.name} is no sequence of posefit's (.npz) and no shot (.json)")
    return [NamedMotion(path.stem, read_sequence(path))]


def have_one_camera(first: Sequence, other: Sequence) -> bool:
    """Whether two motions were seen by one camera, as far as their common frames tell."""
    if not (first.has_camera and other.has_camera) or first.image_size != other.image_size:
        return False
    assert first.frame_indices is not None
    assert other.frame_indices is not None
    common, here, there = np.intersect1d(
        first.frame_indices, other.frame_indices, return_indices=True
    )
    if not len(common):  # two still cameras may be one
        here = there = np.zeros(1, int)
    return all(
        np.allclose(first.camera(h).intrinsics, other.camera(t).intrinsics, rtol=1e-4)
        and np.allclose(first.camera(h).world_to_camera, other.camera(t).world_to_camera, atol=1e-4)
        for h, t in ((here[0], there[0]), (here[-1], there[-1]))
    )


def _people_of_shot(path: Path) -> list[NamedMotion]:
    """All people of a shot as its first camera sees them, under its first camera's frames."""
    shot = read_shot(path)
    if not shot.people:
        raise SequenceError(f"{path.name} names no people, only cameras: estimate them first")
    camera = shot.cameras[0]
    footage = camera.footage if camera.footage.exists() else None
    stems = Counter(person.stem for person in shot.people)
    found = []
    for number, person in enumerate(shot.people):
        motion = read_sequence(person)
        is_alone = stems[person.stem] == 1
        name = person.stem if is_alone else f"{person.stem}.person{number + 1}"
        found.append(NamedMotion(name, _seen_by(camera, motion), footage))
    return found


def _seen_by(camera: ShotCamera, motion: Sequence) -> Sequence:
    """A motion with a shot's camera instead of its own, counted in that camera's frames."""
    assert motion.frame_indices is not None
    decoded = motion.frame_indices + camera.frame_offset
    shown = decoded >= 0
    if not shown.all():
        first = int(np.argmax(shown))
        if not shown.any():
            raise SequenceError(f"camera {camera.name} shows nothing of a person of this shot")
        return _seen_by(camera, motion.slice(first, len(motion)))
    placed = camera.camera.world_to_camera
    if camera.moving is not None:
        placed = camera.moving[np.clip(decoded, 0, len(camera.moving) - 1)]
    return motion.replace(
        frame_indices=decoded,
        intrinsics=camera.camera.intrinsics,
        world_to_camera=placed,
        distortion=camera.camera.distortion,
        image_size=camera.camera.image_size,
        world="gravity",
    )
