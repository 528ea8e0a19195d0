# SPDX-License-Identifier: Apache-2.0
"""What an update of the correspondence network reads at the current flow, a launch each.

`displacement.network` comes here on a GPU, where nobody asks for gradients; training and CPUs
compute the same by torch (`displacement.correlation`, `.photometric`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import warp as wp
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from . import matching_kernels as kernels
from .warp_runtime import launch, warp_array

__all__ = ["carried_cells", "upsampled", "windows_of_body"]

_TYPES: dict[torch.dtype, Any] = {
    torch.float32: wp.float32,
    torch.bfloat16: wp.bfloat16,
}
_READ_WINDOWS = {
    dtype: wp.overload(
        kernels.read_windows, {"volume": wp.array3d(dtype=kind), "taps": wp.array3d(dtype=kind)}
    )
    for dtype, kind in _TYPES.items()
}
_UPSAMPLE = {
    dtype: wp.overload(kernels.upsample, {"weights": wp.array4d(dtype=kind)})
    for dtype, kind in _TYPES.items()
}
_CARRY_CELLS = {
    dtype: wp.overload(kernels.carry_cells, {"cells": wp.array3d(dtype=kind)})
    for dtype, kind in _TYPES.items()
}


def windows_of_body(
    levels: Sequence[Sequence[tuple[Tensor, tuple[int, int]]]],
    cells: Int64[Tensor, "batch query"],
    mask: Bool[Tensor, "batch rows columns"],
    flow: Float[Tensor, "batch 2 rows columns"],
    radius: int,
    channels: int,
) -> Float[Tensor, "batch channel rows columns"]:
    """Windows of all pyramids about the places that the flow points to; zero off the body.

    Args:
        levels: of each pyramid, finest first: its volume (batch, query, cell) and its picture's
            height and width.
        cells: flat index of each query's cell.
        mask: cells that show the body.
        flow: in cells, float32.
        radius: of the windows.
        channels: of the result, at least as many as there are taps; the rest is zero.

    Returns:
        Taps as `CorrelationPyramid.at` orders them, pyramid after pyramid; channels last.
    """
    batch, rows, columns = mask.shape
    side = 2 * radius + 1
    area = side * side
    like = levels[0][0][0]
    taps = torch.zeros(batch, rows * columns, channels, dtype=like.dtype, device=like.device)
    shared = (
        warp_array(cells.contiguous(), wp.int64),
        warp_array(mask.flatten(1).contiguous(), wp.bool),
        warp_array(flow, wp.float32),
    )
    first = 0
    for pyramid in levels:
        for level, (volume, (height, width)) in enumerate(pyramid):
            launch(
                _READ_WINDOWS[like.dtype], like.device, (*cells.shape, area),
                warp_array(volume, _TYPES[like.dtype]), *shared, width, height, level,
                radius, first, warp_array(taps, _TYPES[like.dtype]),
            )  # fmt: skip
            first += area
    return taps.transpose(1, 2).unflatten(2, (rows, columns))


def carried_cells(
    image: Float[Tensor, "batch 3 height width"],
    texture: Float[Tensor, "batch 4 height width"],
    flow: Float[Tensor, "batch 2 rows columns"],
    stride: int,
    dtype: torch.dtype,
) -> Float[Tensor, "batch channel rows columns"]:
    """The frame carried back beside the texture, as `PhotometricEvidence` takes it.

    Args:
        image: frame crops about zero, float32.
        texture: rendered texture about zero, and where it is known, float32.
        flow: in cells, float32.
        stride: pixels of a cell.
        dtype: of the result.

    Returns:
        7 · stride² channels, channels last.
    """
    batch, _, rows, columns = flow.shape
    cells = torch.empty(
        batch, rows * columns, 7 * stride * stride, dtype=dtype, device=image.device
    )
    launch(
        _CARRY_CELLS[dtype], image.device, (batch, rows * stride, columns * stride),
        warp_array(image, wp.float32), warp_array(texture, wp.float32),
        warp_array(flow, wp.float32), stride, warp_array(cells, _TYPES[dtype]),
    )  # fmt: skip
    return cells.transpose(1, 2).unflatten(2, (rows, columns))


def upsampled(
    values: Float[Tensor, "batch channel rows columns"],
    weights: Float[Tensor, "batch weight rows columns"],
    stride: int,
    temperature: float,
) -> Float[Tensor, "batch channel height width"]:
    """`network.convex_upsample`.

    Args:
        values: coarse values, float32.
        weights: 9 · stride² logits per cell: neighbours, then the pixels of the cell.
        stride: how many times finer.
        temperature: multiplies the logits.
    """
    batch, channels, rows, columns = values.shape
    size = (batch, channels, rows * stride, columns * stride)
    fine = torch.empty(size, dtype=values.dtype, device=values.device)
    launch(
        _UPSAMPLE[weights.dtype], values.device, (batch, *size[2:]),
        warp_array(values, wp.float32), warp_array(weights, _TYPES[weights.dtype]), stride,
        temperature, warp_array(fine, wp.float32),
    )  # fmt: skip
    return fine
