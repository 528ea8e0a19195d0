# SPDX-License-Identifier: Apache-2.0
"""The U-Net for machines without a GPU: frame crop and renderings → displacement fields.

It starts at a quarter of the resolution (4×4 pixels become channels) and computes mostly at 1/16,
where wide layers and attention are cheap. The rendered texture helps in two places, both through
one encoder for texture and frame: at 1/8 the two are correlated about where the body is drawn, and
at 1/4 about where the first prediction puts it, beside the frame itself, carried back pixel by
pixel. No step depends on the pictures' contents, so that it exports to ONNX as it is.

Source: coarse to fine with carried features after PWC-Net (Sun et al., CVPR 2018); convex
upsampling after RAFT (Teed and Deng, ECCV 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .global_block import GlobalBlock
from .inputs import MODALITY_CHANNELS, RENDER_CHANNELS
from .layers import OUTPUTS, STRIDE, Residual, conv_norm, convex_upsample
from .photometric import PhotometricEvidence, carry_back

__all__ = ["UNet", "UNetConfig", "local_correlation"]


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the U-Net."""

    channels: tuple[int, int, int] = (64, 128, 256)
    """Channels at 1/4, 1/8 and 1/16."""
    appearance_channels: int = 32
    """Channels of the features in which texture and frame are correlated."""
    coarse_radius: int = 4
    """Radius of the correlation at 1/8, in cells."""
    fine_radius: int = 3
    """Radius of the correlation at 1/4 about the first prediction, in cells."""
    photometric_channels: int = 32
    """Channels of what the texture, laid over the frame, adds at 1/4."""
    global_blocks: int = 3
    """Attention blocks at 1/16."""


def local_correlation(
    queries: Float[Tensor, "batch channel height width"],
    picture: Float[Tensor, "batch channel height width"],
    radius: int,
) -> Float[Tensor, "batch tap height width"]:
    """Inner products of each query with the picture's (2r+1)² cells about it, zero outside.

    Rows are multiplied with rows; a row of products is then read with one cell more per line, which
    moves the band about its diagonal to the front. That needs no gather.

    Args:
        queries: features, one query a cell.
        picture: features to find them in.
        radius: r.

    Returns:
        Products divided by √channels; taps row after row (y outer, x inner).
    """
    batch, channels, height, width = queries.shape
    side, padded_width = 2 * radius + 1, width + 2 * radius
    padded = functional.pad(picture, (radius, radius, radius, radius))
    keys = torch.stack([padded[:, :, dy : dy + height] for dy in range(side)], dim=1)
    lines = (queries * channels**-0.5).permute(0, 2, 3, 1)[:, None]
    products = torch.matmul(lines, keys.permute(0, 1, 3, 2, 4))
    products = functional.pad(products.flatten(3), (0, width))
    band = products.view(batch, side, height, width, padded_width + 1)[..., :side]
    return band.permute(0, 1, 4, 2, 3).flatten(1, 2)


def _in_pixels(prediction: Tensor, cell_px: int) -> Tensor:
    """A head's output with its displacement, which is in cells, in pixels."""
    flow, rest = prediction.float().split((2, OUTPUTS - 2), dim=1)
    return torch.cat([flow * cell_px, rest], dim=1)


class UNet(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        quarter, eighth, sixteenth = config.channels
        pixels, half = STRIDE * STRIDE, quarter // 2
        self.appearance = nn.Sequential(
            conv_norm(3 * pixels, 48),
            conv_norm(48, 48),
            nn.Conv2d(48, config.appearance_channels, 1),
        )
        self.stem = nn.Sequential(
            conv_norm((RENDER_CHANNELS + 3) * pixels, quarter, 1), Residual(quarter, quarter)
        )
        self.to_eighth = conv_norm(quarter, eighth, 3, 2)
        self.at_eighth = nn.Sequential(
            conv_norm(eighth + _taps(config.coarse_radius), eighth, 1), Residual(eighth, eighth)
        )
        self.at_sixteenth = nn.Sequential(
            conv_norm(eighth, sixteenth, 3, 2),
            Residual(sixteenth, sixteenth),
            *(GlobalBlock(sixteenth) for _ in range(config.global_blocks)),
            conv_norm(sixteenth, eighth, 1),
        )
        self.back_at_eighth = nn.Sequential(conv_norm(2 * eighth, eighth), Residual(eighth, eighth))
        self.coarse_head = nn.Conv2d(eighth, OUTPUTS, 3, 1, 1)
        self.shrink = conv_norm(eighth, quarter, 1)
        self.matched = conv_norm(_taps(config.fine_radius) + OUTPUTS, half, 1)
        self.photometric = PhotometricEvidence(config.photometric_channels, half, STRIDE)
        self.back_at_quarter = nn.Sequential(
            conv_norm(2 * quarter + 2 * half, quarter), Residual(quarter, quarter)
        )
        self.fine_head = nn.Sequential(
            conv_norm(quarter, 2 * quarter), nn.Conv2d(2 * quarter, OUTPUTS + 9 * pixels, 1)
        )

    def forward(
        self,
        render: Float[Tensor, "batch 12 height width"],
        image: Float[Tensor, "batch 3 height width"],
    ) -> list[Float[Tensor, "batch 4 rows columns"]]:
        """The prediction at 1/8 and the one at full resolution.

        Args:
            render: render channels of `inputs.network_inputs`; sides divisible by 16.
            image: frame crops about zero.

        Returns:
            Displacement (x, y; pixels), log scale (log pixels) and visibility logit.
        """
        own, seen = self._appearances(render, image)
        cells = functional.pixel_unshuffle(torch.cat([render, image], dim=1), STRIDE)
        skip = self.stem(cells)
        context = self._at_coarse(skip, own, seen)
        coarse = _in_pixels(self.coarse_head(context), 2 * STRIDE)
        start = functional.interpolate(
            coarse, scale_factor=2.0, mode="bilinear", align_corners=False
        )
        context = functional.interpolate(self.shrink(context), scale_factor=2.0, mode="nearest")
        matched = self._matches_at(own, seen, start.detach())
        texture = render[:, MODALITY_CHANNELS["texture"]]
        laid_over = self.photometric(image, texture, start[:, :2] / STRIDE)
        change = self.fine_head(
            self.back_at_quarter(torch.cat([context, skip, matched, laid_over], dim=1))
        )
        fine = start + _in_pixels(change[:, :OUTPUTS], STRIDE)
        return [coarse, convex_upsample(fine, change[:, OUTPUTS:] * 0.25)]

    def compile_regions(self) -> None:
        """Compiles the whole network: it has no step that depends on the data."""
        self.compile(dynamic=False)

    def _appearances(self, render: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the rendered texture and of the frame at 1/4, by the same encoder."""
        texture = render[:, MODALITY_CHANNELS["texture"]][:, :3]
        both = functional.pixel_unshuffle(torch.cat([texture, image], dim=0), STRIDE)
        own, seen = self.appearance(both).chunk(2, dim=0)
        return own, seen

    def _at_coarse(self, skip: Tensor, own: Tensor, seen: Tensor) -> Tensor:
        """Features at 1/8, after 1/16, from those at 1/4 and the correlation at 1/8."""
        own, seen = (functional.avg_pool2d(features, 2) for features in (own, seen))
        taps = local_correlation(own, seen, self.config.coarse_radius)
        down = self.at_eighth(torch.cat([self.to_eighth(skip), taps], dim=1))
        up = functional.interpolate(self.at_sixteenth(down), scale_factor=2.0, mode="nearest")
        return self.back_at_eighth(torch.cat([up, down], dim=1))

    def _matches_at(self, own: Tensor, seen: Tensor, start: Tensor) -> Tensor:
        """What the correlation at 1/4 says about a prediction."""
        carried = carry_back(seen, start[:, :2] / STRIDE).to(own.dtype)
        taps = local_correlation(own, carried, self.config.fine_radius)
        return self.matched(torch.cat([taps, start.to(taps.dtype)], dim=1))


def _taps(radius: int) -> int:
    return (2 * radius + 1) ** 2
