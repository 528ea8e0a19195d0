# SPDX-License-Identifier: Apache-2.0
"""Coordinate frames, cameras, and the only functions that change between them.

| frame | axes |
|---|---|
| world | right-handed, z up, metres (Blender's and AMASS's) |
| Blender camera | looks along −z, y up, x right |
| OpenCV camera | looks along +z, y down, x right (files and wire) |
| PyTorch3D camera | looks along +z, y up, x left |
| SMPL rest pose | y up, looks along +z |

Pixels: x right, y down; the centre of pixel (i, j) is at (i + 0.5, j + 0.5), so an unshifted
principal point is (W / 2, H / 2). Transforms are named target last and act on column vectors:
`points_camera = apply(world_to_camera, points_world)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "OPENCV_TO_BLENDER_CAMERA",
    "OPENCV_TO_PYTORCH3D_CAMERA",
    "YUP_TO_ZUP",
    "Camera",
    "apply",
    "blender_to_opencv_camera",
    "camera_fault",
    "distort_points",
    "intrinsics_from_blender",
    "invert",
    "lens_from_intrinsics",
    "opencv_to_blender_camera",
    "project",
    "undistort_points",
    "unproject",
]

Array = npt.NDArray[np.float64]

OPENCV_TO_BLENDER_CAMERA: Array = np.diag([1.0, -1.0, -1.0, 1.0])
"""Points of an OpenCV camera frame in Blender's camera frame; its own inverse."""

OPENCV_TO_PYTORCH3D_CAMERA: Array = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Points of an OpenCV camera frame in PyTorch3D's view frame; its own inverse."""

YUP_TO_ZUP: Array = np.array(
    [[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]], dtype=np.float64
)
"""A y-up world's points in a z-up world: a quarter turn about x."""


RIGID_TOLERANCE = 0.02
"""How far a rotation's rows may be from orthonormal: files round."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with OpenCV's lens distortion; everything in float64."""

    intrinsics: Array
    """(3, 3) focal lengths and principal point, pixels."""
    world_to_camera: Array
    """(4, 4) rigid transform of world points into the OpenCV camera frame, metres."""
    image_size: tuple[int, int]
    """Width and height, pixels."""
    distortion: Array = field(default_factory=lambda: np.zeros(5))
    """(5,) OpenCV's k1 k2 p1 p2 k3."""

    def __post_init__(self) -> None:
        for name, shape in (
            ("intrinsics", (3, 3)),
            ("world_to_camera", (4, 4)),
            ("distortion", (5,)),
        ):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN or infinity, expected finite numbers")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        width, height = (int(n) for n in self.image_size)
        if width <= 0 or height <= 0:
            raise ValueError(f"image_size is {self.image_size}, expected positive width and height")
        object.__setattr__(self, "image_size", (width, height))
        if fault := camera_fault(self.intrinsics, self.world_to_camera):
            raise ValueError(fault)

    def cut(self, x: int, y: int, size: tuple[int, int]) -> Camera:
        """The same camera for a part of its picture; what was checked is not checked again.

        Args:
            x, y: the part's first pixel.
            size: its width and height, positive.
        """
        intrinsics = self.intrinsics.copy()
        intrinsics[:2, 2] -= (x, y)
        intrinsics.setflags(write=False)
        part = object.__new__(Camera)
        part.__dict__.update(self.__dict__, intrinsics=intrinsics, image_size=size)
        return part

    @property
    def position(self) -> Array:
        """(3,) where the camera stands in the world."""
        return invert(self.world_to_camera)[:3, 3]


def camera_fault(
    intrinsics: npt.ArrayLike | None = None, world_to_camera: npt.ArrayLike | None = None
) -> str:
    """What makes cameras unusable, in a clause; empty where nothing does.

    Args:
        intrinsics: (…, 3, 3) pixels; None where it is not asked for.
        world_to_camera: (…, 4, 4), likewise.
    """
    if intrinsics is not None:
        k = np.asarray(intrinsics, dtype=np.float64)
        if not np.isfinite(k).all():
            return "intrinsics holds NaN or infinity, expected finite numbers"
        fx, fy = k[..., 0, 0], k[..., 1, 1]
        if (fx <= 0).any() or (fy <= 0).any():
            return f"focal lengths are {fx.min():g} and {fy.min():g} pixels, expected positive ones"
        skewed = np.abs(k[..., 0, 1] * k[..., 1, 0]) > 0.5 * fx * fy
        if skewed.any() or (np.abs(k[..., 2, :] - [0, 0, 1]) > 1e-6).any():
            return "intrinsics are no pinhole camera's, expected rows (fx s cx), (0 fy cy), (0 0 1)"
    if world_to_camera is not None:
        matrix = np.asarray(world_to_camera, dtype=np.float64)
        if not np.isfinite(matrix).all():
            return "world_to_camera holds NaN or infinity, expected finite numbers"
        turn = np.clip(matrix[..., :3, :3], -1e6, 1e6)
        off = np.abs(turn @ np.swapaxes(turn, -1, -2) - np.eye(3)).max(initial=0.0)
        is_last_row = np.abs(matrix[..., 3, :] - [0, 0, 0, 1]).max(initial=0.0) <= 1e-6
        if off > RIGID_TOLERANCE or not is_last_row or (np.linalg.det(turn) < 0).any():
            return (
                "world_to_camera is no rigid motion, expected a rotation (no scale, no mirror), a "
                "shift, and a last row of (0 0 0 1)"
            )
    return ""


def apply(transform: npt.ArrayLike, points: npt.ArrayLike) -> Array:
    """Points (…, 3) after a (4, 4) transform."""
    transform = np.asarray(transform, dtype=np.float64)
    points = np.asarray(points, dtype=np.float64)
    return points @ transform[:3, :3].T + transform[:3, 3]


def invert(transform: npt.ArrayLike) -> Array:
    """The inverse of a rigid transform (…, 4, 4)."""
    transform = np.asarray(transform, dtype=np.float64)
    rotation = np.swapaxes(transform[..., :3, :3], -1, -2)
    inverse = np.zeros_like(transform)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ transform[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def blender_to_opencv_camera(matrix_world: npt.ArrayLike) -> Array:
    """`world_to_camera` (…, 4, 4) of a Blender camera object's `matrix_world` (…, 4, 4).

    The object's scale is dropped, as Blender does when it renders.
    """
    matrix = np.array(matrix_world, dtype=np.float64)
    matrix[..., :3, :3] /= np.linalg.norm(matrix[..., :3, :3], axis=-2, keepdims=True)
    return OPENCV_TO_BLENDER_CAMERA @ invert(matrix)


def opencv_to_blender_camera(world_to_camera: npt.ArrayLike) -> Array:
    """A Blender camera's `matrix_world` (4, 4) for `world_to_camera` (4, 4)."""
    return invert(OPENCV_TO_BLENDER_CAMERA @ np.asarray(world_to_camera, dtype=np.float64))


def intrinsics_from_blender(
    *,
    lens_mm: float,
    sensor_width_mm: float,
    sensor_height_mm: float,
    sensor_fit: str,
    shift_x: float,
    shift_y: float,
    image_size: tuple[int, int],
    pixel_aspect: tuple[float, float] = (1.0, 1.0),
) -> Array:
    """Intrinsics (3, 3) in pixels of a Blender perspective camera.

    Args:
        lens_mm: `camera.lens`.
        sensor_width_mm, sensor_height_mm: `camera.sensor_width`, `camera.sensor_height`.
        sensor_fit: `AUTO`, `HORIZONTAL` or `VERTICAL`.
        shift_x, shift_y: `camera.shift_x`, `camera.shift_y`, in units of the fitted side.
        image_size: width and height of the picture, pixels.
        pixel_aspect: `render.pixel_aspect_x`, `render.pixel_aspect_y`.

    Source: Blender's BKE_camera_params_compute_viewplane: the fitted side of the picture, in
        pixels corrected for their aspect, spans the sensor.
    """
    width, height = image_size
    aspect_x, aspect_y = pixel_aspect
    fit = sensor_fit
    if fit == "AUTO":
        fit = "HORIZONTAL" if width * aspect_x >= height * aspect_y else "VERTICAL"
        sensor = sensor_width_mm
    else:
        sensor = sensor_width_mm if fit == "HORIZONTAL" else sensor_height_mm
    side = width * aspect_x if fit == "HORIZONTAL" else height * aspect_y
    focal = lens_mm / sensor * side
    return np.array(
        [
            [focal / aspect_x, 0.0, width / 2 - shift_x * side / aspect_x],
            [0.0, focal / aspect_y, height / 2 + shift_y * side / aspect_y],
            [0.0, 0.0, 1.0],
        ]
    )


def lens_from_intrinsics(
    intrinsics: npt.ArrayLike, image_size: tuple[int, int], sensor_width_mm: float = 36.0
) -> dict[str, float]:
    """Blender's lens, shift and pixel aspect for intrinsics (3, 3), with horizontal sensor fit.

    Returns:
        `lens_mm`, `sensor_width_mm`, `shift_x`, `shift_y`, `pixel_aspect_x`, `pixel_aspect_y`.
    """
    k = np.asarray(intrinsics, dtype=np.float64)
    width, height = image_size
    # fy = focal / aspect_y and fx = focal / aspect_x; Blender wants both aspects at least 1.
    ratio = k[0, 0] / k[1, 1]
    aspect_x, aspect_y = (1.0, ratio) if ratio >= 1 else (1.0 / ratio, 1.0)
    side = width * aspect_x
    return {
        "lens_mm": float(k[0, 0] * aspect_x * sensor_width_mm / side),
        "sensor_width_mm": sensor_width_mm,
        "shift_x": float((width / 2 - k[0, 2]) * aspect_x / side),
        "shift_y": float((k[1, 2] - height / 2) * aspect_y / side),
        "pixel_aspect_x": float(aspect_x),
        "pixel_aspect_y": float(aspect_y),
    }


def distort_points(distortion: npt.ArrayLike, points: npt.ArrayLike) -> Array:
    """Where an ideal image-plane point (…, 2), z = 1, lands through the lens.

    Source: OpenCV's camera model with k1 k2 p1 p2 k3 (calib3d documentation).
    """
    k1, k2, p1, p2, k3 = np.asarray(distortion, dtype=np.float64)
    x, y = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def project(camera: Camera, points_world: npt.ArrayLike) -> tuple[Array, Array]:
    """Pixels and depths of world points, lens distortion included.

    Args:
        camera: the camera.
        points_world: (…, 3) metres.

    Returns:
        Pixels (…, 2), and camera depth (…,) in metres; pixels mean something where depth > 0.
    """
    points_camera = apply(camera.world_to_camera, points_world)
    depth = points_camera[..., 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    ideal = points_camera[..., :2] / safe[..., None]
    return _to_pixels(camera.intrinsics, distort_points(camera.distortion, ideal)), depth


def undistort_points(camera: Camera, pixels: npt.ArrayLike, iterations: int = 20) -> Array:
    """Where pixels (…, 2) would lie without lens distortion, in the same intrinsics.

    Source: the fixed-point iteration that OpenCV's undistortPoints uses.
    """
    pixels = np.asarray(pixels, dtype=np.float64)
    distorted = _from_pixels(camera.intrinsics, pixels)
    if not np.any(camera.distortion):
        return pixels.copy()
    ideal = distorted.copy()
    for _ in range(iterations):
        ideal = ideal + distorted - distort_points(camera.distortion, ideal)
    return _to_pixels(camera.intrinsics, ideal)


def unproject(camera: Camera, pixels: npt.ArrayLike, depth: npt.ArrayLike) -> Array:
    """World points (…, 3) seen at pixels (…, 2) at camera depth (…,) in metres."""
    ideal = _from_pixels(camera.intrinsics, undistort_points(camera, pixels))
    depth = np.asarray(depth, dtype=np.float64)[..., None]
    points_camera = np.concatenate([ideal, np.ones_like(depth)], axis=-1) * depth
    return apply(invert(camera.world_to_camera), points_camera)


def _to_pixels(intrinsics: Any, ideal: Array) -> Array:
    k = np.asarray(intrinsics, dtype=np.float64)
    return ideal @ k[:2, :2].T + k[:2, 2]


def _from_pixels(intrinsics: Any, pixels: Array) -> Array:
    k = np.asarray(intrinsics, dtype=np.float64)
    return (pixels - k[:2, 2]) @ np.linalg.inv(k[:2, :2]).T
