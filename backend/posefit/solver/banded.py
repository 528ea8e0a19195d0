# SPDX-License-Identifier: Apache-2.0
"""Cholesky factorisation of systems whose blocks couple a frame with the next two.

Cost and memory grow linearly with the number of frames. Without coupling the frames are factorised
as one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .cyclic_reduction import solve_by_cyclic_reduction

__all__ = ["BandedFactor", "BandedMatrix", "factorise", "multiply", "solve_banded", "substitute"]


@dataclass(frozen=True)
class BandedMatrix:
    """A symmetric block-pentadiagonal matrix; upper blocks are stored."""

    diagonal: Float[Tensor, "frame parameter parameter"]
    next_frame: Float[Tensor, "frame parameter parameter"] | None
    """Block (t, t + 1), the last one unused; None where frames are independent."""
    second_frame: Float[Tensor, "frame parameter parameter"] | None
    """Block (t, t + 2), the last two unused."""


@dataclass(frozen=True)
class BandedFactor:
    """Lower Cholesky factor of a BandedMatrix."""

    diagonal: Float[Tensor, "frame parameter parameter"]
    previous: Float[Tensor, "frame parameter parameter"] | None
    """Block (t, t − 1)."""
    second_previous: Float[Tensor, "frame parameter parameter"] | None
    """Block (t, t − 2)."""
    is_definite: Bool[Tensor, " frame"]
    """False where the factorisation failed; the factor is no use there."""


def solve_banded(
    matrix: BandedMatrix, right: Float[Tensor, "frame parameter column"]
) -> tuple[Float[Tensor, "frame parameter column"], Bool[Tensor, " frame"]]:
    """The solution X of matrix · X = right: from frame to frame on a CPU, all at once on a GPU.

    Args:
        matrix: symmetric; should be positive definite.
        right: right-hand sides.

    Returns:
        X, and where the matrix was positive definite; X is no use elsewhere. Where frames are
        coupled a GPU says it of all frames together.
    """
    near, far = matrix.next_frame, matrix.second_frame
    if near is None or far is None or not right.is_cuda:
        factor = factorise(matrix)
        return substitute(factor, right), factor.is_definite
    solved, is_definite = solve_by_cyclic_reduction(matrix.diagonal, near, far, right)
    return solved, is_definite.expand(len(right))


def factorise(matrix: BandedMatrix) -> BandedFactor:
    """The Cholesky factor.

    Args:
        matrix: symmetric; should be positive definite.

    Returns:
        The factor; it says where the matrix was not positive definite, and raises nothing.
    """
    if matrix.next_frame is None or matrix.second_frame is None:
        factor, info = torch.linalg.cholesky_ex(matrix.diagonal)
        return BandedFactor(factor, None, None, info == 0)
    diagonal, previous, second, definite = [], [], [], []
    zero = torch.zeros_like(matrix.diagonal[0])
    for frame in range(len(matrix.diagonal)):
        far = near = zero
        block = matrix.diagonal[frame]
        if frame >= 2:
            far = _divide(matrix.second_frame[frame - 2].T, diagonal[frame - 2])
            block = block - far @ far.T
        if frame >= 1:
            coupled = matrix.next_frame[frame - 1].T
            if frame >= 2:
                coupled = coupled - far @ previous[frame - 1].T
            near = _divide(coupled, diagonal[frame - 1])
            block = block - near @ near.T
        factor, info = torch.linalg.cholesky_ex(block)
        diagonal.append(factor)
        previous.append(near)
        second.append(far)
        definite.append(info == 0)
    return BandedFactor(
        torch.stack(diagonal), torch.stack(previous), torch.stack(second), torch.stack(definite)
    )


def _divide(block: Tensor, factor: Tensor) -> Tensor:
    """block · factor⁻ᵀ for a lower factor."""
    return torch.linalg.solve_triangular(factor, block.T, upper=False).T


def substitute(
    factor: BandedFactor, right: Float[Tensor, "frame parameter column"]
) -> Float[Tensor, "frame parameter column"]:
    """The solution X of matrix · X = right.

    Args:
        factor: from `factorise`.
        right: right-hand sides.

    Returns:
        X, not finite where the factorisation failed.
    """
    if factor.previous is None or factor.second_previous is None:
        half = torch.linalg.solve_triangular(factor.diagonal, right, upper=False)
        return torch.linalg.solve_triangular(factor.diagonal.mT, half, upper=True)
    forward: list[Tensor] = []
    for frame in range(len(right)):
        rest = right[frame]
        if frame >= 1:
            rest = rest - factor.previous[frame] @ forward[frame - 1]
        if frame >= 2:
            rest = rest - factor.second_previous[frame] @ forward[frame - 2]
        forward.append(torch.linalg.solve_triangular(factor.diagonal[frame], rest, upper=False))
    count = len(right)
    backward: list[Tensor] = [right[0]] * count
    for frame in reversed(range(count)):
        rest = forward[frame]
        if frame + 1 < count:
            rest = rest - factor.previous[frame + 1].T @ backward[frame + 1]
        if frame + 2 < count:
            rest = rest - factor.second_previous[frame + 2].T @ backward[frame + 2]
        upper = factor.diagonal[frame].T
        backward[frame] = torch.linalg.solve_triangular(upper, rest, upper=True)
    return torch.stack(backward)


def multiply(
    matrix: BandedMatrix, vector: Float[Tensor, "frame parameter"]
) -> Float[Tensor, "frame parameter"]:
    """matrix · vector."""
    product = (matrix.diagonal @ vector[..., None])[..., 0]
    for by, blocks in ((1, matrix.next_frame), (2, matrix.second_frame)):
        if blocks is None or len(vector) <= by:
            continue
        upper = blocks[:-by]
        product[:-by] += (upper @ vector[by:, :, None])[..., 0]
        product[by:] += (upper.transpose(1, 2) @ vector[:-by, :, None])[..., 0]
    return product
