# SPDX-License-Identifier: Apache-2.0
"""Single sequences of 3DPW, EMDB and RICH, through the readers of `posefit.datasets`.

3DPW: `sequenceFiles/SPLIT/NAME.pkl`, a person an actor; up is not documented. EMDB:
`P0/NAME/P0_NAME_data.pkl`, turned so that z is up. RICH: the folder `bodies/SPLIT/NAME`, with
`scan_calibration` and `resource` where the data set has them, a person a subject and camera.
Frames that the data sets declare unusable become gaps.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from posefit_shared.sequence import Sequence

from ..body import load_body
from ..datasets import Recording, upright
from ..datasets.emdb import read_emdb_file
from ..datasets.rich import read_rich_sequence
from ..datasets.threedpw import read_3dpw_file
from .content import Content
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = [
    "read_emdb", "read_rich", "read_threedpw", "recognises_emdb", "recognises_rich",
    "recognises_threedpw",
]  # fmt: skip


_RANKS = {
    "poses": 3, "trans": 2, "betas": 2, "frame_indices": 1, "intrinsics": 3, "world_to_camera": 3,
}  # fmt: skip
"""Axes of what has a row a frame."""


def recognises_threedpw(content: Content) -> bool:
    """Whether a file is one of 3DPW's sequences."""
    return content.has("cam_poses", "cam_intrinsics", "jointPositions", "poses", "genders")


def read_threedpw(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The actors of a file.

    Raises:
        DatasetError: the file is not as published.
        ImporterError: every frame is unusable.
    """
    recordings = list(read_3dpw_file(content.path))
    notes: tuple[str, ...] = ("where up is, 3DPW does not document",)
    if options.image_size is None and recordings[0].sequence.image_size is None:
        notes += ("imageFiles is not beside sequenceFiles: the camera's picture size is unknown",)
    return _people(recordings, options, notes)


def recognises_emdb(content: Content) -> bool:
    """Whether a file is one of EMDB's sequences."""
    return content.has("emdb1", "emdb2", "camera", "smpl")


def read_emdb(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The person of a file, in a world with z up.

    Raises:
        DatasetError: the file is not as published.
        ImporterError: every frame is unusable.
    """
    body = load_body(options.body, dtype=torch.float64)
    recording = upright(read_emdb_file(content.path), body)
    return _people([recording], options, ("y up became z up",))


def recognises_rich(content: Content) -> bool:
    """Whether a folder is one of RICH's sequences: frames with a pickle a subject."""
    if content.kind != "folder":
        return False
    return any(
        child.name.isdigit() and any(child.glob("*.pkl")) for child in content.path.iterdir()
    )


def read_rich(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The subjects of a sequence in each camera.

    Raises:
        DatasetError: the folder is not as published.
    """
    recordings = list(read_rich_sequence(content.path.resolve()))
    return _people(recordings, options, ("fingers are at rest, where up is RICH does not say",))


def _people(
    recordings: Iterable[Recording], options: ImportOptions, notes: tuple[str, ...]
) -> list[ImportedPerson]:
    return [
        ImportedPerson(_usable(one, options), one.name, (*notes, *_left_out(one)))
        for one in recordings
    ]


def _left_out(recording: Recording) -> tuple[str, ...]:
    count = int((~recording.valid).sum())
    return (f"{count} frames that the data set declares unusable are gaps",) if count else ()


def _usable(recording: Recording, options: ImportOptions) -> Sequence:
    """The sequence without its unusable frames."""
    sequence, valid = recording.sequence, recording.valid
    if not valid.any():
        raise ImporterError(f"{recording.name} has no usable frame: take another sequence")
    if options.image_size is not None:
        sequence = sequence.replace(image_size=options.image_size)
    if options.frame_rate:
        sequence = sequence.replace(mocap_framerate=options.frame_rate)
    if valid.all():
        return sequence
    chosen = {
        name: value[valid]
        for name, rank in _RANKS.items()
        if (value := getattr(sequence, name)) is not None and value.ndim == rank
    }
    return sequence.replace(**chosen)
