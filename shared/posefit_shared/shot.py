# SPDX-License-Identifier: Apache-2.0
"""Shot files: several cameras and several people of one moment, as `shot.json`.

```
{"cameras": [{"name": "cam01", "footage": "cam01.mp4", "frame_offset": 0, "image_size": [W, H],
              "intrinsics": [[…]], "distortion": […], "world_to_camera": [[…]]}],
 "people": ["person.npz"]}
```
Paths are relative to the file. `frame_offset` is added to a sequence's frame index to give the
decoded frame of that camera. `world_to_camera` may name an `.npy` of (T, 4, 4) instead.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .damaged_files import DAMAGED_ARRAYS
from .frames import Camera, camera_fault
from .sequence import SequenceError

__all__ = ["Shot", "ShotCamera", "read_shot"]

MAX_CAMERAS = 64
MAX_PEOPLE = 64
MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class ShotCamera:
    """One camera of a shot with its footage."""

    name: str
    """What people call it."""
    footage: Path
    """Video file or folder of images."""
    frame_offset: int
    """Added to a sequence's frame index to give this footage's decoded frame."""
    camera: Camera
    """The camera; the first one where it moves."""
    moving: np.ndarray | None = None
    """(T, 4, 4) world_to_camera per frame, or None where the camera stands still."""


@dataclass(frozen=True)
class Shot:
    """Cameras and people of one moment."""

    cameras: tuple[ShotCamera, ...]
    """At least one."""
    people: tuple[Path, ...]
    """Sequence files; may be empty before a first estimate."""

    def camera(self, name: str) -> ShotCamera:
        """The camera of that name.

        Raises:
            SequenceError: the shot has none of that name.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        known = ", ".join(camera.name for camera in self.cameras)
        raise SequenceError(f"the shot has no camera {name!r}, expected one of {known}")


def read_shot(path: str | os.PathLike[str]) -> Shot:
    """The shot in a `shot.json` file.

    Raises:
        SequenceError: the file is missing, no JSON, or lacks something.
    """
    path = Path(path)
    if not path.is_file():
        raise SequenceError(f"no shot file at {path}: check the path")
    if path.stat().st_size > MAX_BYTES:
        raise SequenceError(
            f"{path.name} is larger than {MAX_BYTES >> 20} MiB, too large for a shot"
        )
    try:
        data = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SequenceError(f"{path.name} is no JSON ({error}): expected a shot file") from error
    cameras = data.get("cameras") if isinstance(data, dict) else None
    people = data.get("people", []) if isinstance(data, dict) else []
    if not isinstance(cameras, list) or not 1 <= len(cameras) <= MAX_CAMERAS:
        raise SequenceError(f"{path.name} lists no cameras, expected 1 to {MAX_CAMERAS}")
    if not isinstance(people, list) or len(people) > MAX_PEOPLE:
        raise SequenceError(f"{path.name}: people is no list of at most {MAX_PEOPLE} files")
    return Shot(
        cameras=tuple(_camera(entry, path.parent, k) for k, entry in enumerate(cameras)),
        people=tuple(path.parent / str(person) for person in people),
    )


def _camera(entry: Any, folder: Path, position: int) -> ShotCamera:
    if not isinstance(entry, dict):
        raise SequenceError(f"camera {position} of the shot is no object with a name and footage")
    name = str(entry.get("name", f"camera{position + 1}"))
    try:
        moving = None
        world_to_camera = entry["world_to_camera"]
        if isinstance(world_to_camera, str):
            moving = np.load(folder / world_to_camera, allow_pickle=False).astype(np.float64)
            if moving.ndim != 3 or moving.shape[1:] != (4, 4) or not len(moving):
                raise ValueError(f"world_to_camera is {moving.shape}, expected (T, 4, 4)")
            if fault := camera_fault(world_to_camera=moving):
                raise ValueError(fault)
            world_to_camera = moving[0]
        camera = Camera(
            np.asarray(entry["intrinsics"], np.float64),
            np.asarray(world_to_camera, np.float64),
            (int(entry["image_size"][0]), int(entry["image_size"][1])),
            np.asarray(entry.get("distortion", np.zeros(5)), np.float64),
        )
        footage = folder / str(entry["footage"])
        offset = int(entry.get("frame_offset", 0))
    except KeyError as error:
        raise SequenceError(f"camera {name!r} of the shot lacks {error.args[0]}") from error
    except DAMAGED_ARRAYS as error:
        raise SequenceError(f"camera {name!r} of the shot is not usable: {error}") from error
    return ShotCamera(name, footage, offset, camera, moving)
