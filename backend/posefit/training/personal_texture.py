# SPDX-License-Identifier: Apache-2.0
"""The person's texture as posefit gets it: from other frames, under wrong estimates.

For each pixel of an estimate's rendering, its surface point is looked up in the other frames of
the person, where *their* estimates put it, and the median of what is seen there is taken, channel
by channel. That is `posefit.texture` without the detour over a map: no texel is coarser or finer
than the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from .config import GeneratorConfig
from .draws import Draws

__all__ = ["Sources", "median_color", "sample_source_use", "source_attributes", "source_views"]

DEPTH_TOLERANCE_M = 0.03
FACING_COSINE = 0.2


@dataclass(frozen=True)
class Sources:
    """Frames as sources of texture."""

    pictures: Float[Tensor, "batch 5 height width"]
    """Colour, depth of the estimate's rendering (0 off the body), usable or not."""
    pixels: Float[Tensor, "batch vertex 2"]
    """Where each frame's estimate puts the vertices."""
    depth: Float[Tensor, "batch vertex 1"]
    """Their camera depth."""
    facing: Float[Tensor, "batch vertex 1"]
    """Cosine between normal and direction to the camera."""


def source_attributes(sources: Sources, frames: int) -> Float[Tensor, "batch vertex column"]:
    """For each frame, vertex attributes of the person's other frames side by side."""
    joined = torch.cat([sources.pixels, sources.depth, sources.facing], dim=2)
    people = joined.unflatten(0, (-1, frames))
    others = [people.roll(-shift, dims=1) for shift in range(1, frames)]
    return torch.cat(others, dim=3).flatten(0, 1)


def source_views(
    attributes: Float[Tensor, "batch height width column"],
    pictures: Float[Tensor, "batch 5 height width"],
    used: Bool[Tensor, "batch source"],
    frames: int,
) -> tuple[Float[Tensor, "source batch 3 height width"], Bool[Tensor, "source batch height width"]]:
    """What each other frame shows of the surface point at each pixel, and whether it sees it.

    Args:
        attributes: `source_attributes`, interpolated over the rendering.
        pictures: of all frames (`Sources.pictures`).
        used: which other frames each frame may use.
        frames: of each person.
    """
    size = pictures.shape[-1]
    colors, seen = [], []
    for shift in range(1, frames):
        own = attributes[..., 4 * (shift - 1) : 4 * shift]
        picture = pictures.unflatten(0, (-1, frames)).roll(-shift, dims=1).flatten(0, 1)
        grid = own[..., :2] * (2.0 / size) - 1.0
        taken = functional.grid_sample(picture, grid, padding_mode="zeros", align_corners=False)
        inside = (grid.abs() < 1).all(-1)
        in_sight = (own[..., 2] - taken[:, 3]).abs() < DEPTH_TOLERANCE_M
        facing = own[..., 3] > FACING_COSINE
        clear = taken[:, 4] > 0.5
        colors.append(taken[:, :3])
        seen.append(inside & in_sight & facing & clear & used[:, shift - 1, None, None])
    return torch.stack(colors), torch.stack(seen)


def median_color(
    colors: Float[Tensor, "source batch 3 height width"],
    seen: Bool[Tensor, "source batch height width"],
) -> tuple[Float[Tensor, "batch 3 height width"], Bool[Tensor, "batch height width"]]:
    """Lower median of the colours that are seen, channel by channel; grey where none is.

    Returns:
        Colours, and where at least one source sees the surface.
    """
    values = list(torch.where(seen[:, :, None], colors, 10.0).unbind(0))
    count = len(values)
    for step in range(count):  # odd-even transposition sort, the same on every pixel
        for first in range(step % 2, count - 1, 2):
            low = torch.minimum(values[first], values[first + 1])
            values[first + 1] = torch.maximum(values[first], values[first + 1])
            values[first] = low
    total = seen.sum(0)
    middle = (total - 1).clamp_min(0) // 2
    color = torch.zeros_like(values[0])
    for rank, value in enumerate(values):
        color = torch.where((middle == rank)[:, None], value, color)
    return torch.where((total > 0)[:, None], color, 0.5), total > 0


def sample_source_use(draws: Draws, config: GeneratorConfig) -> Bool[Tensor, "batch source"]:
    """Which other frames each frame may take its texture from: many, few, or none."""
    people, frames = config.people, config.frames
    share = draws.uniform(people, 1, 1, low=0.25, high=1.2)
    used = draws.uniform(people, frames, frames - 1) < share
    return (used & ~draws.happens(0.05, people, 1, 1)).flatten(0, 1)


def texture_jitter(
    draws: Draws, config: GeneratorConfig
) -> Callable[[Float[Tensor, "batch 3 height width"]], Float[Tensor, "batch 3 height width"]]:
    """A change of colours between texture and frame, as other light and exposure leave it."""
    batch = config.people * config.frames
    gain = torch.exp(draws.normal(batch, 3, 1, 1) * 0.05 + draws.normal(batch, 1, 1, 1) * 0.08)
    lift = draws.normal(batch, 3, 1, 1) * 0.015

    def change(texture: Tensor) -> Tensor:
        return (texture * gain + lift).clamp(0, 1)

    return change
