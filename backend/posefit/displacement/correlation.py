# SPDX-License-Identifier: Apache-2.0
"""Correlation of rendered and photographed features, and looking it up around a flow.

The volume holds, for each query cell of the rendering, its feature's inner product with every cell
of the picture; coarser levels use pooled picture features. Only cells that show the body are
queries: they are a quarter of a crop, and memory and time shrink with them.

Source: Teed and Deng, RAFT (ECCV 2020), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

__all__ = [
    "CorrelationPyramid",
    "WindowFunctions",
    "body_cells",
    "gather_cells",
    "query_budget",
    "scatter_cells",
    "window_gradient",
    "window_lookup",
]


def body_cells(
    mask: Bool[Tensor, "batch height width"], budget: int | None = None
) -> Int64[Tensor, "batch query"]:
    """Indices of the cells that show the body, each row padded with other cells.

    Args:
        mask: cells that show the body.
        budget: queries per sample; None takes the fullest sample's count, rounded up to 256.

    Returns:
        Distinct flat cell indices; body cells come first. Cells beyond the budget are left out.
    """
    flat = mask.flatten(1)
    if budget is None:
        budget = query_budget(mask, 256)
    order = torch.argsort(flat.to(torch.int8), dim=1, descending=True, stable=True)
    return order[:, :budget].contiguous()


def query_budget(mask: Bool[Tensor, "batch height width"], step: int) -> int:
    """Cells of the fullest sample, rounded up; waits for the device.

    Args:
        mask: cells that show the body.
        step: what is rounded up to.
    """
    flat = mask.flatten(1)
    fullest = int(flat.sum(1).max())
    return min(flat.shape[1], max(step, -(-fullest // step) * step))


def gather_cells(
    values: Float[Tensor, "batch channel height width"], cells: Int64[Tensor, "batch query"]
) -> Float[Tensor, "batch query channel"]:
    """Values at the given cells."""
    flat = values.flatten(2).transpose(1, 2)
    return flat.gather(1, cells[..., None].expand(-1, -1, flat.shape[2]))


def scatter_cells(
    values: Float[Tensor, "batch query channel"],
    cells: Int64[Tensor, "batch query"],
    size: tuple[int, int],
) -> Float[Tensor, "batch channel height width"]:
    """A picture of the values at their cells, zero at cells that were not queried."""
    batch, _, channels = values.shape
    picture = values.new_zeros(batch, size[0] * size[1], channels)
    picture = picture.scatter(1, cells[..., None].expand(-1, -1, channels), values)
    return picture.transpose(1, 2).unflatten(2, size)


def _window(
    centers: Float[Tensor, "batch query 2"], radius: int, height: int, width: int
) -> tuple[Int64[Tensor, "batch query tap"], Tensor, Tensor]:
    """Flat indices of the (2r+2)² cells about each centre, which are inside, and the fractions."""
    corner = centers.floor()
    offsets = torch.arange(-radius, radius + 2, device=centers.device)
    x = corner[..., 0:1].long() + offsets
    y = corner[..., 1:2].long() + offsets
    inside = ((y >= 0) & (y < height))[..., :, None] & ((x >= 0) & (x < width))[..., None, :]
    index = y.clamp(0, height - 1)[..., :, None] * width + x.clamp(0, width - 1)[..., None, :]
    return index.flatten(2), inside.flatten(2), centers - corner


def window_lookup(
    volume: Float[Tensor, "batch query cell"],
    centers: Float[Tensor, "batch query 2"],
    radius: int,
    size: tuple[int, int],
) -> Float[Tensor, "batch query tap"]:
    """Volume values at a (2r+1)² grid of whole steps about each centre, bilinear, zero outside.

    Args:
        volume: correlation of each query with each cell of a picture.
        centers: where to look, in cells of that picture (x, y; cell centres at whole numbers).
        radius: r.
        size: height and width of the picture in cells.

    Returns:
        Values, row after row (y outer, x inner).
    """
    index, inside, fraction = _window(centers, radius, *size)
    taps = volume.gather(2, index) * inside
    side = 2 * radius + 2
    taps = taps.unflatten(2, (side, side))
    fx, fy = (fraction[..., k, None, None].to(taps.dtype) for k in (0, 1))
    taps = taps[..., :-1] + fx * (taps[..., 1:] - taps[..., :-1])
    taps = taps[..., :-1, :] + fy * (taps[..., 1:, :] - taps[..., :-1, :])
    return taps.flatten(2)


def window_gradient(
    gradient: Float[Tensor, "batch query tap"],
    centers: Float[Tensor, "batch query 2"],
    radius: int,
    size: tuple[int, int],
) -> tuple[Int64[Tensor, "batch query tap2"], Float[Tensor, "batch query tap2"]]:
    """Cells of the volume and what `window_lookup`'s gradient adds to each."""
    index, inside, fraction = _window(centers, radius, *size)
    side = 2 * radius + 1
    spread = gradient.unflatten(2, (side, side))
    fx, fy = (fraction[..., k, None, None].to(spread.dtype) for k in (0, 1))
    spread = functional.pad(spread * (1 - fy), (0, 0, 0, 1)) + functional.pad(
        spread * fy, (0, 0, 1, 0)
    )
    spread = functional.pad(spread * (1 - fx), (0, 1)) + functional.pad(spread * fx, (1, 0))
    return index, spread.flatten(2) * inside


@dataclass(frozen=True)
class WindowFunctions:
    """The two functions that read a volume and take its gradient apart; training compiles them."""

    lookup: Callable[..., Tensor] = window_lookup
    gradient: Callable[..., tuple[Tensor, Tensor]] = window_gradient


class _Volume:
    """One level: its values and, on the way back, the gradient of all lookups together."""

    def __init__(self, values: Tensor, size: tuple[int, int], functions: WindowFunctions) -> None:
        self.values = values.detach()
        self.size = size
        self.functions = functions
        self.gradient: Tensor | None = None

    def add_gradient(self, gradient: Tensor, centers: Tensor, radius: int) -> None:
        index, spread = self.functions.gradient(gradient, centers, radius, self.size)
        if self.gradient is None:
            self.gradient = torch.zeros_like(self.values)
        self.gradient.scatter_add_(2, index, spread.to(self.values.dtype))


class _Anchor(torch.autograd.Function):
    """Stands for a volume in the graph; its backward runs after that of every lookup."""

    @staticmethod
    def forward(ctx, values: Tensor, volume: _Volume) -> Tensor:
        ctx.volume = volume
        return values.new_zeros(())

    @staticmethod
    def backward(ctx, _: Tensor) -> tuple[Tensor | None, None]:
        gradient, ctx.volume.gradient = ctx.volume.gradient, None
        return gradient, None


class _Lookup(torch.autograd.Function):
    """Reads a volume; writes its gradient into one buffer that all lookups share."""

    @staticmethod
    def forward(ctx, token: Tensor, volume: _Volume, centers: Tensor, radius: int) -> Tensor:
        ctx.volume, ctx.radius = volume, radius
        ctx.save_for_backward(centers)
        return volume.functions.lookup(volume.values, centers, radius, volume.size)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.volume.add_gradient(gradient, ctx.saved_tensors[0], ctx.radius)
        return gradient.new_zeros(()), None, None, None


class CorrelationPyramid:
    """Correlation of query features with a picture's features at halving resolutions."""

    def __init__(
        self,
        queries: Float[Tensor, "batch query channel"],
        picture: Float[Tensor, "batch channel height width"],
        levels: int,
        radius: int,
        functions: WindowFunctions | None = None,
    ) -> None:
        """Computes the volumes.

        Args:
            queries: features of the rendering at the body's cells.
            picture: features of the frame, same channels.
            levels: number of levels; each halves the picture.
            radius: of the window that `at` reads on each level.
            functions: compiled forms of the window functions.
        """
        self.radius = radius
        functions = functions or WindowFunctions()
        self._levels: list[tuple[Tensor, _Volume]] = []
        scale = queries.shape[2] ** -0.5
        for level in range(levels):
            if level:
                picture = functional.avg_pool2d(picture, 2)
            values = torch.bmm(queries * scale, picture.flatten(2))
            volume = _Volume(values, (picture.shape[2], picture.shape[3]), functions)
            self._levels.append((_Anchor.apply(values, volume), volume))

    @property
    def levels(self) -> list[tuple[Tensor, tuple[int, int]]]:
        """Each level's volume (batch, query, cell), and its picture's height and width."""
        return [(volume.values, volume.size) for _, volume in self._levels]

    def at(self, centers: Float[Tensor, "batch query 2"]) -> Float[Tensor, "batch query tap"]:
        """Windows of all levels about the centres, which are in cells of the finest level."""
        windows = []
        for level, (token, volume) in enumerate(self._levels):
            scaled = (centers + 0.5) / 2**level - 0.5
            windows.append(_Lookup.apply(token, volume, scaled, self.radius))
        return torch.cat(windows, dim=2)
