# SPDX-License-Identifier: Apache-2.0
"""PyTorch3D's rasteriser behind the same interface: the reference that Warp is checked against.

PyTorch3D is not a dependency of posefit; this module is imported only when it is asked for.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from pytorch3d.renderer.mesh.rasterize_meshes import (  # pyright: ignore[reportMissingImports]
    rasterize_meshes,
)
from pytorch3d.structures import Meshes  # pyright: ignore[reportMissingImports]
from torch import Tensor

from .fragments import Fragments

__all__ = ["rasterize_pytorch3d", "to_ndc"]


def to_ndc(
    vertices_camera: Float[Tensor, "batch vertex 3"],
    intrinsics: Float[Tensor, "batch 3 3"],
    image_size: tuple[int, int],
) -> Float[Tensor, "batch vertex 3"]:
    """Vertices as `rasterize_meshes` wants them: NDC x to the left, y up, and camera z.

    The image's shorter side spans [−1, 1]; posefit's pixel (u, v) has its origin at the corner.
    """
    height, width = image_size
    homogeneous = vertices_camera @ intrinsics.transpose(1, 2)
    depth = homogeneous[..., 2:]
    # a vertex in the camera plane has no projection; the near clip replaces it anyway
    pixels = homogeneous[..., :2] / torch.where(depth.abs() < 1e-8, 1e-8, depth)
    centre = pixels.new_tensor([width / 2, height / 2])
    return torch.cat([(centre - pixels) * (2 / min(height, width)), depth], dim=-1)


def rasterize_pytorch3d(
    vertices_camera: Float[Tensor, "batch vertex 3"],
    faces: Int[Tensor, "face 3"],
    intrinsics: Float[Tensor, "batch 3 3"],
    image_size: tuple[int, int],
    face_mask: Bool[Tensor, "#batch face"] | None,
    near: float,
) -> Fragments:
    """`rasterize` by PyTorch3D; see the package for the contract."""
    device = vertices_camera.device
    batch, (height, width) = len(vertices_camera), image_size
    points, faces = vertices_camera.detach().float(), faces.long()
    drawn = torch.isfinite(points)[:, faces].all(dim=-1).all(dim=-1)
    if face_mask is not None:
        drawn = drawn & face_mask
    kept = [torch.nonzero(row)[:, 0] for row in drawn]
    if batch == 0 or height == 0 or width == 0 or not drawn.any():
        shape = (batch, height, width)
        return Fragments(
            torch.full(shape, -1, dtype=torch.int32, device=device),
            torch.full((*shape, 3), -1.0, device=device),
            torch.full(shape, -1.0, device=device),
        )
    ndc = to_ndc(torch.nan_to_num(points, 0.0, 0.0, 0.0), intrinsics.float(), image_size)
    meshes = Meshes(verts=list(ndc), faces=[faces[ids] for ids in kept])
    packed, zbuf, bary, _ = rasterize_meshes(
        meshes,
        image_size=image_size,
        faces_per_pixel=1,
        perspective_correct=True,
        z_clip_value=near,
        cull_backfaces=False,
    )
    own_ids = torch.cat(kept)
    packed = packed[..., 0]
    pix_to_face = torch.where(packed >= 0, own_ids[packed.clamp(min=0)], packed)
    return Fragments(pix_to_face.int(), bary[..., 0, :], zbuf[..., 0])
