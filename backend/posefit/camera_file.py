# SPDX-License-Identifier: Apache-2.0
"""The camera of a first estimate: from a camera file, or a stated default.

A camera file is JSON, one camera of a shot file:

```
{"image_size": [1080, 1920], "intrinsics": [[1670, 0, 540], [0, 1670, 960], [0, 0, 1]],
 "distortion": [0, 0, 0, 0, 0], "world_to_camera": [[…], […], […], […]]}
```

`distortion` (OpenCV's k1 k2 p1 p2 k3) and `world_to_camera` may be left out. With
`world_to_camera` the world is the file's and its z axis points up; without, the camera is taken to
be level.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posefit_shared.frames import Camera

from .errors import PosefitError

__all__ = ["CameraFileError", "WorldCamera", "default_camera", "read_camera"]

DEFAULT_LENS_MM = 35.0
"""Between a phone's main camera (26 mm) and a normal lens (50 mm), as full-frame equivalents."""
FULL_FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)
LEVEL_CAMERA = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
"""`world_to_camera` of a level camera at the origin that looks along +y, z being up."""
MAX_BYTES = 1 << 20


class CameraFileError(PosefitError, ValueError):
    """A camera file that cannot be used; says what to do."""


@dataclass(frozen=True)
class WorldCamera:
    """A camera, and what is known of the world that it stands in."""

    camera: Camera
    world: str
    """`gravity`: z is up; `camera`: the camera was taken to be level."""


def default_camera(size: tuple[int, int]) -> WorldCamera:
    """A level camera with a usual lens: 35 mm on full frame, 63° across the diagonal.

    Args:
        size: width and height of the footage, pixels.
    """
    width, height = size
    focal = DEFAULT_LENS_MM / FULL_FRAME_DIAGONAL_MM * math.hypot(width, height)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return WorldCamera(Camera(intrinsics, LEVEL_CAMERA, (width, height)), "camera")


def read_camera(path: str | os.PathLike[str]) -> WorldCamera:
    """The camera in a camera file.

    Raises:
        CameraFileError: the file is missing, no JSON, or lacks something.
    """
    path = Path(path)
    if not path.is_file():
        raise CameraFileError(f"no camera file at {path}: check the path")
    if path.stat().st_size > MAX_BYTES:
        raise CameraFileError(f"{path.name} is larger than 1 MiB, too large for a camera file")
    try:
        data: Any = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CameraFileError(
            f"{path.name} is no JSON ({error}): expected a camera file"
        ) from error
    if not isinstance(data, dict):
        raise CameraFileError(f"{path.name} is no camera file: expected an object with intrinsics")
    missing = [name for name in ("intrinsics", "image_size") if name not in data]
    if missing:
        raise CameraFileError(f"{path.name} lacks {' and '.join(missing)}: add them")
    world_to_camera = data.get("world_to_camera")
    try:
        camera = Camera(
            np.asarray(data["intrinsics"], np.float64),
            np.asarray(LEVEL_CAMERA if world_to_camera is None else world_to_camera, np.float64),
            (int(data["image_size"][0]), int(data["image_size"][1])),
            np.asarray(data.get("distortion", np.zeros(5)), np.float64),
        )
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise CameraFileError(f"{path.name} is not usable: {error}") from error
    return WorldCamera(camera, "camera" if world_to_camera is None else "gravity")
