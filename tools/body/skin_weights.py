# SPDX-License-Identifier: Apache-2.0
"""Skinning weights: MakeHuman's, smoothed where they crease, four joints a vertex at most."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skeleton_map import split_side
from skin_mesh import smooth_over_mesh

__all__ = ["four_joints_a_vertex", "smooth_trunk_weights"]

Array = npt.NDArray[np.float64]

_SMOOTHED = (
    "clavicle", "shoulder01", "upperarm01", "upperarm02", "spine01", "spine02", "spine03",
    "spine04", "spine05", "breast", "neck01", "neck02", "upperleg01", "upperleg02", "pelvis",
    "root",
)  # fmt: skip
"""Bones of trunk, shoulders and hips, whose weights end abruptly."""

_ROUNDS = 9
_STRENGTH = 0.5


def smooth_trunk_weights(
    weights: Array, labels: tuple[str, ...], faces: npt.NDArray[np.int64]
) -> Array:
    """Bone weights without the steps that fold skin at collarbones, armpits and groins.

    Args:
        weights: (V, bones) of the skin's vertices; rows sum to one.
        labels: bone names.
        faces: (F, 3) triangles.

    Returns:
        (V, bones) rows sum to one; face, hands, feet, forearms and shins unchanged.
    """
    is_smoothed = np.array([split_side(label)[0] in _SMOOTHED for label in labels])
    strength = _STRENGTH * np.clip(weights[:, is_smoothed].sum(axis=1) * 1.25 - 0.25, 0, 1)
    smoothed = smooth_over_mesh(weights, faces, strength, _ROUNDS)
    return smoothed / smoothed.sum(axis=1, keepdims=True)


def four_joints_a_vertex(
    weights: Array, faces: npt.NDArray[np.int64] | None = None, rounds: int = 4
) -> Array:
    """The four greatest weights of each vertex, without the folds that dropping the others makes.

    What the fifth weight was is taken from all, so that none drops out with a step; where five
    joints met, a few rounds of smoothing and dropping again even out what that did.

    Args:
        weights: (V, joints) rows sum to one.
        faces: (F, 3) triangles to smooth over; None only drops.
        rounds: of smoothing.

    Returns:
        (V, joints) with at most four non-zero entries a row, which sum to one.
    """
    kept = _drop_smallest(weights)
    if faces is None:
        return kept
    is_crowded = ((weights > 1e-3).sum(axis=1) > 4).astype(np.float64)[:, None]
    around = smooth_over_mesh(is_crowded, faces, np.full(len(weights), 0.6), 6)[:, 0]
    strength = 0.6 * np.clip(3 * around, 0, 1)
    for _ in range(rounds):
        kept = _drop_smallest(smooth_over_mesh(kept, faces, strength, 2))
    return kept


def _drop_smallest(weights: Array) -> Array:
    fifth = np.sort(weights, axis=1)[:, -5:-4]
    kept = np.clip(weights - fifth, 0, None)
    order = np.argsort(weights, axis=1)
    np.put_along_axis(kept, order[:, :-4], 0.0, axis=1)
    kept[kept < 1e-3] = 0
    return kept / kept.sum(axis=1, keepdims=True)
