# SPDX-License-Identifier: Apache-2.0
"""Meshes and cameras → fragments: which face each pixel sees, and where in it.

Second step of the path, after `body`; `modalities` turns fragments into pictures. Two backends
give the same fragments: Warp, which is the one in use, and PyTorch3D, which it is checked and
timed against. Each is imported when it is first asked for.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from .fragments import Fragments, PyTorch3DFragments

__all__ = [
    "NEAR_M",
    "Fragments",
    "PyTorch3DFragments",
    "accumulate",
    "interpolate",
    "rasterize",
]

NEAR_M = 0.01
"""Surface nearer to the camera than this is not drawn, metres."""


def rasterize(
    vertices_camera: Float[Tensor, "batch vertex 3"],
    faces: Int[Tensor, "face 3"],
    intrinsics: Float[Tensor, "batch 3 3"],
    image_size: tuple[int, int],
    *,
    backend: Literal["warp", "pytorch3d"] | str = "warp",
    face_mask: Bool[Tensor, "#batch face"] | Bool[Tensor, " face"] | None = None,
    near: float = NEAR_M,
) -> Fragments:
    """The nearest face at every pixel centre; both sides of a face count, no gradients.

    Triangles that cross the near plane are drawn as far as they lie beyond it. Faces with a vertex
    that is not a finite number are left out, and so are those seen exactly edge-on. Of two faces
    at the same depth the one with the lower id wins, on every device.

    Args:
        vertices_camera: OpenCV camera frame, metres.
        faces: vertex ids, shared by the batch.
        intrinsics: pinhole, pixels; the last row is (0, 0, 1).
        image_size: height and width, pixels.
        backend: `warp` or `pytorch3d` (must be installed).
        face_mask: False leaves a face out; for all images or one row for each.
        near: nearest camera z that is drawn, metres.

    Returns:
        Fragments on the vertices' device.

    Raises:
        ValueError: the backend is unknown.
    """
    if face_mask is not None and face_mask.ndim == 1:
        face_mask = face_mask[None]
    if backend == "warp":
        from .warp_backend import rasterize_warp as draw
    elif backend == "pytorch3d":
        from .pytorch3d_backend import rasterize_pytorch3d as draw
    else:
        raise ValueError(f"rasterizer backend is {backend!r}, expected 'warp' or 'pytorch3d'")
    return draw(vertices_camera, faces, intrinsics, image_size, face_mask, near)


def interpolate(
    fragments: Fragments,
    faces: Int[Tensor, "face 3"],
    attributes: Float[Tensor, "#batch vertex channel"],
) -> Float[Tensor, "batch height width channel"]:
    """Vertex attributes at every pixel; zero where no face is, no gradients.

    Args:
        fragments: of the mesh that the attributes belong to.
        faces: rows of `attributes` for each face's corners; with texture coordinates these are
            `ft`, not the faces that were drawn.
        attributes: for all images or one set for each.

    Returns:
        Channels last, on the fragments' device.
    """
    from .warp_backend import interpolate_warp

    return interpolate_warp(fragments, faces, attributes)


def accumulate(
    fragments: Fragments,
    faces: Int[Tensor, "face 3"],
    num_vertices: int,
    values: Float[Tensor, "batch height width channel"],
    counts: Bool[Tensor, "batch height width"],
) -> Float64[Tensor, "batch vertex channel"]:
    """Sums of pixels' values at the corners of their faces: `interpolate` the other way round.

    Args:
        fragments: of the mesh.
        faces: vertices of each face.
        num_vertices: of the mesh.
        values: of each pixel; finite where it counts.
        counts: pixels that are added; those that show no face never are.

    Returns:
        Sums weighted by barycentric coordinates, in float64: a coarse mesh in a large crop adds
        10⁵ pixels to one vertex.
    """
    if values.is_cuda:
        from .warp_backend import accumulate_warp

        return accumulate_warp(fragments, faces, num_vertices, values, counts)
    image, row, column = ((fragments.pix_to_face >= 0) & counts).nonzero(as_tuple=True)
    corners = faces.long()[fragments.pix_to_face[image, row, column].long()]
    bary = fragments.bary_coords[image, row, column].clamp_min(0.0)
    place = (corners + image[:, None] * num_vertices).flatten()
    batch, channels = len(values), values.shape[-1]
    sums = values.new_zeros(batch * num_vertices, channels, dtype=torch.float64)
    shares = (bary[..., None] * values[image, row, column][:, None]).flatten(0, 1).double()
    return sums.index_add_(0, place, shares).unflatten(0, (batch, num_vertices))
