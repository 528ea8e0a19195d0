# SPDX-License-Identifier: Apache-2.0
"""Rotation vectors and matrices in torch: safe and differentiable near zero and near π."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .gpu.choice import takes_kernels

__all__ = ["axis_angle_to_matrix", "cross_matrix", "matrix_to_axis_angle"]

_SERIES_BELOW = 0.02
"""Squared angle below which the Taylor series is exact in float64 and the closed form is not."""


def cross_matrix(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrices whose product with a point is the cross product with it.

    Args:
        vectors: left operands of the cross product.

    Returns:
        Skew-symmetric matrices.
    """
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of rotation vectors.

    Args:
        axis_angle: rotation vectors, radians; of any length whose square the type holds.

    Returns:
        Matrices that turn column vectors.

    Source:
        Rodrigues' formula; below an angle of 0.14 its coefficients come from their series.
    """
    if takes_kernels(axis_angle):
        from .gpu.rotations import vectors_to_matrices  # Warp takes half a second to import

        return vectors_to_matrices(axis_angle)
    square = axis_angle.square().sum(-1)
    is_small = square < _SERIES_BELOW
    angle = torch.where(is_small, torch.ones_like(square), square).sqrt()
    sine = torch.where(
        is_small,
        1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72))),
        angle.sin() / angle,
    )
    half = (angle / 2).sin() / angle
    cosine = torch.where(
        is_small,
        0.5 - square / 24 * (1 - square / 30 * (1 - square / 56 * (1 - square / 90))),
        2 * half.square(),
    )
    cross = cross_matrix(axis_angle)
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + sine[..., None, None] * cross + cosine[..., None, None] * (cross @ cross)


def matrix_to_axis_angle(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Rotation vectors of rotation matrices, at most π long.

    Args:
        matrix: rotation matrices; small departures from orthogonality are tolerated.

    Returns:
        Rotation vectors, radians. At exactly π either of the two axes may come.

    Source:
        Through the quaternion, from whichever of its four proportional expressions is largest
        (Shepperd 1978), so that neither zero nor π divides by anything small.
    """
    if takes_kernels(matrix):
        from .gpu.rotations import matrices_to_vectors

        return matrices_to_vectors(matrix)
    quaternion = _matrix_to_wxyz(matrix)
    real, imaginary = quaternion[..., 0], quaternion[..., 1:]
    square = imaginary.square().sum(-1)
    is_small = square < 1e-3
    length = torch.where(is_small, torch.ones_like(square), square).sqrt()
    # 2·asin(n)/n, whose series is exact to 1e-14 here; real ≥ 0 and the quaternion has length 1
    series = 2 + square / 3 * (
        1 + square * 9 / 20 * (1 + square * 25 / 42 * (1 + square * 49 / 72))
    )
    factor = torch.where(is_small, series, 2 * torch.atan2(length, real) / length)
    return imaginary * factor[..., None]


def _matrix_to_wxyz(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions with w ≥ 0, by the largest of four expressions proportional to them."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in matrix.unbind(-2))
    rows = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, zy - yz, xz - zx, yx - xy], -1),
            torch.stack([zy - yz, 1 + xx - yy - zz, xy + yx, zx + xz], -1),
            torch.stack([xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy], -1),
            torch.stack([yx - xy, zx + xz, yz + zy, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    largest = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    chosen = rows.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    quaternion = chosen / chosen.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
