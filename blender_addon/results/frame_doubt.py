# SPDX-License-Identifier: GPL-3.0-or-later
"""Which refined frames deserve a look: one figure a frame, the worst ones, the next one (numpy).

A frame is as sure as its least sure body part, and a part as sure as its joints on average: one
wrong arm must not vanish among 20 good joints, and one vague wrist alone is no wrong arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posefit_shared.skeleton import BODY_PARTS

FloatArray = npt.NDArray[np.float32]

NOT_COMPUTED = {"no_person": "no person was found", "failed": "could not be computed"}
"""What became of frames that have no result, and how that is said."""


@dataclass(frozen=True)
class FrameDoubt:
    """How sure a frame is, and where it is least sure."""

    frame: int
    """The scene frame."""
    confidence: float
    """0 to 1, of its least sure part; 0 where it was not computed."""
    part: str
    """That part; empty where none is known."""
    why: str = ""
    """What became of the frame instead, in words."""


def part_confidence(confidence: npt.ArrayLike) -> FloatArray:
    """(T, P) of each body part from (T, J) of the joints; NaN where none of its joints is known."""
    confidence = np.asarray(confidence, np.float32)
    columns = []
    for joints in BODY_PARTS.values():
        rows = confidence[:, list(joints)]
        known = np.isfinite(rows)
        total = np.where(known, rows, 0).sum(-1)
        columns.append(np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.nan))
    return np.stack(columns, -1).astype(np.float32)


def frame_confidence(confidence: npt.ArrayLike, status: Sequence[str]) -> FloatArray:
    """(T,) 0 to 1: of the least sure part, 0 where nothing was computed, 1 where nothing is known.

    Args:
        confidence: (T, J) of the joints, NaN where not known.
        status: (T,) what became of each frame.
    """
    parts = part_confidence(confidence)
    lowest = np.where(np.isfinite(parts), parts, 1.0).min(-1, initial=1.0)
    is_computed = np.array([word not in NOT_COMPUTED for word in status], bool)
    return np.where(is_computed, lowest, 0.0).astype(np.float32)


def worst_frames(
    frames: npt.ArrayLike, confidence: npt.ArrayLike, status: Sequence[str], count: int
) -> list[FrameDoubt]:
    """The frames that are least sure, the worst first.

    Args:
        frames: (T,) scene frames.
        confidence: (T, J) of the joints.
        status: (T,) what became of each frame.
        count: how many at most.
    """
    frames, parts = np.asarray(frames), part_confidence(confidence)
    sure = frame_confidence(confidence, status)
    names = list(BODY_PARTS)
    result = []
    for row in np.argsort(sure, kind="stable")[:count].tolist():
        part, why = "", NOT_COMPUTED.get(status[row], "")
        if not why:
            known = np.where(np.isfinite(parts[row]), parts[row], np.inf)
            is_known = np.isfinite(known).any()
            part, why = (names[int(known.argmin())], "") if is_known else ("", "was not accepted")
        result.append(FrameDoubt(int(frames[row]), float(sure[row]), part, why))
    return result


def next_doubtful(
    frames: npt.ArrayLike, sure: npt.ArrayLike, threshold: float, now: int, step: int
) -> int | None:
    """The nearest doubtful frame after (`step` 1) or before (−1) a frame; goes round at the ends.

    Args:
        frames: (T,) scene frames, in order of time.
        sure: (T,) how sure each is.
        threshold: frames below it are doubtful.
        now: the frame that is shown.
        step: 1 or −1.

    Returns:
        A scene frame; none where no frame is doubtful.
    """
    doubtful = np.asarray(frames)[np.asarray(sure) < threshold]
    if not len(doubtful):
        return None
    beyond = doubtful[doubtful > now] if step > 0 else doubtful[doubtful < now]
    if len(beyond):
        return int(beyond[0] if step > 0 else beyond[-1])
    return int(doubtful[0] if step > 0 else doubtful[-1])
