# SPDX-License-Identifier: Apache-2.0
"""Bodies drawn over frames for people to look at: reports, previews, overlay videos."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from posefit_shared import frames as coordinate_frames
from posefit_shared.frames import Camera

from .body import BodyModel, vertex_normals
from .rasterizer import Fragments, interpolate, rasterize

__all__ = ["CLAY", "render_overlay", "shade"]

CLAY = (0.62, 0.72, 0.86)
"""The colour bodies have by default, RGB, 0 to 1."""

_SUPERSAMPLING = 2
_LIGHTS = (
    # direction towards the light in the OpenCV camera frame, strength
    ((-0.6, -0.7, -0.6), 0.72),
    ((0.9, -0.1, -0.6), 0.26),
    ((0.2, 0.9, -0.3), 0.10),
)
"""Key from the upper left, fill from the right, a little light back from the floor."""
_AMBIENT = 0.18
_RIM = 0.22
"""Brightening towards the outline, so that the body stands out from a ground of its colour."""
_CREASE_M = 0.05
"""Steps in depth of this much get a darker line: an arm before the body."""


def shade(
    normals: Float[Tensor, "batch height width 3"],
    points: Float[Tensor, "batch height width 3"],
    color: tuple[float, float, float] = CLAY,
) -> Float[Tensor, "batch height width 3"]:
    """Matt surface under three soft lights that move with the camera.

    Args:
        normals: unit, OpenCV camera frame.
        points: OpenCV camera frame, metres.
        color: RGB, 0 to 1.

    Returns:
        RGB, 0 to 1.
    """
    light = torch.full_like(normals[..., 0], _AMBIENT)
    for direction, strength in _LIGHTS:
        towards = torch.nn.functional.normalize(normals.new_tensor(direction), dim=0)
        wrapped = (((normals * towards).sum(-1) + 0.25) / 1.25).clamp(min=0.0)
        light = light + strength * wrapped
    view = -torch.nn.functional.normalize(points, dim=-1)
    grazing = 1.0 - (normals * view).sum(-1).clamp(0.0, 1.0)
    rim = _RIM * grazing.pow(3.0)
    return (normals.new_tensor(color) * light[..., None] + rim[..., None]).clamp(0.0, 1.0)


def render_overlay(
    frame: npt.NDArray[np.uint8],
    vertices: Float[Tensor, "person vertex 3"],
    camera: Camera,
    body: BodyModel,
    *,
    color: tuple[float, float, float] = CLAY,
    alpha: float = 0.75,
    backend: str = "warp",
) -> npt.NDArray[np.uint8]:
    """A frame with posed bodies drawn over it, lens distortion and all.

    Args:
        frame: (H, W, 3) RGB.
        vertices: posed bodies, world, metres; nearer ones cover those behind.
        camera: that took the frame.
        body: whose faces they have.
        color: RGB, 0 to 1.
        alpha: 0 shows the frame alone, 1 the bodies alone.
        backend: `warp` or `pytorch3d`.

    Returns:
        (H, W, 3) RGB, a new picture.
    """
    if len(vertices) == 0:
        return frame.copy()
    in_camera, faces = _one_mesh(vertices, body, camera)
    region = _region(in_camera[0], camera)
    if region is None:
        return frame.copy()
    x0, y0, x1, y1 = region
    intrinsics = in_camera.new_tensor(camera.intrinsics)
    intrinsics[:2, 2] -= intrinsics.new_tensor([x0, y0])
    intrinsics[:2] *= _SUPERSAMPLING
    size = ((y1 - y0) * _SUPERSAMPLING, (x1 - x0) * _SUPERSAMPLING)
    fragments = rasterize(in_camera, faces, intrinsics[None], size, backend=backend)
    fine = _layer(fragments, faces, in_camera, color)
    layer = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    layer = _through_lens(layer, region, camera)
    weight = alpha * layer[..., 3:]
    # the layer's colour is already multiplied by its coverage
    blended = frame.astype(np.float32) * (1.0 - weight) + 255.0 * alpha * layer[..., :3]
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def _one_mesh(
    vertices: Float[Tensor, "person vertex 3"], body: BodyModel, camera: Camera
) -> tuple[Tensor, Tensor]:
    """All bodies as one mesh in the camera frame: (1, P V, 3) and (P F, 3)."""
    world_to_camera = torch.tensor(
        camera.world_to_camera, dtype=vertices.dtype, device=vertices.device
    )
    in_camera = vertices @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    people, count = vertices.shape[:2]
    offsets = torch.arange(people, device=vertices.device) * count
    faces = (body.faces[None] + offsets[:, None, None]).reshape(-1, 3)
    return in_camera.reshape(1, -1, 3), faces


def _layer(
    fragments: Fragments, faces: Tensor, in_camera: Tensor, color: tuple[float, float, float]
) -> npt.NDArray[Any]:
    """(H, W, 4) shaded colour times coverage, and coverage, at the fragments' resolution."""
    normals = vertex_normals(in_camera, faces)
    # shading vertices instead of pixels spares nine tenths of the work and looks the same
    rgb = shade(normals[:, None], in_camera[:, None], color)[:, 0]
    painted = interpolate(fragments, faces, torch.cat([rgb, torch.ones_like(rgb[..., :1])], -1))
    shaded = painted[0] * (fragments.pix_to_face[0] >= 0)[..., None]
    layer = shaded.cpu().numpy().astype(np.float32)
    depth = fragments.zbuf[0].cpu().numpy()
    kernel = np.ones((3, 3), np.uint8)
    behind = (depth - cv2.erode(depth, kernel) > _CREASE_M) & (cv2.erode(depth, kernel) > 0)
    layer[behind, :3] *= 0.6
    return layer


def _region(
    in_camera: Float[Tensor, "point 3"], camera: Camera
) -> tuple[int, int, int, int] | None:
    """The part x0, y0, x1, y1 of the ideal picture that bodies touch; None where none is seen."""
    margin = _lens_margin(camera)
    low = np.array([-margin, -margin])
    high = np.array(camera.image_size) + margin
    points = in_camera.double().cpu().numpy()
    if (points[:, 2] > 0.1).all():
        pixels = points @ camera.intrinsics.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        bottom = np.floor(pixels.min(0)).astype(int) - 1
        top = np.ceil(pixels.max(0)).astype(int) + 1
        low, high = np.clip(bottom, low, high), np.clip(top, low, high)
    elif not (points[:, 2] > 0).any():
        return None
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _lens_margin(camera: Camera) -> int:
    """Pixels that the ideal picture must be wider on each side to fill the distorted one."""
    if not np.any(camera.distortion):
        return 0
    size = np.array(camera.image_size)
    edge = np.stack(np.meshgrid(*np.linspace(0, size, 9).T), -1)
    ideal = coordinate_frames.undistort_points(camera, edge)
    beyond = max(-ideal.min(), (ideal - size).max())
    return int(np.clip(np.ceil(beyond) + 1, 0, size.max() // 4))


def _through_lens(
    layer: npt.NDArray[Any], region: tuple[int, int, int, int], camera: Camera
) -> npt.NDArray[Any]:
    """A region of the ideal picture as the lens shows it, in the whole frame."""
    width, height = camera.image_size
    x0, y0, x1, y1 = region
    if not np.any(camera.distortion):
        whole = np.zeros((height, width, 4), np.float32)
        whole[y0:y1, x0:x1] = layer
        return whole
    # the lens map is smooth: worked out on a coarse grid, interpolated between
    steps = 65
    coarse = np.stack(
        np.meshgrid(np.linspace(0, width, steps), np.linspace(0, height, steps)), axis=-1
    )
    ideal = coordinate_frames.undistort_points(camera, coarse) - [x0 + 0.5, y0 + 0.5]
    at_x, at_y = np.meshgrid(
        ((np.arange(width) + 0.5) / width * (steps - 1)).astype(np.float32),
        ((np.arange(height) + 0.5) / height * (steps - 1)).astype(np.float32),
    )
    maps = cv2.remap(ideal.astype(np.float32), at_x, at_y, cv2.INTER_LINEAR)
    return cv2.remap(
        layer, np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1]),
        cv2.INTER_LINEAR,
    )  # fmt: skip
