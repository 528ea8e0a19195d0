# SPDX-License-Identifier: Apache-2.0
"""Joints from skin: sparse, non-negative weights that put each joint inside a ring of vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from posefit_shared.skeleton import SMPL_JOINT_NAMES, SMPL_PARENTS

__all__ = ["RegressorFit", "fit_regressor"]

Array = npt.NDArray[np.float64]

TRAINED_SHARE = 0.7
"""Share of the bodies that the weights are fitted to; the error is measured on the others."""
CANDIDATES = 420
"""Vertices that a joint may depend on, spread around the limb or trunk at its height."""
_SECTORS = 12
_SUM_PULL = 30.0
_RIDGE = 0.01
_LEAST_WEIGHT = 1e-4


@dataclass(frozen=True)
class RegressorFit:
    """Weights, and how well they do on bodies that they were not fitted to."""

    weights: Array
    """(24, V) non-negative; rows sum to one."""
    error_mm: Array
    """(held-out bodies, 24) distance to the true joints."""


def fit_regressor(vertices: Array, joints: Array, lbs_weights: Array) -> RegressorFit:
    """A joint regressor fitted to T-posed bodies.

    Candidates for a joint are vertices that its own bone or a neighbouring one moves, taken from
    sectors all around it: a joint deep in the trunk lies in no hull of its nearest vertices, which
    are all on its back.

    Args:
        vertices: (N, V, 3) T-posed bodies, metres.
        joints: (N, 24, 3) their joints.
        lbs_weights: (V, 24) skinning weights.

    Returns:
        The fit.
    """
    trained = int(len(vertices) * TRAINED_SHARE)
    mean_vertices, mean_joints = vertices.mean(axis=0), joints.mean(axis=0)
    weights = np.zeros((len(SMPL_JOINT_NAMES), len(mean_vertices)))
    for joint in range(len(SMPL_JOINT_NAMES)):
        chosen = _candidates(joint, mean_vertices, mean_joints, lbs_weights)
        own = _solve(vertices[:trained, chosen], joints[:trained, joint])
        weights[joint, chosen] = own
    held_out = np.einsum("jv,nvd->njd", weights, vertices[trained:], optimize=True)
    return RegressorFit(
        weights=weights,
        error_mm=1e3 * np.linalg.norm(held_out - joints[trained:], axis=2),
    )


def _candidates(
    joint: int, vertices: Array, joints: Array, lbs_weights: Array
) -> npt.NDArray[np.int64]:
    """Vertices around a joint: the nearest ones of each sector about the axis of its bone."""
    axis = _bone_axis(joint, joints)
    family = [joint, *(k for k, parent in enumerate(SMPL_PARENTS) if parent == joint)]
    if SMPL_PARENTS[joint] >= 0:
        family.append(SMPL_PARENTS[joint])
    offsets = vertices - joints[joint]
    along = offsets @ axis
    first = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first)
    angle = np.arctan2(offsets @ np.cross(axis, first), offsets @ first)
    sector = ((angle + np.pi) / (2 * np.pi) * _SECTORS).astype(int) % _SECTORS
    cost = np.linalg.norm(offsets, axis=1) + 2.0 * np.abs(along)
    cost[lbs_weights[:, family].sum(axis=1) < 0.2] = np.inf
    chosen = [_nearest_of(cost, sector == s, CANDIDATES // _SECTORS) for s in range(_SECTORS)]
    return np.unique(np.concatenate(chosen))


def _bone_axis(joint: int, joints: Array) -> Array:
    """Direction from a joint's parent through it to its children's middle."""
    children = [k for k, parent in enumerate(SMPL_PARENTS) if parent == joint]
    end = joints[children].mean(axis=0) if children else joints[joint]
    start = joints[SMPL_PARENTS[joint]] if SMPL_PARENTS[joint] >= 0 else joints[joint]
    axis = end - start
    return axis / np.linalg.norm(axis)


def _nearest_of(cost: Array, is_member: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.int64]:
    members = np.flatnonzero(is_member & np.isfinite(cost))
    order = members[np.argsort(cost[members], kind="stable")]
    return order[: 3 * count : 3]


def _solve(vertices: Array, joints: Array) -> Array:
    """Non-negative least squares with the weights' sum pulled to one, then made one."""
    count = vertices.shape[1]
    rows = vertices.transpose(0, 2, 1).reshape(-1, count).astype(np.float64)
    gram_rows = np.concatenate([rows, np.full((1, count), _SUM_PULL), _RIDGE * np.eye(count)])
    target = np.concatenate([joints.reshape(-1), [_SUM_PULL], np.zeros(count)])
    solved, _ = nnls(gram_rows, target, maxiter=50 * count)
    solved[solved < _LEAST_WEIGHT] = 0
    return solved / solved.sum()
