# SPDX-License-Identifier: Apache-2.0
"""What every displacement estimator gives, and what it is called with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..modalities import Modalities

__all__ = ["DisplacementEstimator", "DisplacementField"]


@dataclass(frozen=True)
class DisplacementField:
    """Displacement of the body surface in a crop; meaningless off the rendered body."""

    displacement: Float[Tensor, "batch height width 2"]
    """From each pixel, where the estimate shows surface point s, to where s of the true body
    projects: crop pixels, x right and y down; also where s is hidden in the picture."""
    scale: Float[Tensor, "batch height width"]
    """How large its error may be: one σ in each direction, crop pixels."""
    visibility: Float[Tensor, "batch height width"]
    """Chance that the point can be seen in the picture, 0 to 1."""


@runtime_checkable
class DisplacementEstimator(Protocol):
    """Anything that predicts a displacement field."""

    name: str
    """What reports call it."""

    def predict(
        self, images: Float[Tensor, "batch 3 height width"], modalities: Modalities
    ) -> DisplacementField:
        """The field of each crop.

        Args:
            images: frame crops, RGB, 0 to 1.
            modalities: renderings of the current body in the same crops.
        """
        ...
