# SPDX-License-Identifier: Apache-2.0
"""Systems whose blocks couple a frame with the next two, solved in parallel over time.

`banded.factorise` walks from frame to frame, which leaves a GPU waiting for 128 small kernels in a
row. Here two frames make one block of a block-tridiagonal system, and every second block is
eliminated at once: log₂ of the number of blocks steps, each of a few batched products. It is about
twice the arithmetic of the walk.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["solve_by_cyclic_reduction"]


def solve_by_cyclic_reduction(
    diagonal: Float[Tensor, "frame parameter parameter"],
    next_frame: Float[Tensor, "frame parameter parameter"],
    second_frame: Float[Tensor, "frame parameter parameter"],
    right: Float[Tensor, "frame parameter column"],
) -> tuple[Float[Tensor, "frame parameter column"], Bool[Tensor, ""]]:
    """The solution of a symmetric positive definite block-pentadiagonal system.

    Args:
        diagonal: blocks (t, t).
        next_frame: blocks (t, t + 1); the last one is not read.
        second_frame: blocks (t, t + 2); the last two are not read.
        right: right-hand sides.

    Returns:
        The solution, and whether the matrix was positive definite; where it was not the solution
        is no use.

    Source:
        Heller, Some aspects of the cyclic reduction algorithm for block tridiagonal linear
        systems, SIAM Journal on Numerical Analysis 13, 1976.
    """
    frames, size = diagonal.shape[:2]
    blocks, ahead, values = _in_pairs(diagonal, next_frame, second_frame, right)
    passed, failures = [], blocks.new_zeros((), dtype=torch.int32)
    while len(blocks) > 1:
        factor, info = torch.linalg.cholesky_ex(blocks[1::2])
        failures = failures + info.ne(0).sum()
        sides = torch.cat([ahead[::2].mT, ahead[1::2], values[1::2]], -1)
        sides = torch.linalg.solve_triangular(factor, sides, upper=False)
        products = sides[..., : 4 * size].mT @ sides
        upper, lower = products[:, : 2 * size], products[:, 2 * size :]
        passed.append((factor, sides))
        blocks, values = blocks[::2] - upper[..., : 2 * size], values[::2] - upper[..., 4 * size :]
        blocks[1:] -= lower[:-1, :, 2 * size : 4 * size]
        values[1:] -= lower[:-1, :, 4 * size :]
        ahead = -upper[..., 2 * size : 4 * size]
    factor, info = torch.linalg.cholesky_ex(blocks)
    failures = failures + info.ne(0).sum()
    half = torch.linalg.solve_triangular(factor, values, upper=False)
    solved = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    for factor, sides in reversed(passed):
        later = torch.nn.functional.pad(solved[1:], (0, 0, 0, 0, 0, 1))
        known = sides[..., : 2 * size] @ solved + sides[..., 2 * size : 4 * size] @ later
        own = torch.linalg.solve_triangular(factor.mT, sides[..., 4 * size :] - known, upper=True)
        solved = torch.stack([solved, own], 1).flatten(0, 1)
    return solved.unflatten(1, (2, size)).flatten(0, 1)[:frames], failures == 0


def _in_pairs(
    diagonal: Tensor, next_frame: Tensor, second_frame: Tensor, right: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks of two frames each, and those beside them; a power of two of them, by frames that are
    coupled to nothing and stay at zero."""
    frames, size = diagonal.shape[:2]
    pairs = 1 << max(0, (frames + 1) // 2 - 1).bit_length()
    extra = 2 * pairs - frames
    identity = torch.eye(size, dtype=diagonal.dtype, device=diagonal.device)
    diagonal = torch.cat([diagonal, identity.expand(extra, -1, -1)]).unflatten(0, (pairs, 2))

    def padded(blocks: Tensor, used: int) -> Tensor:
        missing = (0, 0, 0, 0, 0, 2 * pairs - used)
        return torch.nn.functional.pad(blocks[:used], missing).unflatten(0, (pairs, 2))

    near, far = padded(next_frame, max(frames - 1, 0)), padded(second_frame, max(frames - 2, 0))
    blocks = _assembled(diagonal[:, 0], near[:, 0], near[:, 0].mT, diagonal[:, 1])
    ahead = _assembled(far[:, 0], torch.zeros_like(far[:, 0]), near[:, 1], far[:, 1])
    return blocks, ahead, padded(right, frames).flatten(1, 2)


def _assembled(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.cat([torch.cat([a, b], -1), torch.cat([c, d], -1)], -2)
