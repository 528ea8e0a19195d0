# SPDX-License-Identifier: Apache-2.0
"""A person's sequence from arrays: frames in order, gaps where the person was missed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from posefit_shared.sequence import Sequence, SequenceError

from .fields import Array, one_shape
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = ["Motion", "person_number"]


@dataclass(frozen=True)
class Motion:
    """One person's motion as a format's reader found it."""

    poses: Array
    """(T, J, 3) rotation vectors."""
    trans: Array
    """(T, 3) metres."""
    betas: Array
    """(N,) or (T, N)."""
    label: str
    """The tool's own name of the person."""
    frames: np.ndarray | None = None
    """(T,) frame numbers, in any order; 0 … T − 1 unless given."""
    intrinsics: Array | None = None
    """(3, 3) or (T, 3, 3) pixels."""
    world_to_camera: Array | None = None
    """(4, 4) or (T, 4, 4)."""
    image_size: tuple[int, int] | None = None
    """Width and height, pixels."""
    model_type: str = ""
    gender: str = "neutral"
    world: str = "camera"
    frame_rate: float = 30.0
    expression: Array | None = None
    distortion: Array | None = None
    notes: tuple[str, ...] = ()

    def person(self, number: int, options: ImportOptions, **changes: Any) -> ImportedPerson:
        """The motion as a person, frames in order and each once.

        Args:
            number: the person's number in the sequence.
            options: a frame rate given there counts.
            changes: fields to change on the way.

        Raises:
            ImporterError: the numbers make no sequence.
        """
        motion = dataclasses.replace(self, **changes) if changes else self
        count = len(motion.poses)
        frames = np.arange(count) if motion.frames is None else np.asarray(motion.frames)
        if count == 0:
            raise ImporterError(f"{motion.label or 'the person'} has no frames: check the file")
        _, order = np.unique(frames, return_index=True)
        notes = list(motion.notes)
        if len(order) < count:
            notes.append(f"{count - len(order)} frames were there twice: the first of each is kept")
        missing = int(frames[order][-1] - frames[order][0]) + 1 - len(order)
        if missing:
            notes.append(f"{missing} frames without the person are gaps in frame_indices")
        fields: dict[str, Any] = {
            name: _rows(getattr(motion, name), order, count) for name in _PER_FRAME
        }
        try:
            sequence = Sequence(
                poses=motion.poses[order].astype(np.float32),
                trans=motion.trans[order].astype(np.float32),
                betas=one_shape(np.asarray(_rows(motion.betas, order, count))).astype(np.float32),
                model_type=motion.model_type,
                gender=motion.gender if motion.gender in _GENDERS else "neutral",
                world=motion.world,
                mocap_framerate=options.frame_rate or motion.frame_rate,
                frame_indices=frames[order],
                image_size=motion.image_size,
                distortion=motion.distortion,
                person_id=number,
                **fields,
            )
        except SequenceError as error:
            raise ImporterError(f"{motion.label or 'the person'}: {error}") from error
        return ImportedPerson(sequence, motion.label, tuple(notes))


def person_number(label: Any, position: int) -> int:
    """The tool's own number of a person, or its position where it has none."""
    try:
        number = int(label)
    except (TypeError, ValueError):
        return position
    return number if 0 <= number < 1 << 31 else position


_PER_FRAME = ("intrinsics", "world_to_camera", "expression")
_GENDERS = ("neutral", "male", "female")


def _rows(value: Array | None, order: np.ndarray, count: int) -> Array | None:
    """The chosen frames of what has a row a frame; cameras and shapes of the whole clip as is."""
    if value is None or (value.ndim == 2 and value.shape in ((3, 3), (4, 4))) or value.ndim == 1:
        return value
    return value[order] if len(value) == count else value
