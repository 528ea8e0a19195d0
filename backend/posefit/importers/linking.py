# SPDX-License-Identifier: Apache-2.0
"""People linked from frame to frame by where they are, for tools that do not track."""

from __future__ import annotations

from collections.abc import Sequence as Row

import numpy as np

from .fields import Array

__all__ = ["link_places"]

MAX_GAP = 30
"""Frames after which someone who was not seen is somebody new."""


def link_places(frames: Row[int], places: Array, farthest: float = 0.5) -> list[int]:
    """A person's number for each detection, nearest pairs first.

    Args:
        frames: frame of each detection.
        places: (N, D) where it is, in units in which people differ by more than `farthest`.
        farthest: how far a person may get between two sightings, in the same units.

    Returns:
        Numbers from 0 in order of first appearance.
    """
    order = sorted(range(len(frames)), key=lambda k: frames[k])
    numbers = [-1] * len(frames)
    last: dict[int, int] = {}
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and frames[order[stop]] == frames[order[start]]:
            stop += 1
        now = order[start:stop]
        known = [n for n, k in last.items() if frames[now[0]] - frames[k] <= MAX_GAP]
        pairs = sorted(
            (float(np.linalg.norm(places[k] - places[last[n]])), n, k) for n in known for k in now
        )
        for distance, number, k in pairs:
            if distance <= farthest and numbers[k] < 0 and frames[last[number]] != frames[k]:
                numbers[k], last[number] = number, k
        for k in now:
            if numbers[k] < 0:
                numbers[k] = len(last)
                last[numbers[k]] = k
        start = stop
    return numbers
