# SPDX-License-Identifier: Apache-2.0
"""Modalities and frame crop → what the displacement network reads.

Training and inference stack their channels with this one function, so that the network sees the
same numbers in both. All channels are about −1 … 1, and zero outside the rendered body.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = [
    "DEPTH_SCALE",
    "KNOWN_TEXTURE",
    "MODALITY_CHANNELS",
    "RENDER_CHANNELS",
    "RenderedModalities",
    "network_inputs",
    "without_modalities",
]

MODALITY_CHANNELS: dict[str, slice] = {
    "texture": slice(0, 4),
    "mask": slice(4, 5),
    "normals": slice(5, 8),
    "depth": slice(8, 9),
    "vertex_colors": slice(9, 12),
}
"""Which render channels each modality fills (texture: RGB and where it is known)."""

RENDER_CHANNELS = 12
"""Number of render channels."""

DEPTH_SCALE = 1.5
"""Channel value for each metre behind the body's mean depth in the picture."""

KNOWN_TEXTURE = 0.25
"""Texture that is known less well than this counts as unknown; the channel is 0 or 1."""


@runtime_checkable
class RenderedModalities(Protocol):
    """What `posefit.modalities.Modalities` offers; training fills the same fields."""

    @property
    def rgb(self) -> Float[Tensor, "batch 3 height width"]: ...
    @property
    def texture_valid(self) -> Tensor: ...
    @property
    def depth(self) -> Float[Tensor, "batch 1 height width"]: ...
    @property
    def normals(self) -> Float[Tensor, "batch 3 height width"]: ...
    @property
    def vertex_colors(self) -> Float[Tensor, "batch 3 height width"]: ...
    @property
    def mask(self) -> Tensor: ...


def network_inputs(
    images: Float[Tensor, "batch 3 height width"], modalities: RenderedModalities
) -> tuple[Float[Tensor, "batch 12 height width"], Float[Tensor, "batch 3 height width"]]:
    """The network's two inputs: stacked render channels, and the frame crop about zero.

    Depth is taken relative to its mean over the rendered body, so that neither the distance nor
    the body's root has to be known.

    Args:
        images: frame crops, 0..1.
        modalities: renderings of the current estimate in the same crop; depth in metres,
            normals in the OpenCV camera frame, colours 0..1.

    Returns:
        Render channels in the order of `MODALITY_CHANNELS`, zero off the body, and images −1..1.
    """
    mask = modalities.mask.to(images.dtype)
    valid = (modalities.texture_valid > KNOWN_TEXTURE).to(images.dtype) * mask
    area = mask.sum((1, 2, 3), keepdim=True).clamp_min(1.0)
    mean_depth = (modalities.depth * mask).sum((1, 2, 3), keepdim=True) / area
    render = torch.cat(
        [
            (modalities.rgb * 2.0 - 1.0) * valid,
            valid,
            mask,
            modalities.normals * mask,
            (modalities.depth - mean_depth) * DEPTH_SCALE * mask,
            (modalities.vertex_colors * 2.0 - 1.0) * mask,
        ],
        dim=1,
    )
    return render, images * 2.0 - 1.0


def without_modalities(
    render: Float[Tensor, "batch 12 height width"], dropped: dict[str, Bool[Tensor, " batch"]]
) -> Float[Tensor, "batch 12 height width"]:
    """Render channels with some modalities set to zero, sample by sample.

    Args:
        render: channels from `network_inputs`.
        dropped: for a modality's name, which samples lose it.

    Returns:
        A new tensor; modalities that aren't named stay.
    """
    keep = render.new_ones(render.shape[0], render.shape[1], 1, 1)
    for name, chosen in dropped.items():
        keep[:, MODALITY_CHANNELS[name]] *= (~chosen).to(render.dtype).view(-1, 1, 1, 1)
    return render * keep
