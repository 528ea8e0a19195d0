# SPDX-License-Identifier: Apache-2.0
"""What a report is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared.sequence import Sequence

from ..body import BodyModel, pose_body
from ..parameters import parameters_of_sequence
from ..views import View

__all__ = ["PosedFrames", "ReportData", "pose_frames"]

Progress = Callable[[float], None]


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows; what is not there is left out of it."""

    before: Sequence
    """The motion that came in."""
    after: Sequence
    """The motion that came out, frame for frame."""
    view: View
    """The pictures it was refined with."""
    body: BodyModel
    """The body of both."""
    title: str = "Refinement"
    """Heading of the page."""
    scores: Mapping[str, Any] | None = None
    """`held_out` names, and for `initial` and `refined` what `evaluate.score_views` gave."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time of each step."""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """Time of each part of the refinement."""
    misfit: npt.NDArray[np.float64] | None = None
    """(T,) misfit after by misfit before, below 1 is better; NaN where nothing was seen."""
    shown_frames: int = 6
    """Frames of which pictures are shown."""
    measured_frames: int = 32
    """Frames in which the page's own look for landmarks is made."""


@dataclass(frozen=True)
class PosedFrames:
    """A motion's body in some frames, world, metres."""

    vertices: npt.NDArray[np.float32]
    """(N, V, 3)"""
    joints: npt.NDArray[np.float32]
    """(N, J, 3)"""


def pose_frames(
    sequence: Sequence, body: BodyModel, frames: npt.NDArray[np.int64], chunk: int = 32
) -> PosedFrames:
    """The body in chosen frames of a sequence.

    Args:
        sequence: the motion.
        body: its body.
        frames: (N,) indices into the sequence.
        chunk: frames posed at once.
    """
    parameters = parameters_of_sequence(sequence, body)
    vertices, joints = [], []
    with torch.no_grad():
        for start in range(0, len(frames), chunk):
            index = torch.as_tensor(frames[start : start + chunk], device=body.device)
            posed = pose_body(body, parameters[index])
            vertices.append(posed.vertices.cpu().numpy())
            joints.append(posed.joints.cpu().numpy())
    return PosedFrames(np.concatenate(vertices), np.concatenate(joints))
