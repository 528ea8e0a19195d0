# SPDX-License-Identifier: GPL-3.0-or-later
"""The clip that a first estimate is made of, and the camera that the body is to stand before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared.sequence import Sequence

from ..rigs.lookup import find_object
from ..rigs.rig import SceneError
from . import scene_camera, scene_footage

Array = npt.NDArray[np.float64]
SAME_LENS = 0.01
"""Lenses that differ by less than this share are taken for one."""


@dataclass(frozen=True)
class ClipView:
    """A clip as a scene's camera shows it; nothing in it is Blender's."""

    path: Path
    """A video file, or a folder of images."""
    scene_frames: tuple[int, ...] = ()
    """Scene frames to estimate; none: the whole clip, its first frame on scene frame 1."""
    first_decoded: int = 0
    """Decoded frame that the first of them shows."""
    camera_uid: int = 0
    """Blender's number of the camera that the body is to stand before; 0: a new one is made."""
    intrinsics: Array | None = None
    """(3, 3) of that camera, pixels; none: the backend assumes a usual lens."""
    distortion: Array | None = None
    """(5,) of that camera."""

    def scene_frames_of(self, decoded: npt.NDArray[np.int64]) -> list[int]:
        """The scene frames that show decoded frames.

        Raises:
            SceneError: there are some that were not asked for.
        """
        if not self.scene_frames:
            return (decoded + 1).tolist()
        places = decoded - self.first_decoded
        if places.min() < 0 or places.max() >= len(self.scene_frames):
            raise SceneError(
                "the backend answered for other frames than it was asked: drop the result"
            )
        return [self.scene_frames[place] for place in places.tolist()]


def view_of_scene(scene: bpy.types.Scene) -> ClipView:
    """The clip behind the scene's camera, over as much of the scene's range as it covers.

    Raises:
        SceneError: there is no camera or footage, or the range shows none of it.
    """
    camera = scene_camera.scene_camera(scene)
    footage = scene_footage.read_footage(scene, camera)
    first, last = footage.scene_range
    frames = range(max(scene.frame_start, first), min(scene.frame_end, last) + 1)
    if footage.is_still:
        frames = range(scene.frame_current, scene.frame_current + 1)
    if not frames:
        raise SceneError(
            f"the scene's frames {scene.frame_start} to {scene.frame_end} show nothing of "
            f"{footage.path.name}, which covers frames {first} to {last}: change the range, or "
            "move the clip"
        )
    decoded = [footage.decoded_frame(frame) for frame in frames]
    return ClipView(
        path=footage.path,
        scene_frames=tuple(frames),
        first_decoded=decoded[0],
        camera_uid=camera.session_uid,
        intrinsics=scene_camera.read_intrinsics(scene, camera, footage, [frames[0]])[0],
        distortion=scene_camera.read_distortion(camera),
    )


def camera_of_clip(
    scene: bpy.types.Scene, view: ClipView, motion: Sequence
) -> bpy.types.Object | None:
    """The camera that the estimate was made for, or the scene's where it shows that very clip."""
    camera = find_object(view.camera_uid) if view.camera_uid else None
    if camera is not None or motion.intrinsics is None:
        return camera
    camera = scene.camera
    if camera is None or camera.type != "CAMERA":
        return None
    try:
        footage = scene_footage.read_footage(scene, camera)
        frames = view.scene_frames_of(motion.frame_indices[:1])
        lens = scene_camera.read_intrinsics(scene, camera, footage, frames)[0]
        is_there = footage.decoded_frame(frames[0]) == motion.frame_indices[0]
    except SceneError:
        return None
    asked = motion.intrinsics if motion.intrinsics.ndim == 2 else motion.intrinsics[0]
    is_same = footage.path == view.path.resolve() and np.allclose(lens, asked, rtol=SAME_LENS)
    return camera if is_same and is_there else None
