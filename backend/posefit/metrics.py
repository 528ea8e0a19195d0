# SPDX-License-Identifier: Apache-2.0
"""Errors between two motions and between a body and a picture: pure functions on arrays.

Metres, pixels and seconds in; what `evaluate` reports in millimetres is multiplied there. Nothing
here knows of files or bodies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "Interval",
    "acceleration_error",
    "align_similarity",
    "block_bootstrap",
    "intersection_over_union",
    "mean_distance",
    "second_difference",
    "slide_speed",
]

Array = npt.NDArray[np.float64]


def mean_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> Array:
    """(T,) mean distance between points (T, N, D) and points (T, N, D)."""
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    return np.linalg.norm(difference, axis=-1).mean(axis=-1)


def align_similarity(points: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Points (T, N, 3) turned, scaled and moved onto targets (T, N, 3), frame by frame.

    Source: Umeyama, Least-squares estimation of transformation parameters between two point
        patterns, 1991.
    """
    points, target = np.asarray(points, np.float64), np.asarray(target, np.float64)
    middle, target_middle = points.mean(1, keepdims=True), target.mean(1, keepdims=True)
    source, goal = points - middle, target - target_middle
    left, values, right = np.linalg.svd(np.swapaxes(goal, 1, 2) @ source)
    sign = np.ones_like(values)
    sign[:, 2] = np.sign(np.linalg.det(left @ right))
    rotation = left @ (sign[..., None] * right)
    spread = np.maximum((source**2).sum(axis=(1, 2)), 1e-12)
    scale = (values * sign).sum(axis=1) / spread
    return scale[:, None, None] * source @ np.swapaxes(rotation, 1, 2) + target_middle


def second_difference(points: npt.ArrayLike, times: npt.ArrayLike) -> Array:
    """(T − 2, N, D) accelerations of points (T, N, D) at times (T,), also where these vary."""
    points, times = np.asarray(points, np.float64), np.asarray(times, np.float64)
    step = np.diff(times)[:, None, None]
    velocity = np.diff(points, axis=0) / step
    return np.diff(velocity, axis=0) / ((step[1:] + step[:-1]) / 2)


def acceleration_error(points: npt.ArrayLike, target: npt.ArrayLike, times: npt.ArrayLike) -> Array:
    """(T − 2,) mean length of the difference of two motions' accelerations."""
    return mean_distance(second_difference(points, times), second_difference(target, times))


def slide_speed(
    feet: npt.ArrayLike, is_standing: npt.NDArray[np.bool_], times: npt.ArrayLike
) -> Array:
    """(T − 1,) fastest horizontal speed of a standing foot; NaN in steps where none stands.

    Args:
        feet: (T, N, 3) points of the feet, z up, metres.
        is_standing: (T, N) whether each stands; a step counts when both its ends stand.
        times: (T,) seconds.
    """
    feet, times = np.asarray(feet, np.float64), np.asarray(times, np.float64)
    moved = np.linalg.norm(np.diff(feet[..., :2], axis=0), axis=-1) / np.diff(times)[:, None]
    standing = is_standing[1:] & is_standing[:-1]
    fastest = np.where(standing, moved, -1.0).max(axis=1)
    return np.where(standing.any(axis=1), fastest, np.nan)


def intersection_over_union(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Overlap of two masks (H, W); 0 where both are empty."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 0.0


@dataclass(frozen=True)
class Interval:
    """A mean with the range in which it would fall again for other frames of the same kind."""

    mean: float
    low: float
    high: float
    blocks: int
    """Independent pieces that the range comes from; fewer than about five are a hint only."""


def block_bootstrap(
    values: npt.ArrayLike,
    frames: npt.ArrayLike,
    *,
    block: int = 10,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of values and its bootstrap interval, drawing blocks of neighbouring frames whole.

    Frames that follow each other share their errors, so they must not be drawn one by one.

    Args:
        values: (N,) one for each frame or several for one frame; NaN is left out.
        frames: (N,) the frame of each value.
        block: frames a block.
        level: share of the bootstrap means inside the interval.
        samples: bootstrap draws.
        seed: of the draws, so that a report repeats.

    Source: Künsch, The jackknife and the bootstrap for general stationary observations, 1989.
    """
    values, frames = np.asarray(values, np.float64), np.asarray(frames)
    usable = np.isfinite(values)
    values, frames = values[usable], frames[usable]
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    _, label = np.unique(frames // block, return_inverse=True)
    sums, counts = np.bincount(label, values), np.bincount(label)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(samples, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high), len(sums))
