# SPDX-License-Identifier: Apache-2.0
"""What one frame shows of a person's surface, under the pose it is believed to be in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from ..body import BodyModel, vertex_normals
from ..gpu.upload import upload
from ..rasterizer import Fragments, rasterize
from .texels import TexelGrid

__all__ = ["SurfaceColors", "observe_surface"]

_LEAST_COSINE = 0.2
"""Surface turned further away from the camera than this is smeared over too few pixels."""
_DEPTH_TOLERANCE_M = 0.02
"""Depth by which a texel may lie behind the nearest surface and still be that surface."""
_DEPTH_JUMP_M = 0.05
"""A larger step between neighbouring pixels is an outline: beyond it lies another surface."""
_SAFE_DISTANCE = 0.015
"""Distance from an outline, as a share of the crop's side, from which on a colour is trusted:
a pose that is wrong by less does not paint the background onto the body."""
_STRAIGHT, _DIAGONAL = 0.955, 1.3693
"""Lengths of steps to a neighbour by which OpenCV's distance transform measures (mask size 3)."""
_REFERENCE_PX_PER_M = 150.0
"""Resolution at which a frame counts fully."""


@dataclass(frozen=True)
class SurfaceColors:
    """Colours that frames show of each texel."""

    rgb: Float[Tensor, "source texel 3"]
    """0 to 1."""
    weights: Float[Tensor, "source texel"]
    """Trust in each: 0 where the texel is not seen, about 1 where it is seen well."""

    @staticmethod
    def join(parts: list[SurfaceColors]) -> SurfaceColors:
        """Several frames' colours as one."""
        return SurfaceColors(
            torch.cat([part.rgb for part in parts]), torch.cat([part.weights for part in parts])
        )


def observe_surface(
    grid: TexelGrid,
    body: BodyModel,
    vertices: Float[Tensor, "source vertex 3"],
    images: Float[Tensor, "source 3 height width"],
    world_to_camera: Float[Tensor, "source 4 4"],
    intrinsics: Float[Tensor, "source 3 3"],
    person: Float[Tensor, "source height width"] | None = None,
    hide: Callable[[Fragments], Fragments] | None = None,
) -> SurfaceColors:
    """Colours of the surface that faces the camera, unhidden by the body itself.

    The weight falls with the angle of view, with distance, towards outlines (a wrong pose shows
    the background there) and off the person mask.

    Args:
        grid: texels to look up.
        body: whose surface it is.
        vertices: posed as each frame's estimate says, world, metres.
        images: crops seen through ideal pinhole cameras, RGB, 0 to 1.
        world_to_camera: OpenCV cameras.
        intrinsics: of the crops, pixels.
        person: 1 where the person is seen, 0 on background and occluders.
        hide: empties fragments that somebody else hides.
    """
    size = (images.shape[2], images.shape[3])
    in_camera = (
        vertices @ world_to_camera[:, :3, :3].transpose(1, 2) + world_to_camera[:, None, :3, 3]
    )
    fragments = rasterize(in_camera, body.faces, intrinsics, size)
    if hide is not None:
        fragments = hide(fragments)
    trust = outline_trust(fragments)
    if person is not None:
        trust = trust * person
    points = grid.on_surface(in_camera)
    normals = torch.nn.functional.normalize(
        grid.on_surface(vertex_normals(in_camera, body.faces)), dim=-1
    )
    distance = points.norm(dim=-1)
    cosine = -(normals * points).sum(-1) / distance.clamp_min(1e-6)
    seen = points @ intrinsics.transpose(1, 2)
    depth = points[..., 2]
    is_ahead = depth > 1e-3
    pixels = seen[..., :2] / depth.clamp_min(1e-3)[..., None]
    grid_xy = pixels / upload(np.array(size[::-1]) / 2, pixels.device).to(pixels) - 1.0
    picture = torch.cat([images, trust[:, None]], dim=1).to(grid_xy.dtype)
    sampled = _sample(picture, grid_xy, "bilinear")
    surface = _sample(fragments.zbuf[:, None].to(grid_xy.dtype), grid_xy, "nearest")[..., 0]
    is_seen = (
        is_ahead
        & (grid_xy.abs() < 1).all(-1)
        & (surface > 0)
        & (depth < surface + _DEPTH_TOLERANCE_M)
    )
    px_per_m = 0.5 * (intrinsics[:, 0, 0] + intrinsics[:, 1, 1])[:, None] / distance.clamp_min(1e-3)
    density = (px_per_m / _REFERENCE_PX_PER_M).clamp(max=2.0).square().clamp(max=1.0)
    facing = ((cosine - _LEAST_COSINE) / (1.0 - _LEAST_COSINE)).clamp(min=0.0)
    weights = facing * density * sampled[..., 3] * is_seen
    return SurfaceColors(sampled[..., :3], weights)


def outline_trust(fragments: Fragments) -> Float[Tensor, "batch height width"]:
    """0 at the outlines of a rendered body and of its limbs before it, 1 well inside."""
    full = _SAFE_DISTANCE * fragments.zbuf.shape[2]
    if fragments.zbuf.device.type == "cuda":
        return (_distances_on_gpu(fragments.zbuf, full) / full).clamp(0, 1)
    zbuf = fragments.zbuf.cpu().numpy()
    trust = [np.clip(_distance_from_outlines(depth) / full, 0, 1) for depth in zbuf]
    stacked = np.stack(trust) if trust else np.zeros(zbuf.shape, np.float32)
    return torch.from_numpy(stacked.astype(np.float32)).to(fragments.zbuf.device)


def _distances_on_gpu(
    depth: Float[Tensor, "batch height width"], most: float
) -> Float[Tensor, "batch height width"]:
    """`_distance_from_outlines` of each image as far as `most` pixels; infinite further inside.

    In every step each pixel learns what its neighbours know.
    """
    depth = depth[:, None]
    jump = max_pool2d(depth, 3, 1, 1) + max_pool2d(-depth, 3, 1, 1) > _DEPTH_JUMP_M
    nearness = torch.where((depth > 0) & ~jump, -torch.inf, 0.0)
    for _ in range(math.ceil(most / _STRAIGHT)):
        beside = torch.maximum(
            max_pool2d(nearness, (1, 3), 1, (0, 1)), max_pool2d(nearness, (3, 1), 1, (1, 0))
        )
        around = torch.maximum(beside - _STRAIGHT, max_pool2d(nearness, 3, 1, 1) - _DIAGONAL)
        nearness = torch.maximum(nearness, around)
    return -nearness[:, 0]


def _distance_from_outlines(depth: np.ndarray) -> np.ndarray:
    """(H, W) pixels to the nearest pixel off the body or beside a jump in depth."""
    kernel = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(depth, kernel) - cv2.erode(depth, kernel) > _DEPTH_JUMP_M
    inside = ((depth > 0) & ~jump).astype(np.uint8)
    # a body that leaves the picture has no outline at the picture's edge
    return cv2.distanceTransform(inside, cv2.DIST_L2, 3)


def _sample(
    images: Float[Tensor, "batch channel height width"],
    grid_xy: Float[Tensor, "batch point 2"],
    mode: str,
) -> Float[Tensor, "batch point channel"]:
    sampled = grid_sample(
        images, grid_xy[:, None], mode=mode, padding_mode="border", align_corners=False
    )
    return sampled[:, :, 0].transpose(1, 2)
