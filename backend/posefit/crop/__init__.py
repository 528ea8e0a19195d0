# SPDX-License-Identifier: Apache-2.0
"""Square crops of frames around the person, seen through an ideal pinhole camera.

OpenCV samples them on the CPU, a Warp kernel on a GPU. Lens distortion is undone on the way, so
that everything after it (rendering, displacement, solver) works with a pinhole camera in crop
pixels. Which frames and poses are cropped is the pipeline's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from posefit_shared.frames import Camera

from ..gpu.upload import upload
from .cv2_sampling import sample_cv2

__all__ = ["Crop", "boxes_around", "crop_frames", "crop_intrinsics", "square_boxes"]

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
    is_finite = np.asarray(np.isfinite(points).all(axis=-1))
    low = np.where(is_finite[..., None], points, np.inf).min(1, initial=np.inf)
    high = np.where(is_finite[..., None], points, -np.inf).max(1, initial=-np.inf)
    low[~is_finite.any(1)] = np.nan
    return boxes_around(low, high, margin=margin, least_px=least_px)


def boxes_around(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    *,
    margin: float = 1.3,
    least_px: float = 16.0,
) -> npt.NDArray[np.float64]:
    """Square boxes (B, 3) around bounds, as `square_boxes`; NaN where a bound is.

    Args:
        low, high: (B, 2) undistorted source pixels.
        margin: side of the box by the longer side of the bounds.
        least_px: smallest side.
    """
    side = np.maximum(margin * (high - low).max(1), least_px)
    return np.concatenate([(low + high) / 2, side[:, None]], axis=1)


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
    frames: Sequence[npt.NDArray[np.uint8] | Tensor],
    boxes: npt.ArrayLike,
    cameras: Sequence[Camera],
    size: int,
    *,
    device: torch.device | str = "cpu",
) -> Crop:
    """Sample square crops; the mean over each crop pixel's area, lens distortion undone.

    Crops for a GPU are sampled there (`warp_sampling` says how near they come to OpenCV's), and
    it is not waited for.

    Args:
        frames: B pictures (H, W, 3), uint8, RGB; sizes may differ. Arrays, or tensors, best on
            the device that the crops go to.
        boxes: (B, 3) centre and side, undistorted source pixels, finite.
        cameras: of the pictures.
        size: side of the crops, pixels.
        device: where the crops go.

    Returns:
        The crops with their pinhole cameras.
    """
    device = torch.device(device)
    boxes = np.asarray(boxes, np.float64)
    sources = np.stack([camera.intrinsics for camera in cameras])
    matrices = np.stack(crop_intrinsics(sources, boxes, size)).astype(np.float32)
    intrinsics, source_to_crop = upload(matrices, device)
    samples = np.clip(np.ceil(boxes[:, 2] / size), 1, _MAX_SUPERSAMPLING).astype(np.int64)
    if device.type == "cuda":
        from .warp_sampling import sample_warp

        images = sample_warp(frames, boxes, cameras, samples, size, device)
    else:
        crops = [
            sample_cv2(_on_host(frame), box, camera, count, size)
            for frame, box, camera, count in zip(
                frames, boxes, cameras, samples.tolist(), strict=True
            )
        ]
        images = torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2).float() / 255.0
    return Crop(images.contiguous(), intrinsics, source_to_crop)


def _on_host(frame: npt.NDArray[np.uint8] | Tensor) -> npt.NDArray[np.uint8]:
    return frame.cpu().numpy() if isinstance(frame, Tensor) else frame
