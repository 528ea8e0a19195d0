# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations as the numbers that bones keep, by rotation mode: read, write, blend (numpy only).

`QUATERNION` is wxyz, `AXIS_ANGLE` an angle and an axis, everything else (`XYZ`, `ZXY`, …) three
Euler angles whose first axis turns first. Angles are radians; frames come first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from posefit_shared import rotations

from .curve_keys import SAME_VALUE

Array = npt.NDArray[np.float64]


def rotation_channel(mode: str) -> str:
    """The property that keeps a bone's rotation in a mode."""
    names = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}
    return names.get(mode, "rotation_euler")


def rotation_size(mode: str) -> int:
    """How many numbers a rotation has in a mode."""
    return 4 if mode in ("QUATERNION", "AXIS_ANGLE") else 3


def to_matrices(values: npt.ArrayLike, mode: str) -> Array:
    """Rotations (T, 3, 3) of a bone's values (T, 3 or 4)."""
    values = np.asarray(values, np.float64)
    if mode == "QUATERNION":
        still = np.linalg.norm(values, axis=-1, keepdims=True) == 0
        return rotations.wxyz_to_matrix(np.where(still, (1.0, 0.0, 0.0, 0.0), values))
    if mode == "AXIS_ANGLE":
        length = np.maximum(np.linalg.norm(values[:, 1:], axis=-1, keepdims=True), 1e-12)
        return rotations.rotvec_to_matrix(values[:, :1] * values[:, 1:] / length)
    return euler_to_matrices(values, mode)


def euler_to_matrices(euler: npt.ArrayLike, order: str) -> Array:
    """Rotations (T, 3, 3) of Blender's Euler angles (T, 3), whose first axis turns first."""
    euler = np.asarray(euler, np.float64)
    result = np.broadcast_to(np.eye(3), (len(euler), 3, 3))
    for letter in order:
        axis = "XYZ".index(letter)
        rotvec = np.zeros_like(euler)
        rotvec[:, axis] = euler[:, axis]
        result = rotations.rotvec_to_matrix(rotvec) @ result
    return result


def from_matrices(matrices: npt.ArrayLike, mode: str, near: npt.ArrayLike) -> Array:
    """A bone's values for rotations, of all that mean the same those nearest to given ones.

    Args:
        matrices: (T, 3, 3).
        mode: the bone's rotation mode.
        near: (T, 3 or 4) values in that mode.
    """
    near = np.asarray(near, np.float64)
    if mode == "QUATERNION":
        wxyz = rotations.matrix_to_wxyz(matrices)
        return np.where((wxyz * near).sum(-1, keepdims=True) < 0, -wxyz, wxyz)
    if mode == "AXIS_ANGLE":
        return _axis_angle_near(rotations.matrix_to_rotvec(matrices), near)
    return _euler_near(np.asarray(matrices, np.float64), mode, near)


def blend_rotations(before: npt.ArrayLike, after: npt.ArrayLike, amount: float, mode: str) -> Array:
    """Values (T, 3 or 4) a share of the way between two, along the shortest turn (slerp).

    Args:
        before: (T, 3 or 4) values at 0.
        after: (T, 3 or 4) values at 1.
        amount: 0 to 1.
        mode: the bone's rotation mode.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if amount in (0, 1):
        return (after if amount else before).copy()
    same = np.abs(before - after).max(-1, keepdims=True) < SAME_VALUE
    if mode == "QUATERNION":
        return np.where(same, after, _slerp(before, after, amount))
    start = to_matrices(before, mode)
    turn = rotations.matrix_to_rotvec(np.swapaxes(start, -1, -2) @ to_matrices(after, mode))
    between = start @ rotations.rotvec_to_matrix(amount * turn)
    mixed = (1 - amount) * before + amount * after
    return np.where(same, after, from_matrices(between, mode, mixed))


def _slerp(before: Array, after: Array, amount: float) -> Array:
    """Unit quaternions a share of the way between two of any length, on the side of the second."""
    before, after = _unit_wxyz(before), _unit_wxyz(after)
    cosine = (before * after).sum(-1, keepdims=True)
    before = np.where(cosine < 0, -before, before)
    chords = after - before, after + before
    angle = 2 * np.arctan2(*(np.linalg.norm(one, axis=-1, keepdims=True) for one in chords))
    is_small = angle < 1e-6
    sine = np.where(is_small, 1.0, np.sin(angle))
    share = np.where(is_small, amount, np.sin(amount * angle) / sine)
    rest = np.where(is_small, 1 - amount, np.sin((1 - amount) * angle) / sine)
    return _unit_wxyz(rest * before + share * after)


def _unit_wxyz(values: Array) -> Array:
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.where(length == 0, (1.0, 0.0, 0.0, 0.0), values / np.where(length == 0, 1.0, length))


def _axis_angle_near(rotvec: Array, near: Array) -> Array:
    angle = np.linalg.norm(rotvec, axis=-1)
    size = np.maximum(np.linalg.norm(near[:, 1:], axis=-1, keepdims=True), 1e-12)
    near_axis = near[:, 1:] / size
    axis = np.where(angle[:, None] > 1e-9, rotvec / np.maximum(angle, 1e-9)[:, None], near_axis)
    sign = np.where((axis * near_axis).sum(-1) < 0, -1.0, 1.0)
    angle = sign * angle
    angle += 2 * np.pi * np.round((near[:, 0] - angle) / (2 * np.pi))
    return np.concatenate([angle[:, None], sign[:, None] * axis], -1)


def _euler_near(matrices: Array, order: str, near: Array) -> Array:
    i, j, k = ("XYZ".index(letter) for letter in order)
    sign = 1.0 if (i, j, k) in ((0, 1, 2), (1, 2, 0), (2, 0, 1)) else -1.0
    # R = R_k(c) · R_j(b) · R_i(a), so R[k, i] = −sign · sin b; at b = ±90° a and c are one turn.
    across = np.hypot(matrices[:, i, i], matrices[:, j, i])
    locked = across < 1e-6
    a = np.where(
        locked,
        np.arctan2(-sign * matrices[:, j, k], matrices[:, j, j]),
        np.arctan2(sign * matrices[:, k, j], matrices[:, k, k]),
    )
    b = np.arctan2(-sign * matrices[:, k, i], across)
    c = np.where(locked, 0.0, np.arctan2(sign * matrices[:, j, i], matrices[:, i, i]))
    candidates = []
    for angles in ((a, b, c), (a + np.pi, np.pi - b, c + np.pi)):
        euler = np.zeros_like(near)
        for axis, angle in zip((i, j, k), angles, strict=True):
            euler[:, axis] = angle
        candidates.append(euler + 2 * np.pi * np.round((near - euler) / (2 * np.pi)))
    one, other = candidates
    is_other = np.abs(other - near).sum(-1) < np.abs(one - near).sum(-1)
    return np.where(is_other[:, None], other, one)
