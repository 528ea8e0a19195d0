# SPDX-License-Identifier: Apache-2.0
"""Pictures of what the network sees and says, for people who watch a training.

A row is a sample: frame, rendering with the personal texture, predicted displacement, true
displacement, error. Displacements are colour wheels: the hue tells the direction, the strength of
the colour the length; white is none. Errors run from dark over red to yellow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..displacement.inputs import MODALITY_CHANNELS
from .batch import TrainingBatch

__all__ = ["color_wheel", "error_colors", "sample_sheet"]

BACKGROUND = 0.16
GAP = 4
"""Pixels between pictures."""


def color_wheel(
    displacement: Float[Tensor, "batch 2 height width"],
    mask: Bool[Tensor, "batch height width"],
    longest: Float[Tensor, " batch"],
) -> Float[Tensor, "batch 3 height width"]:
    """Displacements as colours, 0 to 1.

    Args:
        displacement: pixels, x right and y down.
        mask: where it counts; dark grey elsewhere.
        longest: length of full colour in each sample, pixels.
    """
    angle = torch.atan2(displacement[:, 1], displacement[:, 0])
    strength = displacement.norm(dim=1) / longest[:, None, None].clamp_min(1e-6)
    strength = strength.clamp(0, 1)
    turn = angle.new_tensor([0.0, 2 * np.pi / 3, -2 * np.pi / 3])[:, None, None]
    hue = (0.5 + 0.5 * torch.cos(angle[:, None] - turn)).clamp(0, 1)
    colors = 1.0 - strength[:, None] * (1.0 - hue)
    return torch.where(mask[:, None], colors, BACKGROUND)


def error_colors(
    error: Float[Tensor, "batch height width"],
    mask: Bool[Tensor, "batch height width"],
    largest: Float[Tensor, " batch"],
) -> Float[Tensor, "batch 3 height width"]:
    """Lengths of errors as colours, 0 to 1.

    Args:
        error: pixels.
        mask: where it counts; dark grey elsewhere.
        largest: error of full brightness in each sample, pixels.
    """
    share = (error / largest[:, None, None].clamp_min(1e-6)).clamp(0, 1)
    ramps = (0.05 + 1.6 * share, 0.05 + 1.5 * (share - 0.45), 0.25 * (1 - share))
    colors = torch.stack([ramp.clamp(0, 1) for ramp in ramps], dim=1)
    return torch.where(mask[:, None], colors, BACKGROUND)


def sample_sheet(
    batch: TrainingBatch, prediction: Float[Tensor, "batch 4 height width"]
) -> npt.NDArray[np.uint8]:
    """One picture of some samples, a row each.

    Args:
        batch: the samples.
        prediction: the network's last, of these samples.

    Returns:
        (height, width, 3) RGB. Full colour is each sample's longest true displacement (98% of its
        pixels are shorter), of predictions and errors alike.
    """
    mask = batch.mask
    lengths = batch.displacement.norm(dim=1)
    longest = torch.stack(
        [
            one[where].quantile(0.98) if where.any() else one.new_tensor(1.0)
            for one, where in zip(lengths, mask, strict=True)
        ]
    ).clamp_min(1.0)
    image, render = ((t[:, :3] + 1) / 2 for t in (batch.image, batch.render))
    render = torch.where(batch.render[:, 3:4] > 0.5, render, _shaded(batch.render))
    error = (prediction[:, :2] - batch.displacement).norm(dim=1)
    columns = [
        image, render, color_wheel(prediction[:, :2], mask, longest),
        color_wheel(batch.displacement, mask, longest), error_colors(error, mask, longest),
    ]  # fmt: skip
    padded = torch.nn.functional.pad(torch.stack(columns, 1), (0, GAP, 0, GAP), value=1.0)
    sheet = padded.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)[:-GAP, :-GAP]
    return (sheet.clamp(0, 1) * 255).round().byte().cpu().numpy()


def _shaded(render: Float[Tensor, "batch 12 height width"]) -> Float[Tensor, "batch 1 _ _"]:
    """The body in grey, lit from the camera: where the texture isn't known."""
    towards = -render[:, MODALITY_CHANNELS["normals"]][:, 2:]
    return render[:, MODALITY_CHANNELS["mask"]] * (0.1 + 0.4 * towards.clamp(0, 1))
