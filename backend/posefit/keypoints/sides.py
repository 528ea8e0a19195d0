# SPDX-License-Identifier: Apache-2.0
"""Keypoints whose left and right hold still: mends frames that the detector saw back to front.

From one picture, a person seen from the front and the mirrored one seen from behind look alike, and
a detector can change its mind between frames: all left and right landmarks trade places and the
3D landmarks turn inside out. The person cannot do that in a frame's time, so the cheapest
assignment over the whole clip decides, and the reading of the majority of frames stands.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from .blazepose import LANDMARK_NAMES
from .tracks import Keypoints

__all__ = ["mend_sides"]

Array = npt.NDArray[np.float64]

SWITCH_COST = 0.04
"""What one change of sides must save: mean landmark motion in lengths of the person."""
SWAPPED_COST = 1e-3
"""Cost of each frame read the other way round, so that the majority stands."""
CUT_MOTION = 0.25
"""Mean motion in lengths of the person beyond which two frames say nothing about each other."""
_RIGHT_OF = np.array(
    [
        LANDMARK_NAMES.index(
            name.replace("left", "\0").replace("right", "left").replace("\0", "right")
        )
        for name in LANDMARK_NAMES
    ]
)
"""For each landmark its partner on the other side; itself for the nose."""


def mend_sides(keypoints: Keypoints) -> Keypoints:
    """The same keypoints, with left and right swapped back in frames that were read mirrored.

    Args:
        keypoints: of one person, in order of time.

    Returns:
        Keypoints of which pixels and confidences have traded sides where the clip demands it;
        3D landmarks trade sides and change the sign of their depth there.
    """
    frames = np.flatnonzero(keypoints.found)
    if len(frames) < 2:
        return keypoints
    same, swapped = _motion(keypoints, frames)
    is_swapped = np.zeros(len(keypoints), bool)
    is_swapped[frames] = _cheapest_path(same, swapped)
    pixels, confidence = keypoints.pixels.copy(), keypoints.confidence.copy()
    world = keypoints.world.copy()
    pixels[is_swapped] = keypoints.pixels[is_swapped][:, _RIGHT_OF]
    confidence[is_swapped] = keypoints.confidence[is_swapped][:, _RIGHT_OF]
    mirrored = np.array([1, 1, -1], np.float32)
    world[is_swapped] = keypoints.world[is_swapped][:, _RIGHT_OF] * mirrored
    return dataclasses.replace(keypoints, pixels=pixels, confidence=confidence, world=world)


def _motion(keypoints: Keypoints, frames: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean motion between neighbouring frames, as read and with sides traded: two (n − 1,)."""
    pixels = keypoints.pixels[frames].astype(np.float64)
    boxes = keypoints.person_box[frames].astype(np.float64)
    length = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1.0)[1:]
    weight = np.minimum(keypoints.confidence[frames][1:], keypoints.confidence[frames][:-1])
    weight = weight * (np.arange(weight.shape[1]) != _RIGHT_OF) + 1e-9

    def motion(now: Array) -> Array:
        moved = np.linalg.norm(now - pixels[:-1], axis=-1)
        return (moved * weight).sum(axis=1) / weight.sum(axis=1) / length

    return motion(pixels[1:]), motion(pixels[1:][:, _RIGHT_OF])


def _cheapest_path(same: Array, swapped: Array) -> npt.NDArray[np.bool_]:
    """Which of n frames are read mirrored, from n − 1 motions as read and with sides traded."""
    unrelated = np.minimum(same, swapped) > CUT_MOTION
    keep = np.where(unrelated, 0.0, same)
    change = np.where(unrelated, 0.0, swapped) + SWITCH_COST
    cost = np.array([0.0, SWAPPED_COST])
    came_from = np.zeros((len(same), 2), int)
    for k in range(len(same)):
        table = cost[:, None] + np.array([[keep[k], change[k]], [change[k], keep[k]]])
        came_from[k] = table.argmin(axis=0)
        cost = table.min(axis=0) + np.array([0.0, SWAPPED_COST])
    path = [int(cost.argmin())]
    for previous in came_from[::-1]:
        path.append(int(previous[path[-1]]))
    return np.array(path[::-1], bool)
