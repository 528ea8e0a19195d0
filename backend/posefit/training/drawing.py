# SPDX-License-Identifier: Apache-2.0
"""The rasterizer that training draws with: posefit's own, or one named on the command line.

Machines that train may lack Warp; a module with the two functions of `Drawing` stands in for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Drawing", "Drawn", "load_drawing"]


@dataclass(frozen=True)
class Drawn:
    """Which face each pixel shows, and where on it."""

    pix_to_face: Int[Tensor, "batch height width"]
    """Face, or −1."""
    bary_coords: Float[Tensor, "batch height width 3"]
    """Perspective-correct coordinates within the face."""
    zbuf: Float[Tensor, "batch height width"]
    """Camera depth in metres, −1 where nothing is."""


@dataclass(frozen=True)
class Drawing:
    """Two functions with the signatures of `posefit.rasterizer`'s."""

    rasterize: Callable[..., Any]
    """`(vertices_camera, faces, intrinsics, image_size, *, face_mask)` → `Drawn` or the like."""
    interpolate: Callable[..., Tensor]
    """`(fragments, faces, attributes)` → (batch, height, width, channel)."""


def load_drawing(name: str | None = None) -> Drawing:
    """The two functions of posefit's rasterizer, or of a module.

    Args:
        name: a module that has `rasterize` and `interpolate`; None takes posefit's own.
    """
    module = importlib.import_module(name or "posefit.rasterizer")
    return Drawing(module.rasterize, module.interpolate)
