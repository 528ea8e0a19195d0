# SPDX-License-Identifier: Apache-2.0
"""The frame, carried back by a flow, beside the rendered texture: evidence finer than a cell."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..gpu.choice import takes_kernels

__all__ = ["PhotometricEvidence", "carry_back"]


def carry_back(
    image: Float[Tensor, "batch channel height width"],
    flow: Float[Tensor, "batch 2 rows columns"],
) -> Float[Tensor, "batch channel rows columns"]:
    """What the frame shows where the flow of each pixel points; zero outside of it.

    Args:
        image: frame crops, or features of them.
        flow: x and y in pixels; a part's, counted from the frame's corner, if smaller.
    """
    height, width = image.shape[2:]
    x = torch.arange(flow.shape[3], device=image.device, dtype=torch.float32) + 0.5
    y = torch.arange(flow.shape[2], device=image.device, dtype=torch.float32) + 0.5
    places = torch.stack(
        [(x + flow[:, 0]) * (2.0 / width) - 1.0, (y[:, None] + flow[:, 1]) * (2.0 / height) - 1.0],
        dim=3,
    )
    return functional.grid_sample(
        image.float(), places, mode="bilinear", padding_mode="zeros", align_corners=False
    )


class PhotometricEvidence(nn.Module):
    """What texture and carried-back frame, pixel by pixel, say about a flow; starts at zero."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        """Makes the layers.

        Args:
            channels: of the hidden layer.
            outputs: channels of the evidence.
            stride: pixels per cell of the flow.
        """
        super().__init__()
        self.stride = stride
        self.first = nn.Conv2d(7 * stride * stride, channels, 3, 1, 1)
        self.last = nn.Conv2d(channels, outputs, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore

    def forward(
        self,
        image: Float[Tensor, "batch 3 height width"],
        texture: Float[Tensor, "batch 4 height2 width2"],
        flow: Float[Tensor, "batch 2 rows columns"],
    ) -> Float[Tensor, "batch output rows columns"]:
        """The evidence at each cell.

        Args:
            image: frame crops about zero.
            texture: rendered texture about zero, and where it is known, of the flow's cells.
            flow: in cells, as `carry_back` takes it; no gradient passes into it.
        """
        if takes_kernels(flow):
            from ..gpu.matching import carried_cells  # Warp takes half a second to import

            cells = carried_cells(image, texture, flow, self.stride, self.first.weight.dtype)
        else:
            cells = self._cells(image, texture, flow)
        return self.last(functional.relu(self.first(cells)))

    def _cells(self, image: Tensor, texture: Tensor, flow: Tensor) -> Tensor:
        """`gpu.matching.carried_cells`, with gradients."""
        fine = functional.interpolate(
            flow.detach().float() * self.stride,
            scale_factor=float(self.stride),
            mode="bilinear",
            align_corners=False,
        )
        known = texture[:, 3:]
        carried = carry_back(image, fine).to(texture.dtype)
        pixels = torch.cat([carried * known, (carried - texture[:, :3]) * known, known], dim=1)
        return functional.pixel_unshuffle(pixels, self.stride)
