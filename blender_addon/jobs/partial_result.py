# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a refinement is done while it is still under way: numpy only.

A provisional revision holds some frames of the request, or all of them with the input's pose where
nothing is solved yet. Done are those that moved.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from posefit_shared.messages import RefineResult
from posefit_shared.sequence import Sequence

LEAST_MOVE = 1e-6
"""Radians or metres; less is how a number comes back that was only sent to and fro."""

Rows = npt.NDArray[np.int64]


def finished_rows(asked: Sequence, result: RefineResult) -> Rows:
    """Which frames a provisional revision has solved.

    Args:
        asked: the motion that was sent.
        result: what came back.

    Returns:
        (N,) their places in what was sent, rising; none where the revision is for other frames.
    """
    rows = asked_rows(asked, result)
    if rows is None or result.poses.shape[1:] != asked.poses.shape[1:]:
        return np.zeros(0, np.int64)
    turned = np.abs(result.poses - asked.poses[rows]).max(axis=(1, 2)) > LEAST_MOVE
    shifted = np.abs(result.trans - asked.trans[rows]).max(axis=1) > LEAST_MOVE
    return rows[turned | shifted]


def only_rows(asked: Sequence, result: RefineResult, rows: Rows) -> RefineResult:
    """Those frames of a provisional revision, as the answer to a request for them alone.

    Args:
        asked: the motion that was sent.
        result: what came back.
        rows: (N,) as `finished_rows` gave them.
    """
    places = asked_rows(asked, result)
    assert places is not None  # `finished_rows` found some
    chosen = np.flatnonzero(np.isin(places, rows))
    return replace(
        result,
        frame_indices=result.frame_indices[chosen],
        poses=result.poses[chosen],
        trans=result.trans[chosen],
        confidence=result.confidence[chosen],
        status=("refined",) * len(chosen),
        intrinsics=None,
        distortion=None,
    )


def asked_rows(motion: Sequence, result: RefineResult) -> Rows | None:
    """(N,) where each frame of a result lies in what was asked; none where that is not clear."""
    asked, found = motion.frame_indices, result.frame_indices
    assert asked is not None
    if np.array_equal(asked, found):
        return np.arange(len(asked))
    places = {int(frame): row for row, frame in enumerate(asked)}
    if len(places) < len(asked):  # one picture shown at several frames
        return None
    rows = [places.get(int(frame), -1) for frame in found]
    is_clear = -1 not in rows and rows == sorted(set(rows))
    return np.array(rows, np.int64) if is_clear else None
