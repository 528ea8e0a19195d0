# SPDX-License-Identifier: Apache-2.0
"""A batch of training samples: what the network reads, and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..displacement.inputs import MODALITY_CHANNELS

__all__ = ["SyntheticModalities", "TrainingBatch", "mirrored"]


@dataclass(frozen=True)
class SyntheticModalities:
    """The fields of `posefit.modalities.Modalities`, from the generator's own rendering."""

    rgb: Float[Tensor, "batch 3 height width"]
    texture_valid: Float[Tensor, "batch 1 height width"]
    depth: Float[Tensor, "batch 1 height width"]
    normals: Float[Tensor, "batch 3 height width"]
    vertex_colors: Float[Tensor, "batch 3 height width"]
    mask: Float[Tensor, "batch 1 height width"]


@dataclass(frozen=True)
class TrainingBatch:
    """Samples of one batch on one device."""

    render: Float[Tensor, "batch 12 height width"]
    """Render channels (`displacement.inputs`)."""
    image: Float[Tensor, "batch 3 height width"]
    """Frame crops, −1..1."""
    displacement: Float[Tensor, "batch 2 height width"]
    """True displacement, crop pixels; zero off the body."""
    mask: Bool[Tensor, "batch height width"]
    """Body pixels that count."""
    visible: Bool[Tensor, "batch height width"]
    """Whether the surface point can be seen in the frame."""

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, in the order of the fields."""
        return (self.render, self.image, self.displacement, self.mask, self.visible)

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The same on another device."""
        return TrainingBatch(*(tensor.to(device) for tensor in self.tensors()))

    def samples(self, chosen: slice) -> TrainingBatch:
        """Some of the samples."""
        return TrainingBatch(*(tensor[chosen] for tensor in self.tensors()))


def mirrored(batch: TrainingBatch) -> TrainingBatch:
    """The batch seen in a mirror.

    The body is symmetric, so the mirror image of its rendering is the rendering of the mirrored
    pose: normals and displacements change the sign of x, and red, which tells left from right in
    the vertex colours, is reflected about its middle.
    """
    render, displacement = batch.render.flip(3), batch.displacement.flip(3)
    for name in ("normals", "vertex_colors"):
        render[:, MODALITY_CHANNELS[name].start].neg_()
    displacement[:, 0].neg_()
    return TrainingBatch(
        render,
        batch.image.flip(3),
        displacement,
        batch.mask.flip(2),
        batch.visible.flip(2),
    )
