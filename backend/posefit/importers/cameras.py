# SPDX-License-Identifier: Apache-2.0
"""Cameras of results: pinholes, weak perspective in crops, cameras between two motions."""

from __future__ import annotations

import numpy as np

from .fields import Array
from .person import ImporterError

__all__ = [
    "IN_CAMERA",
    "camera_between",
    "diagonal_focal",
    "fitted_pinhole",
    "pinhole",
    "rigid",
    "weak_to_full",
]

_WORST_PX = 3.0
"""Pixels by which a point may miss the camera that was fitted to all."""
IN_CAMERA: Array = np.eye(4)
"""`world_to_camera` of motion that is in an OpenCV camera's own frame."""


def pinhole(
    focal: float, image_size: tuple[int, int], centre: tuple[float, float] | None = None
) -> Array:
    """Intrinsics (3, 3) with square pixels.

    Args:
        focal: focal length, pixels.
        image_size: width and height, pixels.
        centre: principal point, pixels; the picture's middle unless given.
    """
    x, y = (image_size[0] / 2, image_size[1] / 2) if centre is None else centre
    return np.array([[focal, 0.0, x], [0.0, focal, y], [0.0, 0.0, 1.0]])


def diagonal_focal(image_size: tuple[int, int]) -> float:
    """Focal length of an unknown lens as CLIFF and its heirs take it: the picture's diagonal.

    Source: Li et al., CLIFF, ECCV 2022; `estimate_focal_length` in CLIFF/common/utils.py.
    """
    return float(np.hypot(*image_size))


def fitted_pinhole(
    points: Array, pixels: Array, image_size: tuple[int, int] | None = None
) -> tuple[Array, tuple[int, int]]:
    """The pinhole that shows points where a tool says they are seen, and the picture's size.

    Args:
        points: (…, 3) before the camera, any unit.
        pixels: (…, 2).
        image_size: width and height where they are known; twice the principal point otherwise.

    Raises:
        ImporterError: no pinhole does.
    """
    ideal, seen = (points[..., :2] / points[..., 2:]).reshape(-1, 2), pixels.reshape(-1, 2)
    system = np.zeros((2 * len(ideal), 3))
    system[:, 0] = ideal.T.reshape(-1)
    system[: len(ideal), 1], system[len(ideal) :, 2] = 1, 1
    (focal, x, y), *_ = np.linalg.lstsq(system, seen.T.reshape(-1), rcond=None)
    miss = np.abs(system @ [focal, x, y] - seen.T.reshape(-1)).max()
    if not (np.isfinite(miss) and miss < _WORST_PX and focal > 0 and min(x, y) >= 0.5):
        raise ImporterError(
            "the file's points in space and in the picture do not fit one camera: check that they "
            "are of one footage, undistorted"
        )
    return pinhole(focal, (1, 1), (x, y)), image_size or (round(2 * x), round(2 * y))


def weak_to_full(weak: Array, centre: Array, side: Array, focal: float, principal: Array) -> Array:
    """(T, 3) translations that a pinhole needs to show what weak-perspective crops showed.

    Args:
        weak: (T, 3) scale and shifts [s, tx, ty] in crops that span −1 to 1.
        centre: (T, 2) middle of the crops, pixels.
        side: (T,) side of the crops, pixels.
        focal: focal length of the pinhole, pixels.
        principal: (2,) its principal point, pixels.

    Source: `convert_pare_to_full_img_cam`, as in WHAM's lib/models/smpl.py.
    """
    scale = weak[:, 0] * side
    shift = 2 * (centre - principal) / scale[:, None]
    return np.column_stack([weak[:, 1:] + shift, 2 * focal / scale])


def rigid(rotation: Array, translation: Array) -> Array:
    """(…, 4, 4) transforms of rotations (…, 3, 3) and translations (…, 3)."""
    result = np.zeros((*rotation.shape[:-2], 4, 4))
    result[..., :3, :3], result[..., :3, 3], result[..., 3, 3] = rotation, translation, 1.0
    return result


def camera_between(
    root_world: Array, pelvis_world: Array, root_camera: Array, pelvis_camera: Array
) -> Array:
    """(T, 4, 4) world_to_camera in which a body's motion in the world is its motion in the camera.

    Args:
        root_world, root_camera: (T, 3, 3) rotation of the root in either frame.
        pelvis_world, pelvis_camera: (T, 3) place of the pelvis in either frame.
    """
    rotation = root_camera @ np.swapaxes(root_world, -1, -2)
    turned = np.einsum("tij,tj->ti", rotation, pelvis_world)
    return rigid(rotation, pelvis_camera - turned)
