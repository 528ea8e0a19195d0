# SPDX-License-Identifier: Apache-2.0
"""Many frames' colours → one map, without the frames that must not paint it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .observation import SurfaceColors
from .texels import TexelGrid
from .texture_map import Texture

__all__ = ["TexturePainter"]

_AGREEMENT = 0.12
"""Colours within this of the median, in every channel, are taken for the same surface."""
_BRIGHTNESS = (0.299, 0.587, 0.114)
"""Rec. 601 luma."""
_ENOUGH_WEIGHT = 0.5
"""Agreeing weight at which a texel is known to 63%."""


class TexturePainter:
    """Merges the same frames again and again, with another weight for each frame every time.

    Colours are sorted by brightness once; each map then costs a running sum over the sources. The
    merge is the colour of weighted median brightness, then the mean of the sources that agree with
    it: hands before the body, wrong poses and passers-by do not mix in, they are outvoted.
    """

    def __init__(self, grid: TexelGrid, colors: SurfaceColors) -> None:
        self._grid = grid
        self._colors = colors
        brightness = colors.rgb @ colors.rgb.new_tensor(_BRIGHTNESS)
        self._order: Int[Tensor, "source texel"] = brightness.argsort(dim=0)
        self._colors_by_texel = colors.rgb.transpose(0, 1).contiguous()

    @property
    def num_sources(self) -> int:
        """Frames that can paint."""
        return len(self._colors.weights)

    def paint(self, source_weights: Float[Tensor, " source"]) -> Float[Tensor, "4 size size"]:
        """The map that these sources paint: RGB, 0 to 1, and coverage, 0 to 1.

        Args:
            source_weights: of each frame; 0 leaves it out altogether.
        """
        weights = self._colors.weights * source_weights[:, None]
        median = self._weighted_median(weights)
        difference = (self._colors.rgb - median).abs().amax(-1)
        agreeing = weights * (difference < _AGREEMENT)
        total, agreed = weights.sum(0), agreeing.sum(0)
        mean = (agreeing[..., None] * self._colors.rgb).sum(0) / agreed.clamp_min(1e-9)[:, None]
        rgb = torch.where(agreed[:, None] > 0, mean, median)
        share = agreed / total.clamp_min(1e-9)
        coverage = share * (1.0 - torch.exp(-agreed / _ENOUGH_WEIGHT))
        return self._grid.as_image(rgb, torch.where(total > 1e-3, coverage, 0.0))

    def texture(self) -> Texture:
        """The map that all sources paint together."""
        everyone = self._colors.weights.new_ones(self.num_sources)
        image = self.paint(everyone)
        return Texture(image[:3].permute(1, 2, 0).contiguous(), image[3], self._grid.uv_hash)

    def _weighted_median(self, weights: Float[Tensor, "source texel"]) -> Float[Tensor, "texel 3"]:
        running = weights.gather(0, self._order).cumsum(0)
        below = (running < 0.5 * running[-1]).sum(0).clamp(max=self.num_sources - 1)
        source = self._order.gather(0, below[None])[0]
        return self._colors_by_texel[torch.arange(len(source), device=source.device), source]
