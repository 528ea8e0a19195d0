# SPDX-License-Identifier: GPL-3.0-or-later
"""Some of the pictures that a scene shows, with the camera at each: what a motion is aligned to."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
import numpy.typing as npt

from ..rigs.rig import SceneError
from . import scene_camera, scene_footage
from .frame_stepping import matrices_over

Array = npt.NDArray[np.float64]

MOST_PICTURES = 160
"""So many are looked at, spread over the frames in question."""


@dataclass(frozen=True)
class ScenePictures:
    """Pictures and cameras over P scene frames; nothing in it is Blender's."""

    footage: Path
    """A video file, or a folder of images."""
    scene_frames: npt.NDArray[np.int64]
    """(P,) frames that show them, rising."""
    decoded_frames: npt.NDArray[np.int64]
    """(P,) which decoded frames they are."""
    intrinsics: Array
    """(P, 3, 3) pixels."""
    matrices_world: Array
    """(P, 4, 4) of the camera, Blender units."""
    distortion: Array
    """(5,)."""


def read_pictures(
    context: bpy.types.Context, first: int, last: int
) -> Generator[float, None, ScenePictures]:
    """Read the camera and which pictures lie behind it, from one scene frame to another.

    Args:
        context: whose scene is read.
        first, last: the scene frames in question; the footage may cover a part of them.

    Yields:
        The share that is done, 0 to 1.

    Raises:
        SceneError: there is no camera or footage, or the footage covers none of these frames.
    """
    scene = context.scene
    camera = scene_camera.scene_camera(scene)
    footage = scene_footage.read_footage(scene, camera)
    covered = footage.scene_range
    if footage.is_still:
        raise SceneError(
            f"{footage.path.name} is one picture: aligning a motion needs a clip of the person"
        )
    first, last = max(first, covered[0]), min(last, covered[1])
    if last < first:
        raise SceneError(
            f"the footage {footage.path.name} covers frames {covered[0]} to {covered[1]}, the "
            "motion other ones: search further in time, or move the clip"
        )
    spread = np.linspace(first, last, min(last - first + 1, MOST_PICTURES)).round().astype(np.int64)
    pairs = [(frame, footage.decoded_frame(frame)) for frame in np.unique(spread).tolist()]
    frames, decoded = np.array(pairs, np.int64).T
    intrinsics = scene_camera.read_intrinsics(scene, camera, footage, frames)
    distortion = scene_camera.read_distortion(camera)
    matrices = yield from matrices_over(context, camera.name, frames.tolist())
    return ScenePictures(footage.path, frames, decoded, intrinsics, matrices, distortion)
