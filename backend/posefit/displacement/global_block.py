# SPDX-License-Identifier: Apache-2.0
"""Attention over a whole feature map; starts as the identity."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GlobalBlock"]


class GlobalBlock(nn.Module):
    """Where things are (depthwise convolution), what is elsewhere (attention), and an MLP.

    Each of the three is a residual whose last layer starts at zero, so that the block can be put
    into a trained network without changing what it says.

    Source: conditional positions after Chu et al. (ICLR 2023); pre-normalised attention.
    """

    def __init__(self, channels: int, head_channels: int = 32, expansion: int = 3) -> None:
        """Makes the layers.

        Args:
            channels: of the feature map; a multiple of `head_channels` if larger.
            head_channels: of each attention head.
            expansion: width of the MLP in channels of the map.
        """
        super().__init__()
        self.heads = max(1, channels // head_channels)
        self.position = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        self.attention_norm = nn.LayerNorm(channels)
        self.attention_inputs = nn.Linear(channels, 3 * channels)
        self.attention_output = nn.Linear(channels, channels)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp_input = nn.Linear(channels, expansion * channels)
        self.mlp_output = nn.Linear(expansion * channels, channels)
        for layer in (self.position, self.attention_output, self.mlp_output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # pyright: ignore

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """The map with what the block adds."""
        height, width = x.shape[2:]
        x = x + self.position(x)
        cells = x.flatten(2).transpose(1, 2)
        parts = self.attention_inputs(self.attention_norm(cells)).chunk(3, dim=2)
        query, key, value = (p.unflatten(2, (self.heads, -1)).transpose(1, 2) for p in parts)
        found = functional.scaled_dot_product_attention(query, key, value)
        cells = cells + self.attention_output(found.transpose(1, 2).flatten(2))
        cells = cells + self.mlp_output(functional.gelu(self.mlp_input(self.mlp_norm(cells))))
        return cells.transpose(1, 2).unflatten(2, (height, width))
