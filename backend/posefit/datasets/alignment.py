# SPDX-License-Identifier: Apache-2.0
"""Errors of whole trajectories in the world, as moving-camera benchmarks define them.

Source: Ye et al., SLAHMR, CVPR 2023 (W-MPJPE, WA-MPJPE); Shin et al., WHAM, CVPR 2024 (pieces of
    100 frames, RTE): lib/eval of github.com/yohanshin/WHAM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "PIECE",
    "Similarity",
    "fit_similarity",
    "root_trajectory_error",
    "world_errors",
]

Array = npt.NDArray[np.float64]

PIECE = 100
"""Frames that are aligned together."""


@dataclass(frozen=True)
class Similarity:
    """A turn, a scale and a shift of points."""

    scale: float
    rotation: Array
    """(3, 3)."""
    shift: Array
    """(3,)."""

    def __call__(self, points: npt.ArrayLike) -> Array:
        """Points (…, 3) after it."""
        return self.scale * np.asarray(points, np.float64) @ self.rotation.T + self.shift


def fit_similarity(
    points: npt.ArrayLike, target: npt.ArrayLike, *, with_scale: bool = True
) -> Similarity:
    """What takes points nearest to their targets, in least squares.

    Args:
        points: (N, 3).
        target: (N, 3).
        with_scale: whether the scale is free; otherwise it is 1.

    Source: Umeyama, Least-squares estimation of transformation parameters between two point
        patterns, 1991.
    """
    points, target = np.asarray(points, np.float64), np.asarray(target, np.float64)
    middle, goal = points.mean(0), target.mean(0)
    left, values, right = np.linalg.svd((target - goal).T @ (points - middle))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    rotation = left @ (signs[:, None] * right)
    spread = max(float(((points - middle) ** 2).sum()), 1e-12)
    scale = float((values * signs).sum()) / spread if with_scale else 1.0
    return Similarity(scale, rotation, goal - scale * rotation @ middle)


def world_errors(joints: Array, target: Array) -> tuple[Array, Array]:
    """W-MPJPE and WA-MPJPE: errors after aligning pieces of the motion in the world.

    Args:
        joints: (T, J, 3) predicted, metres.
        target: (T, J, 3) true, metres.

    Returns:
        (T,) mean joint distances with each piece of 100 frames aligned by its first two frames,
        and (T,) with it aligned by all its frames; metres.
    """
    first, everything = [], []
    for start in range(0, len(joints), PIECE):
        one, two = joints[start : start + PIECE], target[start : start + PIECE]
        for frames, errors in ((2, first), (len(one), everything)):
            fitted = fit_similarity(one[:frames].reshape(-1, 3), two[:frames].reshape(-1, 3))
            errors.append(np.linalg.norm(fitted(one) - two, axis=-1).mean(-1))
    return np.concatenate(first), np.concatenate(everything)


def root_trajectory_error(roots: Array, target: Array) -> Array:
    """RTE: distance of the roots after a rigid alignment, in percent of the path's length.

    Args:
        roots: (T, 3) predicted, metres.
        target: (T, 3) true, metres.

    Returns:
        (T,) percent; NaN where the true root never moves.
    """
    fitted = fit_similarity(roots, target, with_scale=False)
    path = float(np.linalg.norm(np.diff(target, axis=0), axis=-1).sum())
    distance = np.linalg.norm(fitted(roots) - target, axis=-1)
    return 100.0 * distance / path if path > 1e-9 else np.full(len(roots), np.nan)
