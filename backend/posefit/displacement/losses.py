# SPDX-License-Identifier: Apache-2.0
"""What the displacement network is trained to minimise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

__all__ = ["LossReport", "displacement_loss"]

LOG_SCALE_RANGE = (-3.0, 5.0)
"""Smallest and largest log scale that the likelihood knows (0.05 to 148 pixels)."""
ITERATION_DECAY = 0.8
"""Weight of a prediction against that of the next one."""
LIKELIHOOD_WEIGHT = 0.5
VISIBILITY_WEIGHT = 0.5
HIDDEN_WEIGHT = 0.55
"""Weight of a hidden surface point against that of a visible one."""


@dataclass(frozen=True)
class LossReport:
    """The loss and what is logged beside it; scalars on the device, without history."""

    loss: Tensor
    """To minimise; the only field with a gradient."""
    endpoint_error: Tensor
    """Mean length of the last prediction's error over the body, pixels."""
    visible_endpoint_error: Tensor
    """The same over visible points."""
    visibility_accuracy: Tensor
    """Share of body pixels whose visibility is told rightly."""


def displacement_loss(
    predictions: list[Float[Tensor, "batch 4 _ _"]],
    displacement: Float[Tensor, "batch 2 height width"],
    mask: Bool[Tensor, "batch height width"],
    visible: Bool[Tensor, "batch height width"],
) -> LossReport:
    """Absolute error, likelihood of the scale, and visibility, over all predictions.

    The scale b is trained by the Laplace likelihood of the error as it is,
    `(|dx|+|dy|)/b + 2 log b` with the error held fixed, so that the scale doesn't trade against
    the displacement.

    Args:
        predictions: of the network, coarse ones first, the last at full resolution.
        displacement: truth, pixels.
        mask: pixels that count.
        visible: whether their surface point is in sight.
    """
    weight = mask.float() * (HIDDEN_WEIGHT + (1 - HIDDEN_WEIGHT) * visible.float())
    total = displacement.new_zeros(())
    for index, prediction in enumerate(predictions):
        step = displacement.shape[-1] // prediction.shape[-1]
        start = step // 2
        truth, counts, seen = (
            t[..., start::step, start::step] for t in (displacement, weight, visible)
        )
        norm = counts.sum().clamp_min(1.0)
        error = (prediction[:, :2] - truth).abs().sum(1)
        log_scale = prediction[:, 2].clamp(*LOG_SCALE_RANGE)
        likelihood = error.detach() * torch.exp(-log_scale) + 2.0 * log_scale
        visibility = functional.binary_cross_entropy_with_logits(
            prediction[:, 3], seen.float(), reduction="none"
        )
        each = error + LIKELIHOOD_WEIGHT * likelihood + VISIBILITY_WEIGHT * visibility
        share = ITERATION_DECAY ** (len(predictions) - 1 - index)
        total = total + share * (each * counts).sum() / norm
    with torch.no_grad():
        last = predictions[-1]
        length = (last[:, :2] - displacement).norm(dim=1)
        area, seen_area = mask.sum().clamp_min(1), (mask & visible).sum().clamp_min(1)
        right = ((last[:, 3] > 0) == visible) & mask
        return LossReport(
            total,
            (length * mask).sum() / area,
            (length * (mask & visible)).sum() / seen_area,
            right.sum() / area,
        )
