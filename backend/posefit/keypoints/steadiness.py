# SPDX-License-Identifier: Apache-2.0
"""Landmarks that leap: a detector's guesses at hidden limbs, believed less than it believes them.

When a limb goes out of sight the detector goes on guessing and may put it anywhere from one frame
to the next, with half of its usual confidence. No limb is that fast.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from .tracks import Keypoints

__all__ = ["doubt_jumps"]

DOUBTFUL_SPEED = 3.0
"""Lengths of the person a second at which confidence is halved: 5 m/s for an adult. The clip's
swinging arms reach 1.5, detector noise at 60 frames a second 1."""
REACH_S = 0.06
"""Seconds around a leap that are doubted with it: the guess before, the guess after."""
_STEEPNESS = 4


def doubt_jumps(keypoints: Keypoints, times: npt.NDArray[np.float64]) -> Keypoints:
    """The same keypoints, with less confidence in landmarks about the time that they leap.

    Speed is counted against the person's middle, so that a moving camera doubts nothing.

    Args:
        keypoints: of one person, T frames in order of time.
        times: (T,) seconds.
    """
    frames = np.flatnonzero(keypoints.found)
    if len(frames) < 3:
        return keypoints
    seconds = times[frames]
    speed = _speeds(keypoints, frames, seconds)
    worst = np.zeros((len(frames), speed.shape[1]))
    for start, stop, row in zip(seconds[:-1], seconds[1:], speed, strict=True):
        near = (seconds >= start - REACH_S) & (seconds <= stop + REACH_S)
        worst[near] = np.maximum(worst[near], row)
    trust = 1.0 / (1.0 + (worst / DOUBTFUL_SPEED) ** _STEEPNESS)
    confidence = keypoints.confidence.copy()
    confidence[frames] *= trust.astype(np.float32)
    return dataclasses.replace(keypoints, confidence=confidence)


def _speeds(
    keypoints: Keypoints, frames: npt.NDArray[np.int64], seconds: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(n − 1, 33) lengths of the person a second between neighbouring frames."""
    pixels = keypoints.pixels[frames].astype(np.float64)
    boxes = keypoints.person_box[frames].astype(np.float64)
    length = np.median(np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1.0))
    moved = np.diff(pixels - np.median(pixels, axis=1, keepdims=True), axis=0)
    gap = np.maximum(np.diff(seconds), 1e-6)[:, None]
    return np.linalg.norm(moved, axis=-1) / length / gap
