# SPDX-License-Identifier: GPL-3.0-or-later
"""Through which camera frames are seen, and which frames of the footage they are.

A refinement needs both camera and footage; a file that is exported takes what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from ..rigs.rig import SceneError
from . import footage_offset, more_cameras, scene_camera, scene_footage


@dataclass(frozen=True)
class OtherView:
    """One more camera over the same frames; nothing in it is Blender's."""

    camera: str
    """Name of the camera object."""
    footage: Path
    """A video file, a folder of images, or one image."""
    frame_indices: npt.NDArray[np.int64]
    """(T,) decoded frames; −1 where its footage has none."""
    intrinsics: npt.NDArray[np.float64]
    """(T, 3, 3) pixels."""
    distortion: npt.NDArray[np.float64]
    """(5,)."""
    image_size: tuple[int, int]
    """Width and height of the footage, pixels."""


@dataclass(frozen=True)
class SceneView:
    """What is known of the picture over some frames; nothing in it is Blender's."""

    camera: str
    """Name of the camera object; empty without one."""
    footage: Path | None
    """A video file, a folder of images, or one image."""
    fields: dict[str, Any]
    """Fields of a sequence that say so; without world_to_camera, which moves."""
    notes: tuple[str, ...] = ()
    """What an artist should know of it, each without a full stop."""
    camera_frames: tuple[int, ...] = ()
    """Scene frames of picture and camera; none: those of the motion."""
    others: tuple[OtherView, ...] = ()
    """More cameras with footage."""


def filmed_view(scene: bpy.types.Scene, scene_frames: Sequence[int]) -> SceneView:
    """The scene's camera over frames with the footage behind it.

    Raises:
        SceneError: one of them is missing or cannot be used.
    """
    camera = scene_camera.scene_camera(scene)
    footage = scene_footage.read_footage(scene, camera)
    decoded = [footage.decoded_frame(frame) for frame in scene_frames]
    return _seen_by(scene, camera, footage, scene_frames, decoded)


def view_to_refine(
    scene: bpy.types.Scene, armature: bpy.types.Object, scene_frames: Sequence[int]
) -> SceneView:
    """Camera and footage that an armature's frames belong to, by its Footage Offset.

    Raises:
        SceneError: one of them is missing or cannot be used.
    """
    shown = footage_offset.footage_frames(armature, scene_frames)
    try:
        view = filmed_view(scene, shown)
        view = replace(view, others=_other_views(scene, shown))
    except SceneError as error:
        raise SceneError(f"{error}{footage_offset.offset_words(armature)}") from error
    return view if shown == list(scene_frames) else replace(view, camera_frames=tuple(shown))


def _other_views(scene: bpy.types.Scene, scene_frames: Sequence[int]) -> tuple[OtherView, ...]:
    """The other cameras that are to be looked through, as far as their footage shows the frames."""
    found = []
    for camera in more_cameras.chosen(scene):
        footage = scene_footage.read_own_footage(scene, camera)
        first, last = footage.scene_range
        indices = [
            footage.decoded_frame(frame) if footage.is_still or first <= frame <= last else -1
            for frame in scene_frames
        ]
        if max(indices) < 0:
            raise SceneError(
                f"the footage of camera {camera.name} covers frames {first} to {last} and none of "
                "those to be refined: move its clip, or take the camera out of Cameras"
            )
        found.append(
            OtherView(
                camera=camera.name,
                footage=footage.path,
                frame_indices=np.array(indices, np.int64),
                intrinsics=scene_camera.read_intrinsics(scene, camera, footage, scene_frames),
                distortion=scene_camera.read_distortion(camera),
                image_size=footage.image_size,
            )
        )
    return tuple(found)


def view_to_export(
    scene: bpy.types.Scene, scene_frames: Sequence[int], with_camera: bool
) -> SceneView:
    """As much of camera and footage as the scene has.

    Without footage the camera is given in pixels of the render, and frames are numbered so that
    scene frame 1 is frame 0, as footage that starts at frame 1 would number them.

    Raises:
        SceneError: the scene has footage that cannot be used, or too little of it.
    """
    numbered = [frame - min(1, scene_frames[0]) for frame in scene_frames]
    camera = scene.camera
    lacking = ""
    if camera is None or camera.type != "CAMERA":
        lacking = "without a camera, as the scene has none"
    elif camera.data.type != "PERSP":
        lacking = f"without a camera, as {camera.name} is no perspective camera"
    if lacking or not with_camera:
        fields = {"frame_indices": np.array(numbered, np.int64)}
        return SceneView("", None, fields, (lacking,) if lacking and with_camera else ())
    if not scene_footage.has_footage(scene, camera):
        note = "the camera is that of the render, as it has no footage"
        return _seen_by(scene, camera, _rendered(scene), scene_frames, numbered, (note,))
    footage = scene_footage.read_footage(scene, camera)
    if footage.is_still:  # every frame shows it, but a sequence needs frames of its own
        return _seen_by(scene, camera, footage, scene_frames, numbered)
    return filmed_view(scene, scene_frames)


def _seen_by(
    scene: bpy.types.Scene,
    camera: bpy.types.Object,
    footage: scene_footage.SceneFootage,
    scene_frames: Sequence[int],
    indices: list[int],
    notes: tuple[str, ...] = (),
) -> SceneView:
    fields = {
        "frame_indices": np.array(indices, np.int64),
        "intrinsics": scene_camera.read_intrinsics(scene, camera, footage, scene_frames),
        "distortion": scene_camera.read_distortion(camera),
        "image_size": footage.image_size,
    }
    path = footage.path if footage.frame_count else None
    return SceneView(camera.name, path, fields, notes)


def _rendered(scene: bpy.types.Scene) -> scene_footage.SceneFootage:
    """The rendered picture, as footage without a frame."""
    render = scene.render
    scale = render.resolution_percentage / 100
    return scene_footage.SceneFootage(
        path=Path(),
        image_size=(int(render.resolution_x * scale), int(render.resolution_y * scale)),
        display_aspect=render.pixel_aspect_x / render.pixel_aspect_y,
        first_scene_frame=1,
        frame_offset=0,
        frame_count=0,
    )
