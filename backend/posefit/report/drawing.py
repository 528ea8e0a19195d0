# SPDX-License-Identifier: Apache-2.0
"""Pictures of bodies for the report: over the footage, from the front, the side and above, in heat.

Bodies that stand alone are drawn with a transparent ground, so that a page can be light or dark.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from posefit_shared.frames import Camera, project

from ..body import BodyModel, vertex_normals
from ..overlay import render_overlay, shade
from ..rasterizer import interpolate, rasterize

__all__ = [
    "AFTER_COLOR",
    "BEFORE_COLOR",
    "crop_box",
    "data_uri",
    "draw_alone",
    "draw_over",
    "heat_colors",
    "look_from",
    "same_shape",
]

RgbImage = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

BEFORE_COLOR = (0.98, 0.57, 0.20)
"""Bodies as they came in: amber."""
AFTER_COLOR = (0.36, 0.72, 0.86)
"""Bodies as they came out: blue-green, told from amber by the colour-blind as well."""
_DISTANCE_M = 30.0
"""From so far away, with a long lens, a view is all but parallel."""
_SUPERSAMPLING = 2


def data_uri(image: RgbImage, *, quality: int = 84) -> str:
    """A picture as the text of an `src` attribute: JPEG for RGB, WebP for RGBA."""
    buffer = io.BytesIO()
    if image.shape[-1] == 4:
        Image.fromarray(image).save(buffer, "WEBP", quality=90, method=4)
        kind = "webp"
    else:
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def crop_box(
    bodies: Sequence[npt.NDArray[np.float32]], camera: Camera, *, margin: float = 0.14
) -> tuple[int, int, int, int]:
    """x0 y0 x1 y1 inside the picture that shows all these bodies (V, 3) with some room.

    Bodies that are behind the camera or outside the picture give the whole picture.
    """
    width, height = camera.image_size
    pixels, depth = project(camera, np.concatenate(bodies))
    pixels = pixels[depth > 0.05]
    if not len(pixels):
        return 0, 0, width, height
    low = np.clip(pixels.min(axis=0), 0, camera.image_size)
    high = np.clip(pixels.max(axis=0), 0, camera.image_size)
    room = margin * float(max(*(high - low), 1.0))
    x0, y0 = np.maximum(low - room, 0).astype(int)
    x1, y1 = np.minimum(high + room, camera.image_size).astype(int)
    if x1 - x0 < 32 or y1 - y0 < 32:
        return 0, 0, width, height
    return int(x0), int(y0), int(x1), int(y1)


def same_shape(
    boxes: Sequence[tuple[int, int, int, int]], size: tuple[int, int]
) -> list[tuple[int, int, int, int]]:
    """The boxes grown to the shape of the largest, inside a picture of `size` (width, height)."""
    corners = np.array(boxes)
    sides = np.minimum((corners[:, 2:] - corners[:, :2]).max(axis=0), size)
    middle = (corners[:, :2] + corners[:, 2:]) / 2
    low = np.clip((middle - sides / 2).round(), 0, np.array(size) - sides).astype(int)
    return [(int(x), int(y), int(x + sides[0]), int(y + sides[1])) for x, y in low]


def draw_over(
    frame: RgbImage,
    vertices: npt.NDArray[np.float32],
    camera: Camera,
    body: BodyModel,
    *,
    color: tuple[float, float, float],
    box: tuple[int, int, int, int],
    height: int,
    alpha: float = 0.8,
) -> RgbImage:
    """A cut-out of a frame with the body over it.

    Args:
        frame: (H, W, 3) RGB.
        vertices: (V, 3) world.
        camera: that took the frame.
        body: the body model.
        color: RGB of the body, 0 to 1.
        box: x0 y0 x1 y1 of the cut-out.
        height: of the result at most, pixels.
        alpha: 0 shows the frame alone.
    """
    x0, y0, x1, y1 = box
    cut = shrink(frame[y0:y1, x0:x1], height)
    scale = np.array([cut.shape[1] / (x1 - x0), cut.shape[0] / (y1 - y0)])
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] -= (x0, y0)
    intrinsics[:2] *= scale[:, None]
    size = (cut.shape[1], cut.shape[0])
    small = Camera(intrinsics, camera.world_to_camera, size, camera.distortion)
    posed = torch.as_tensor(vertices, device=body.device)[None]
    return render_overlay(cut, posed, small, body, color=color, alpha=alpha)


def shrink(image: RgbImage, height: int) -> RgbImage:
    """The picture at most `height` pixels tall, with even sides."""
    scale = min(height / image.shape[0], 1.0)
    size = [max(int(side * scale) // 2 * 2, 2) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def look_from(direction: str, up: Array, facing: Array) -> Array:
    """(3, 3) rotation of the world into a camera's frame that looks at a person.

    Args:
        direction: `front`, `side` (their left) or `top`.
        up: (3,) unit.
        facing: (3,) where the person looks; only its part across `up` counts.
    """
    forward = facing - up * (facing @ up)
    length = np.linalg.norm(forward)
    forward = forward / length if length > 1e-6 else np.cross(up, [1.0, 0.0, 0.0])
    left = np.cross(up, forward)
    if direction == "front":
        axes = np.stack([left, -up, -forward])
    elif direction == "side":
        axes = np.stack([-forward, -up, -left])
    else:
        axes = np.stack([-left, -forward, -up])
    return axes


def draw_alone(
    vertices: npt.NDArray[np.float32],
    body: BodyModel,
    rotation: Array,
    *,
    middle: Array,
    span_m: float,
    size: int,
    color: tuple[float, float, float] | None = None,
    vertex_colors: npt.NDArray[np.float32] | None = None,
) -> RgbImage:
    """A body on a transparent ground, seen from far away.

    Args:
        vertices: (V, 3) metres.
        body: for its faces.
        rotation: (3, 3) into the camera's axes (OpenCV).
        middle: (3,) point in the picture's middle.
        span_m: metres from edge to edge.
        size: side of the picture, pixels.
        color: RGB, 0 to 1; or:
        vertex_colors: (V, 3) RGB, 0 to 1.

    Returns:
        (size, size, 4) RGBA.
    """
    fine = size * _SUPERSAMPLING
    seen = (vertices - middle) @ rotation.T + [0.0, 0.0, _DISTANCE_M]
    focal = fine * _DISTANCE_M / span_m
    intrinsics = torch.tensor([[[focal, 0, fine / 2], [0, focal, fine / 2], [0, 0, 1.0]]])
    points = torch.as_tensor(seen[None], dtype=torch.float32, device=body.device)
    fragments = rasterize(points, body.faces, intrinsics.to(body.device), (fine, fine))
    normals = interpolate(fragments, body.faces, vertex_normals(points, body.faces))
    places = interpolate(fragments, body.faces, points)
    rgb = shade(torch.nn.functional.normalize(normals, dim=-1), places, color or (1.0, 1.0, 1.0))
    if vertex_colors is not None:
        painted = torch.as_tensor(vertex_colors[None], dtype=torch.float32, device=body.device)
        rgb = interpolate(fragments, body.faces, painted) * (0.25 + 0.75 * rgb)
    covered = (fragments.pix_to_face[0] >= 0).float()[..., None]
    rgba = torch.cat([rgb[0] * covered, covered], dim=-1).cpu().numpy()
    small = cv2.resize(rgba, (size, size), interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-3)
    return (small.clip(0, 1) * 255).round().astype(np.uint8)


_HEAT = np.array(
    [
        [0.20, 0.32, 0.55],
        [0.25, 0.58, 0.62],
        [0.85, 0.82, 0.50],
        [0.93, 0.55, 0.28],
        [0.78, 0.18, 0.20],
    ]
)
"""Blue over green and yellow to red, of rising and then falling lightness."""


def heat_colors(values: npt.NDArray[np.floating], top: float) -> npt.NDArray[np.float32]:
    """(N, 3) colours for values (N,): blue at 0, red at `top` and above."""
    place = np.clip(np.asarray(values, np.float64) / max(top, 1e-9), 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    share = (place - low)[:, None]
    return ((1 - share) * _HEAT[low] + share * _HEAT[low + 1]).astype(np.float32)
