# SPDX-License-Identifier: Apache-2.0
"""Layers that both networks are built of: residual blocks, encoders, convex upsampling."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .global_block import GlobalBlock

__all__ = [
    "GLOBAL_LEVEL",
    "OUTPUTS",
    "STRIDE",
    "ContextEncoder",
    "Residual",
    "conv_norm",
    "convex_upsample",
    "feature_trunk",
]

STRIDE = 4
"""Pixels per cell."""
GLOBAL_LEVEL = 3
"""Level of the context encoder that attends to the whole picture: 1/16."""
OUTPUTS = 4
"""Channels of a prediction: displacement x and y (pixels), log scale, visibility logit."""


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(inputs, outputs, 3, stride),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.shortcut(x) + self.body(x))


def feature_trunk(inputs: int, channels: tuple[int, int, int]) -> nn.Sequential:
    """Full resolution → features at 1/4."""
    half, quarter, last = channels
    return nn.Sequential(
        conv_norm(inputs, half, 7, 2),
        Residual(half, half),
        Residual(half, quarter, 2),
        Residual(quarter, quarter),
        Residual(quarter, last),
    )


class ContextEncoder(nn.Module):
    """U-Net from full resolution down to 1/32 and back up to 1/4, attention at 1/16."""

    def __init__(
        self, inputs: int, outputs: int, channels: tuple[int, ...], global_blocks: int
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm(inputs, channels[0], 7, 2), Residual(channels[0], channels[0])
        )
        steps = list(zip(channels[:-1], channels[1:], strict=True))
        self.down = nn.ModuleList(
            nn.Sequential(Residual(fine, coarse, 2), Residual(coarse, coarse))
            for fine, coarse in steps
        )
        self.everywhere = nn.Sequential(
            *(GlobalBlock(channels[GLOBAL_LEVEL]) for _ in range(global_blocks))
        )
        self.up = nn.ModuleList(
            nn.Sequential(conv_norm(coarse + fine, fine), Residual(fine, fine))
            for fine, coarse in reversed(steps[1:])
        )
        self.output = nn.Conv2d(channels[1], outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for level, down in enumerate(self.down, start=1):
            x = down(x)
            if level == GLOBAL_LEVEL:
                x = self.everywhere(x)
            skips.append(x)
        for up, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = up(
                torch.cat(
                    [functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1
                )
            )
        return self.output(x)


def convex_upsample(
    values: Float[Tensor, "batch channel height width"],
    weights: Float[Tensor, "batch weight height width"],
) -> Float[Tensor, "batch channel height4 width4"]:
    """Four times finer values, each a weighted mean of the 3×3 coarse ones around it.

    Args:
        values: coarse values.
        weights: 9 × 16 logits per cell: neighbours, then the 4×4 pixels of the cell.
    """
    batch, channels, height, width = values.shape
    shares = weights.float().view(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(dim=2)
    padded = functional.pad(values.float(), (1, 1, 1, 1), mode="replicate")
    neighbours = functional.unfold(padded, 3).view(batch, channels, 9, 1, 1, height, width)
    fine = (shares * neighbours).sum(dim=2)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, STRIDE * height, STRIDE * width)
