# SPDX-License-Identifier: Apache-2.0
"""Crops sampled where their pictures lie, by one launch for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from posefit_shared.frames import Camera

from ..gpu.upload import upload
from ..gpu.warp_runtime import launch, warp_array
from . import kernels

__all__ = ["sample_warp"]


def sample_warp(
    frames: Sequence[npt.NDArray[np.uint8] | Tensor],
    boxes: npt.NDArray[np.float64],
    cameras: Sequence[Camera],
    samples: npt.NDArray[np.int64],
    size: int,
    device: torch.device,
) -> Float[Tensor, "batch 3 size size"]:
    """Crops, 0 to 1; a GPU is not waited for.

    Nothing is rounded on the way and the lens is evaluated at every sample, where `sample_cv2`
    rounds twice and bends straight lines between points of a grid. Pixels of a smooth picture are
    within 1/255 of its pixels, those along the edge of a bent picture within 8/255.

    Args:
        frames: B pictures (H, W, 3), uint8; those that lie on the device are used where they are.
        boxes: (B, 3) centre and side, undistorted source pixels.
        cameras: of the pictures.
        samples: (B,) along a crop pixel's side.
        size: side of the crops, pixels.
        device: where the crops go.
    """
    pictures = [_on_device(frame, device) for frame in frames]
    optics = _optics(boxes, cameras, size)
    # One table, one copy: addresses and sizes are whole numbers in the bits of its first columns.
    table = np.empty((len(pictures), 4 + optics.shape[1]))
    table.view(np.int64)[:, 0] = [picture.data_ptr() for picture in pictures]
    table.view(np.int64)[:, 1:3] = [picture.shape[:2] for picture in pictures]
    table.view(np.int64)[:, 3] = samples
    table[:, 4:] = optics
    parameters = upload(table, device)
    images = torch.empty((len(pictures), 3, size, size), device=device)
    launch(
        kernels.sample_crops,
        device,
        (len(pictures), size, size),
        warp_array(parameters.view(torch.int64), wp.int64),
        warp_array(parameters, wp.float64),
        warp_array(images, wp.float32),
    )
    return images


def _on_device(frame: npt.NDArray[np.uint8] | Tensor, device: torch.device) -> Tensor:
    if isinstance(frame, Tensor):
        return frame.to(device).contiguous()
    return upload(frame, device)


def _optics(
    boxes: npt.NDArray[np.float64], cameras: Sequence[Camera], size: int
) -> npt.NDArray[np.float64]:
    """(B, 17) as the kernel wants it."""
    intrinsics = np.stack([camera.intrinsics for camera in cameras])
    distortion = np.stack([camera.distortion for camera in cameras])
    lens, centre = intrinsics[:, :2, :2], intrinsics[:, :2, 2]
    to_ideal = np.linalg.inv(lens)
    corner = to_ideal @ (boxes[:, :2] - boxes[:, 2:] / 2 - centre)[..., None]
    step = to_ideal * (boxes[:, 2] / size)[:, None, None]
    flat = (corner, step, distortion, lens, centre - 0.5)
    return np.concatenate([part.reshape(len(boxes), -1) for part in flat], axis=1)
