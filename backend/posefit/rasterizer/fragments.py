# SPDX-License-Identifier: Apache-2.0
"""What rasterisation gives for each pixel: a face, a place in it, and a depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Fragments", "PyTorch3DFragments"]


class PyTorch3DFragments(NamedTuple):
    """PyTorch3D's `Fragments`, field by field, with one face per pixel."""

    pix_to_face: Int[Tensor, "batch height width 1"]
    """Face ids in the packed batch (mesh b's faces start at b · num_faces); −1 where empty."""
    zbuf: Float[Tensor, "batch height width 1"]
    """Camera z, metres; −1 where empty."""
    bary_coords: Float[Tensor, "batch height width 1 3"]
    """Perspective-correct barycentric coordinates; −1 where empty."""
    dists: Float[Tensor, "batch height width 1"] | None = None
    """Distances to the face's edges: not computed (no blending across edges here)."""


@dataclass(frozen=True)
class Fragments:
    """The nearest face at each pixel centre and the point of it that the pixel sees."""

    pix_to_face: Int[Tensor, "batch height width"]
    """int32 id of the face in its own mesh; −1 where no face is."""
    bary_coords: Float[Tensor, "batch height width 3"]
    """Perspective-correct: surface attributes are linear in them; −1 where no face is."""
    zbuf: Float[Tensor, "batch height width"]
    """Camera z of the surface point, metres; −1 where no face is."""

    def as_pytorch3d(self, num_faces: int) -> PyTorch3DFragments:
        """The same fragments in PyTorch3D's layout.

        Args:
            num_faces: faces of each mesh in the batch.
        """
        batch = len(self.pix_to_face)
        offsets = torch.arange(batch, device=self.pix_to_face.device) * num_faces
        ids = self.pix_to_face.long()
        packed = torch.where(ids >= 0, ids + offsets[:, None, None], ids)
        return PyTorch3DFragments(
            packed[..., None], self.zbuf[..., None], self.bary_coords[..., None, :]
        )
