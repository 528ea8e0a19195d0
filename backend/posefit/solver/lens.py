# SPDX-License-Identifier: Apache-2.0
"""A camera's focal length and lens as unknowns: how they move the pixels of projected points.

Two numbers a frame: s, the logarithm of the focal length by the given one, and κ, a radial
coefficient beside the given lens. With q₀ the pixel that the given pinhole shows, from its
principal point c, and r² the squared distance from the axis at unit depth,

    u = c + a q₀,   a = eˢ (1 + κ r²)

Evidence is in pixels that are free of the given lens, so κ adds to the given k1 (to first order
where that is not zero), and a change of s leaves the lens's pixels where they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["CAMERA_UNKNOWNS", "Lens", "refined_pixels"]

CAMERA_UNKNOWNS = 2
"""Logarithm of the focal length, radial coefficient."""


@dataclass(frozen=True)
class Lens:
    """What a view's unknowns act on."""

    principal: Float[Tensor, "batch 2"]
    """Principal point, pixels."""
    focal: Float[Tensor, "batch 2"]
    """Given focal lengths, pixels."""

    @classmethod
    def of(cls, intrinsics: Float[Tensor, "batch 3 3"]) -> Lens:
        """The lens of given intrinsics."""
        focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], -1)
        return cls(intrinsics[:, :2, 2], focal)


def refined_pixels(
    pixels: Float[Tensor, "batch 2 point"],
    by_position: Float[Tensor, "batch 2 3 point"],
    lens: Lens,
    camera: Float[Tensor, "batch 2"],
) -> tuple[
    Float[Tensor, "batch 2 point"],
    Float[Tensor, "batch 2 3 point"],
    Float[Tensor, "batch 2 2 point"],
]:
    """Pixels under the unknowns, with derivatives.

    Args:
        pixels: where the given pinhole shows the points.
        by_position: d pixels / d position.
        lens: of the view.
        camera: s and κ of each frame.

    Returns:
        Pixels, d pixels / d position, and d pixels / d (s, κ) as (batch, unknown, xy, point).
    """
    offset = pixels - lens.principal[..., None]
    scaled = offset / lens.focal.square()[..., None]
    radius = (offset * scaled).sum(1, keepdim=True)
    grown = camera[:, 0].exp()[:, None, None]
    radial = camera[:, 1][:, None, None]
    factor = grown * (1.0 + radial * radius)
    # d r² / d position = 2 (q₀ / f²) · d q₀ / d position
    by_radius = 2.0 * torch.einsum("bpn,bpdn->bdn", scaled, by_position)
    moved = by_position * factor[:, None]
    moved = moved + (grown * radial * offset)[:, :, None] * by_radius[:, None]
    by_camera = torch.stack([offset * factor, offset * (grown * radius)], 1)
    return lens.principal[..., None] + offset * factor, moved, by_camera
