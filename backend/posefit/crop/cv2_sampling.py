# SPDX-License-Identifier: Apache-2.0
"""Crops sampled on the CPU by OpenCV, one after the other."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from posefit_shared import frames as coordinate_frames
from posefit_shared.frames import Camera

__all__ = ["distorted_map", "sample_cv2"]

_SQUARES = 32
"""Squares along a crop's side within which a lens bends evenly."""


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
        map_x, map_y = cv2.split(distorted_map(fine, box, camera))
    sampled = cv2.remap(frame, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    if fine == size:
        return np.asarray(sampled, np.uint8)
    shrunk = cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def distorted_map(
    fine: int, box: npt.NDArray[np.float64], camera: Camera
) -> npt.NDArray[np.float32]:
    """Where each sample of the ideal crop lies in the distorted picture, in cv2's pixel count.

    The lens map is smooth: it is evaluated in the middles of squares of samples, also of those
    around the crop, and interpolated between.

    Args:
        fine: samples along the crop's side.
        box, camera: see `sample_cv2`.
    """
    square = -(-fine // _SQUARES)
    squares = -(-fine // square)
    middles = (np.arange(squares + 2) - 0.5) * (square * box[2] / fine)
    grid = np.stack(np.meshgrid(middles, middles), axis=-1) + (box[:2] - box[2] / 2)
    k = camera.intrinsics
    ideal = (grid - k[:2, 2]) @ np.linalg.inv(k[:2, :2]).T
    bent = coordinate_frames.distort_points(camera.distortion, ideal) @ k[:2, :2].T + k[:2, 2]
    # A lens that bends points away without end shows nothing there.
    bent = np.clip(np.nan_to_num(bent, nan=-1e9), -1e9, 1e9)
    side = (squares + 2) * square
    whole = cv2.resize((bent - 0.5).astype(np.float32), (side, side))
    return np.asarray(whole, np.float32)[square : square + fine, square : square + fine]
