# SPDX-License-Identifier: Apache-2.0
"""Changes between forms of rotations, in float64, for any leading shape.

Rotation vectors are in radians, quaternions are wxyz with w ≥ 0, matrices turn column vectors,
6D is the first two columns of the matrix (Zhou et al., CVPR 2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "continuous_rotvecs",
    "matrix_from_6d",
    "matrix_to_6d",
    "matrix_to_rotvec",
    "matrix_to_wxyz",
    "rotvec_to_matrix",
    "rotvec_to_wxyz",
    "wxyz_to_matrix",
    "wxyz_to_rotvec",
]

Array = npt.NDArray[np.float64]


def _trailing(values: Any, size: tuple[int, ...], name: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape[-len(size) :] != size:
        raise ValueError(
            f"{name} has shape {array.shape}, expected (…, {', '.join(map(str, size))})"
        )
    return array


def rotvec_to_wxyz(rotvec: npt.ArrayLike) -> Array:
    """Quaternions (…, 4) of rotation vectors (…, 3); exact near zero."""
    rotvec = _trailing(rotvec, (3,), "rotvec")
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
    # sin(a/2)/a, with its series where a is small.
    small = angle < 1e-6
    safe = np.where(small, 1.0, angle)
    factor = np.where(small, 0.5 - angle**2 / 48.0, np.sin(0.5 * safe) / safe)
    return _positive(np.concatenate([np.cos(0.5 * angle), factor * rotvec], axis=-1))


def wxyz_to_rotvec(wxyz: npt.ArrayLike) -> Array:
    """Rotation vectors (…, 3), at most π long, of quaternions (…, 4) of any length but zero."""
    wxyz = _positive(_unit(_trailing(wxyz, (4,), "wxyz")))
    sine = np.linalg.norm(wxyz[..., 1:], axis=-1, keepdims=True)
    small = sine < 1e-7
    safe = np.where(small, 1.0, sine)
    factor = np.where(small, 2.0, 2.0 * np.arctan2(sine, wxyz[..., :1]) / safe)
    return factor * wxyz[..., 1:]


def wxyz_to_matrix(wxyz: npt.ArrayLike) -> Array:
    """Matrices (…, 3, 3) of quaternions (…, 4) of any length but zero."""
    w, x, y, z = np.moveaxis(_unit(_trailing(wxyz, (4,), "wxyz")), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_wxyz(matrix: npt.ArrayLike) -> Array:
    """Quaternions (…, 4) with w ≥ 0 of rotation matrices (…, 3, 3); accurate up to half turns.

    Source: of the four equivalent formulas the best conditioned one is taken per matrix
        (Shepperd, "Quaternion from rotation matrix", 1978).
    """
    m = _trailing(matrix, (3, 3), "matrix")
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Row k holds 4 q_k q: each row is the quaternion up to scale.
    table = np.stack(
        [
            _stack(1 + xx + yy + zz, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0],
                   m[..., 1, 0] - m[..., 0, 1]),
            _stack(m[..., 2, 1] - m[..., 1, 2], 1 + xx - yy - zz, m[..., 1, 0] + m[..., 0, 1],
                   m[..., 0, 2] + m[..., 2, 0]),
            _stack(m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] + m[..., 0, 1], 1 - xx + yy - zz,
                   m[..., 2, 1] + m[..., 1, 2]),
            _stack(m[..., 1, 0] - m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0],
                   m[..., 2, 1] + m[..., 1, 2], 1 - xx - yy + zz),
        ],
        axis=-2,
    )  # fmt: skip
    best = np.argmax(np.diagonal(table, axis1=-2, axis2=-1), axis=-1)
    chosen = np.take_along_axis(table, best[..., None, None], axis=-2)[..., 0, :]
    return _positive(_unit(chosen))


def rotvec_to_matrix(rotvec: npt.ArrayLike) -> Array:
    """Matrices (…, 3, 3) of rotation vectors (…, 3)."""
    return wxyz_to_matrix(rotvec_to_wxyz(rotvec))


def matrix_to_rotvec(matrix: npt.ArrayLike) -> Array:
    """Rotation vectors (…, 3), at most π long, of rotation matrices (…, 3, 3)."""
    return wxyz_to_rotvec(matrix_to_wxyz(matrix))


def matrix_to_6d(matrix: npt.ArrayLike) -> Array:
    """The first two columns (…, 6) of matrices (…, 3, 3), column after column."""
    m = _trailing(matrix, (3, 3), "matrix")
    return np.concatenate([m[..., :, 0], m[..., :, 1]], axis=-1)


def matrix_from_6d(sixd: npt.ArrayLike) -> Array:
    """Rotation matrices (…, 3, 3) from two columns (…, 6), orthonormalised by Gram–Schmidt.

    Source: Zhou et al., "On the Continuity of Rotation Representations", CVPR 2019, eq. 15.
    """
    sixd = _trailing(sixd, (6,), "sixd")
    first = _unit(sixd[..., :3])
    second = sixd[..., 3:] - (first * sixd[..., 3:]).sum(-1, keepdims=True) * first
    second = _unit(second)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def continuous_rotvecs(rotvecs: npt.ArrayLike) -> Array:
    """The same rotations over time without jumps by full turns.

    Args:
        rotvecs: (T, …, 3) rotation vectors in order of time.

    Returns:
        (T, …, 3) rotation vectors, each the representative nearest to the one before it.
    """
    result = _trailing(rotvecs, (3,), "rotvecs").copy()
    for t in range(1, len(result)):
        angle = np.linalg.norm(result[t], axis=-1, keepdims=True)
        previous = np.linalg.norm(result[t - 1], axis=-1, keepdims=True)
        # Where nothing is turned the axis is free: keep turning about the last one.
        direction = np.where(angle > 1e-6, result[t], result[t - 1])
        axis = direction / np.maximum(np.where(angle > 1e-6, angle, previous), 1e-12)
        along = (result[t - 1] * axis).sum(-1, keepdims=True)
        turns = np.round((along - angle) / (2 * np.pi))
        result[t] += turns * 2 * np.pi * axis
    return result


def _unit(vectors: Array) -> Array:
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.all(norm > 0):
        raise ValueError("a quaternion or column of length zero is no rotation")
    return vectors / norm


def _positive(wxyz: Array) -> Array:
    return np.where(wxyz[..., :1] < 0, -wxyz, wxyz)


def _stack(*columns: Array) -> Array:
    return np.stack(columns, axis=-1)
