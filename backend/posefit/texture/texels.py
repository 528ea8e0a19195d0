# SPDX-License-Identifier: Apache-2.0
"""Where each texel of a texture map lies on a body's surface."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..body import BodyModel
from ..rasterizer import rasterize
from .texture_map import TextureError, uv_hash

__all__ = ["TexelGrid", "texel_grid"]

_GUTTER_TEXELS = 3
"""Texels beyond the edge of a UV island that repeat it: bilinear look-ups reach over the edge."""


@dataclass(frozen=True)
class TexelGrid:
    """The texels of a square map that lie on the surface."""

    size: int
    """Side of the map, texels."""
    uv_hash: str
    """Texture coordinates that the grid is of."""
    corners: Int[Tensor, "texel 3"]
    """Vertices of the face that each texel lies on."""
    bary_coords: Float[Tensor, "texel 3"]
    """Where it lies in that face."""
    nearest: Int[Tensor, "size size"]
    """The texel at, or nearest to, each place of the map."""
    is_painted: Bool[Tensor, "size size"]
    """Places on the surface, or in the gutter along its edge."""

    def __len__(self) -> int:
        return len(self.corners)

    def on_surface(
        self, values: Float[Tensor, "batch vertex channel"]
    ) -> Float[Tensor, "batch texel channel"]:
        """Vertex values at every texel."""
        return (values[:, self.corners] * self.bary_coords[..., None]).sum(2)

    def as_image(
        self, rgb: Float[Tensor, "texel 3"], coverage: Float[Tensor, " texel"]
    ) -> Float[Tensor, "4 size size"]:
        """Texel colours laid out as a map; unknown places continue the nearest known colour."""
        coverage_map = coverage[self.nearest] * self.is_painted
        rgb_map = rgb[self.nearest]
        known = (coverage_map > 0).cpu().numpy()
        if known.any() and not known.all():
            source = torch.from_numpy(_nearest_true(known)).to(rgb.device)
            rgb_map = rgb_map.reshape(-1, 3)[source]
        return torch.cat([rgb_map, coverage_map[..., None]], dim=-1).permute(2, 0, 1).contiguous()


def texel_grid(body: BodyModel, size: int = 256) -> TexelGrid:
    """The texels of a square map on a body.

    Args:
        body: must have texture coordinates.
        size: side of the map, texels.

    Raises:
        TextureError: the body has no texture coordinates, or they cover nothing.
    """
    identity = uv_hash(body)
    assert body.vt is not None, "uv_hash has refused bodies without"
    assert body.ft is not None, "uv_hash has refused bodies without"
    # the map seen from straight above: texel centres are pixel centres
    flat = torch.stack(
        [body.vt[:, 0] * size, (1 - body.vt[:, 1]) * size, torch.ones_like(body.vt[:, 0])], dim=-1
    )
    eye = torch.eye(3, device=flat.device, dtype=flat.dtype)[None]
    fragments = rasterize(flat[None], body.ft, eye, (size, size))
    faces = fragments.pix_to_face[0]
    on_surface = faces >= 0
    if not on_surface.any():
        raise TextureError(
            f"the texture coordinates of the body {body.name!r} cover no texel between 0 and 1: "
            "use a body file whose vt lie there"
        )
    places = torch.full((size, size), -1, dtype=torch.long, device=flat.device)
    places[on_surface] = torch.arange(int(on_surface.sum()), device=flat.device)
    mask = on_surface.cpu().numpy()
    nearest = torch.from_numpy(_nearest_true(mask)).to(flat.device)
    kernel = np.ones((2 * _GUTTER_TEXELS + 1,) * 2, np.uint8)
    painted = torch.from_numpy(cv2.dilate(mask.astype(np.uint8), kernel) > 0)
    return TexelGrid(
        size=size,
        uv_hash=identity,
        corners=body.faces[faces[on_surface].long()].long(),
        bary_coords=fragments.bary_coords[0][on_surface].to(body.dtype),
        nearest=places.reshape(-1)[nearest],
        is_painted=painted.to(flat.device),
    )


def _nearest_true(mask: np.ndarray) -> np.ndarray:
    """(H, W) flat index of the nearest True place of a mask that has one."""
    _, found = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = np.asarray(found, np.int64)
    place_of_label = np.zeros(labels.max() + 1, np.int64)
    place_of_label[labels[mask]] = np.flatnonzero(mask)
    return place_of_label[labels]
