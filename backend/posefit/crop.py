# SPDX-License-Identifier: Apache-2.0
"""Square crops of frames around the person, seen through an ideal pinhole camera.

Lens distortion is undone while the crop is sampled, so that everything after it (rendering,
displacement, solver) works with a pinhole camera in crop pixels. Which frames and poses are
cropped is the pipeline's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from posefit_shared import frames as coordinate_frames
from posefit_shared.frames import Camera

__all__ = ["Crop", "crop_frames", "crop_intrinsics", "square_boxes"]

_MAX_SUPERSAMPLING = 8
"""Samples along a crop pixel's side, at most: exact means for crops of up to 8 × their size."""


@dataclass(frozen=True)
class Crop:
    """Crops and the cameras that see them."""

    images: Float[Tensor, "batch 3 height width"]
    """RGB, 0 to 1; black where the source has no picture."""
    intrinsics: Float[Tensor, "batch 3 3"]
    """Pinhole cameras of the crops, pixels; `world_to_camera` stays the source's."""
    source_to_crop: Float[Tensor, "batch 3 3"]
    """Undistorted source pixels to crop pixels."""


def square_boxes(
    pixels: npt.ArrayLike, *, margin: float = 1.3, least_px: float = 16.0
) -> npt.NDArray[np.float64]:
    """Square boxes around projected points.

    Args:
        pixels: (B, N, 2) undistorted source pixels; points that are not finite are left out.
        margin: side of the box by the longer side of the points' bounds.
        least_px: smallest side.

    Returns:
        (B, 3) x and y of the centre and the side, source pixels; NaN where no point is finite.
    """
    points = np.array(pixels, dtype=np.float64)
    points[~np.isfinite(points).all(-1)] = np.nan
    boxes = np.full((len(points), 3), np.nan)
    for box, cloud in zip(boxes, points, strict=True):
        cloud = cloud[~np.isnan(cloud[:, 0])]
        if len(cloud):
            low, high = cloud.min(0), cloud.max(0)
            box[:2] = (low + high) / 2
            box[2] = max(margin * (high - low).max(), least_px)
    return boxes


def crop_intrinsics(
    intrinsics: npt.ArrayLike, boxes: npt.ArrayLike, size: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Pinhole intrinsics of crops, and the transform that leads to them.

    Args:
        intrinsics: (B, 3, 3) of the sources, pixels.
        boxes: (B, 3) centre and side, undistorted source pixels.
        size: side of the crop, pixels.

    Returns:
        Intrinsics (B, 3, 3) and source_to_crop (B, 3, 3).
    """
    boxes = np.asarray(boxes, np.float64)
    scale = size / boxes[:, 2]
    source_to_crop = np.zeros((len(boxes), 3, 3))
    source_to_crop[:, 0, 0] = source_to_crop[:, 1, 1] = scale
    source_to_crop[:, :2, 2] = size / 2 - boxes[:, :2] * scale[:, None]
    source_to_crop[:, 2, 2] = 1.0
    return source_to_crop @ np.asarray(intrinsics, np.float64), source_to_crop


def crop_frames(
    frames: Sequence[npt.NDArray[np.uint8]],
    boxes: npt.ArrayLike,
    cameras: Sequence[Camera],
    size: int,
    *,
    device: torch.device | str = "cpu",
) -> Crop:
    """Sample square crops; the mean over each crop pixel's area, lens distortion undone.

    Args:
        frames: B pictures (H, W, 3), RGB; sizes may differ.
        boxes: (B, 3) centre and side, undistorted source pixels, finite.
        cameras: of the pictures.
        size: side of the crops, pixels.
        device: where the crops go.

    Returns:
        The crops with their pinhole cameras.
    """
    boxes = np.asarray(boxes, np.float64)
    sources = np.stack([camera.intrinsics for camera in cameras])
    intrinsics, source_to_crop = crop_intrinsics(sources, boxes, size)
    images = np.stack(
        [
            _sample(frame, box, camera, size)
            for frame, box, camera in zip(frames, boxes, cameras, strict=True)
        ]
    )
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255.0
    return Crop(
        images=pixels.contiguous(),
        intrinsics=torch.tensor(intrinsics, dtype=torch.float32, device=device),
        source_to_crop=torch.tensor(source_to_crop, dtype=torch.float32, device=device),
    )


def _sample(
    frame: npt.NDArray[np.uint8], box: npt.NDArray[np.float64], camera: Camera, size: int
) -> npt.NDArray[np.uint8]:
    fine = size * min(max(1, math.ceil(box[2] / size)), _MAX_SUPERSAMPLING)
    steps = (np.arange(fine) + 0.5) * (box[2] / fine)
    if not np.any(camera.distortion):
        # cv2 counts from pixel centres, posefit from pixel corners.
        columns = (steps + box[0] - box[2] / 2 - 0.5).astype(np.float32)
        rows = (steps + box[1] - box[2] / 2 - 0.5).astype(np.float32)
        map_x, map_y = np.meshgrid(columns, rows)
    else:
        map_x, map_y = _distorted_maps(steps, box, camera)
    sampled = cv2.remap(frame, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    if fine == size:
        return np.asarray(sampled, np.uint8)
    shrunk = cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def _distorted_maps(
    steps: npt.NDArray[np.float64], box: npt.NDArray[np.float64], camera: Camera
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Where each sample of the ideal crop lies in the distorted picture, in cv2's pixel count.

    The lens map is smooth: it is evaluated on a coarse grid and interpolated between.
    """
    coarse = np.linspace(0.0, box[2], 33)
    grid = np.stack(np.meshgrid(coarse, coarse), axis=-1) + (box[:2] - box[2] / 2)
    k = camera.intrinsics
    ideal = (grid - k[:2, 2]) @ np.linalg.inv(k[:2, :2]).T
    bent = coordinate_frames.distort_points(camera.distortion, ideal) @ k[:2, :2].T + k[:2, 2]
    at = (steps / box[2] * 32).astype(np.float32)
    at_x, at_y = np.meshgrid(at, at)
    maps = cv2.remap(
        (bent - 0.5).astype(np.float32),
        at_x,
        at_y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    maps = np.asarray(maps, np.float32)
    return np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])
