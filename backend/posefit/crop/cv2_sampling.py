# SPDX-License-Identifier: Apache-2.0
"""Crops sampled on the CPU by OpenCV, one after the other."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from posefit_shared import frames as coordinate_frames
from posefit_shared.frames import Camera

__all__ = ["sample_cv2"]


def sample_cv2(
    frame: npt.NDArray[np.uint8],
    box: npt.NDArray[np.float64],
    camera: Camera,
    samples: int,
    size: int,
) -> npt.NDArray[np.uint8]:
    """One crop, (size, size, 3).

    Args:
        frame: picture (H, W, 3), RGB.
        box: centre and side, undistorted source pixels.
        camera: of the picture.
        samples: along a crop pixel's side.
        size: side of the crop, pixels.
    """
    fine = size * samples
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
    # A lens that bends points away without end shows nothing there.
    bent = np.clip(np.nan_to_num(bent, nan=-1e9), -1e9, 1e9)
    maps = cv2.remap(
        (bent - 0.5).astype(np.float32),
        at_x,
        at_y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    maps = np.asarray(maps, np.float32)
    return np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])
