# SPDX-License-Identifier: Apache-2.0
"""What every data set's reader gives: one person seen by one camera, with reference and footage.

A recording keeps the data set's own world axes: unless z is up in them, its sequence says
`world="camera"` (up unknown to whoever reads only that), and `up` names the direction that the
data set documents, if any. `gravity.upright` turns such a recording so that z is up; it needs the
body, because SMPL turns about the pelvis, which is not the model's origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence
from posefit_shared.skeleton import SmplParameters

from ..errors import PosefitError

__all__ = ["DatasetError", "FrameSample", "Pictures", "Recording"]

Array = npt.NDArray[np.float64]


class DatasetError(PosefitError, ValueError):
    """A data set that does not lie as published, or cannot be used as asked; says what to do."""


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of a recording are: one file a frame, or a video."""

    files: tuple[Path, ...] = ()
    """(T,) picture of each frame of the sequence; they need not exist."""
    video: Path | None = None
    """The video in which a sequence's `frame_indices` count, instead of files."""
    quarter_turns: int = 0
    """Clockwise quarter turns after which a stored picture fits its camera."""


@dataclass(frozen=True)
class FrameSample:
    """One frame with its truth: what training consumes."""

    recording: str
    """Name of the recording."""
    frame: int
    """Place in the recording's sequence."""
    picture: Path | None
    """Image file or video; None where the data set's pictures are not there."""
    picture_frame: int | None
    """Frame of the video; None for an image file."""
    quarter_turns: int
    """Clockwise quarter turns after which the picture fits its camera."""
    camera: Camera
    """OpenCV camera of the frame."""
    parameters: SmplParameters
    """Pose, shape and place in the recording's world."""
    gender: str
    """Whose model the shape belongs to."""


@dataclass(frozen=True)
class Recording:
    """One person of a data set in one camera, from first to last frame."""

    name: str
    """Unique in its data set, usable as a file name: predictions are called `NAME.npz`."""
    dataset: str
    """Which data set."""
    split: str
    """Part of the data set, in its own words."""
    sequence: Sequence
    """Poses and cameras in the data set's world axes. A recording without body parameters has
    zeros for them (`has_body` is false)."""
    valid: npt.NDArray[np.bool_]
    """(T,) frames that the data set declares usable."""
    pictures: Pictures = Pictures()
    """Where its pictures are."""
    has_body: bool = True
    """Whether the sequence's poses are the data set's, not zeros."""
    joints: Array | None = None
    """(T, N, 3) joints as the data set states them, in the sequence's world, metres."""
    joint_set: str = ""
    """What `joints` are: `smpl24` or `h36m17`."""
    has_keypoints: npt.NDArray[np.bool_] | None = None
    """(T,) frames with annotated 2D joints, where a protocol asks for them."""
    up: tuple[float, float, float] | None = None
    """Direction against gravity in the world; None where the data set does not say."""
    posed_joints: tuple[str, ...] | None = None
    """Joints whose rotations are known; None means all of the model's."""
    tags: frozenset[str] = frozenset()
    """Subsets that the recording belongs to (`emdb1`, `emdb2`, an action, a camera, …)."""

    def __post_init__(self) -> None:
        frames = len(self.sequence)
        if self.valid.shape != (frames,):
            raise DatasetError(f"{self.name}: {self.valid.shape} validity flags, {frames} frames")
        if self.joints is not None and len(self.joints) != frames:
            raise DatasetError(f"{self.name}: joints of {len(self.joints)} frames, not {frames}")
        if self.pictures.files and len(self.pictures.files) != frames:
            raise DatasetError(f"{self.name}: {len(self.pictures.files)} pictures, {frames} frames")

    def __len__(self) -> int:
        return len(self.sequence)

    def samples(self, stride: int = 1) -> Iterator[FrameSample]:
        """Usable frames with their truth.

        Args:
            stride: every so many-th frame of the recording.

        Raises:
            DatasetError: the recording has no body parameters, or its picture size is unknown.
        """
        if not self.has_body:
            raise DatasetError(
                f"{self.name} has measured joints but no SMPL parameters: put the SMPL fits "
                "beside it (docs/datasets.md)"
            )
        if not self.sequence.has_camera:
            raise DatasetError(
                f"the size of the pictures of {self.name} is unknown: put its pictures where "
                "docs/datasets.md says"
            )
        for frame in range(0, len(self), stride):
            if self.valid[frame]:
                yield self.sample(frame)

    def sample(self, frame: int) -> FrameSample:
        """One frame with its truth.

        Args:
            frame: place in the sequence.
        """
        video, files = self.pictures.video, self.pictures.files
        indices = np.asarray(self.sequence.frame_indices)
        return FrameSample(
            recording=self.name,
            frame=frame,
            picture=files[frame] if files else video,
            picture_frame=None if files or video is None else int(indices[frame]),
            quarter_turns=self.pictures.quarter_turns,
            camera=self.sequence.camera(frame),
            parameters=self.sequence.parameters(frame),
            gender=self.sequence.gender,
        )
