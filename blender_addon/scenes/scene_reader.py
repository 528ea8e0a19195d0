# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene → what a refinement needs: a sequence with its camera, the footage, the rig as numbers.

First step of the path. `read_range` is a generator: it yields how far it is, so that a long range
is read in slices and Blender stays usable; `read_now` runs it to its end.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import body_files, sequence

from ..rigs import body_builder, rig
from ..slices import to_end
from . import scene_camera, scene_view
from .body_reading import BodyReading, Chain, Matrices, read_matrices, read_still, still_slices
from .frame_stepping import find, matrices_over

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SceneRequest:
    """What was read; nothing in it is Blender's."""

    armature: str
    """Name of the armature object."""
    sequence: sequence.Sequence
    """The pose as it is, in metres, with camera and decoded frame indices."""
    footage: Path | None
    """A video file, a folder of images, or one image; none where a file is exported without."""
    frames: rig.RigFrames
    """The rig at these frames."""
    body: str
    """`free`, or the path of the body file."""
    others: tuple[SeenFrom, ...] = ()
    """More cameras that filmed it."""


@dataclass(frozen=True)
class SeenFrom:
    """One more camera with its footage, and where it stood."""

    view: scene_view.OtherView
    world_to_camera: Array
    """(T, 4, 4) metres."""


@dataclass(frozen=True)
class SceneReading:
    """Everything read from Blender, still to be worked out; nothing in it is Blender's."""

    armature: str
    footage: Path | None
    body: str
    still: rig.RigFrames
    """The rig, without places and frames."""
    chain: Chain
    """The bones that were read."""
    matrices: Matrices
    """Where things were, frame by frame."""
    scene_frames: tuple[int, ...]
    fields: dict[str, Any]
    """Fields of the sequence that were read as they are."""
    others: tuple[tuple[scene_view.OtherView, Array], ...] = ()
    """More cameras, and their (T, 4, 4) transforms in the world."""

    def request(self) -> SceneRequest:
        """Work the request out at once.

        Raises:
            SceneError: the armature's scale cannot be SMPL's.
        """
        return to_end(self.request_slices())

    def request_slices(self) -> Generator[None, None, SceneRequest]:
        """Work the request out in slices: numpy only.

        Raises:
            SceneError: the armature's scale cannot be SMPL's.
        """
        matrices = self.matrices
        body = BodyReading(self.still, self.chain, matrices, self.scene_frames)
        frames, poses, trans = yield from body.worked_out()
        world_to_camera = None
        if matrices.camera is not None:
            units = frames.units_per_metre
            world_to_camera = scene_camera.world_to_cameras(matrices.camera, units)
        motion = sequence.Sequence(
            poses=poses.astype(np.float32),
            trans=trans.astype(np.float32),
            world_to_camera=world_to_camera,
            **self.fields,
        )
        others = tuple(
            SeenFrom(view, scene_camera.world_to_cameras(placed, frames.units_per_metre))
            for view, placed in self.others
        )
        return SceneRequest(self.armature, motion, self.footage, frames, self.body, others)


def read_now(
    context: bpy.types.Context, armature: bpy.types.Object, scene_frames: Sequence[int]
) -> SceneRequest:
    """`read_range` to its end at once, worked out."""
    return to_end(read_range(context, armature, scene_frames)).request()


def read_range(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    scene_frames: Sequence[int],
    view: scene_view.SceneView | None = None,
) -> Generator[float, None, SceneReading]:
    """Read an armature, the scene's camera and its footage over frames.

    Args:
        context: whose scene is read.
        armature: an SMPL armature.
        scene_frames: Blender's frames, in order of time.
        view: camera and footage at these frames; the scene's unless given.

    Yields:
        The share that is done, 0 to 1.

    Raises:
        SceneError: something is missing or cannot be used; the message says what to do.
    """
    scene = context.scene
    view = scene_view.view_to_refine(scene, armature, scene_frames) if view is None else view
    fields = {
        "betas": body_builder.read_betas(armature),
        "body": str(armature.get(body_builder.HASH_KEY, "")),
        "gender": str(armature.get(body_builder.GENDER_KEY, "neutral")),
        "mocap_framerate": scene.render.fps / scene.render.fps_base,
        **view.fields,
    }
    body = str(armature.get(body_builder.BODY_KEY, body_files.FREE_BODY))
    body = body if body == body_files.FREE_BODY else bpy.path.abspath(body)
    # Between slices anything may be deleted: from here on, things are looked up by name.
    still, chain, name = yield from still_slices(armature)
    fields["model_type"] = still.match.model_type
    yield 0.0
    armature = find(name)
    seen = None
    if view.camera_frames:
        seen = yield from matrices_over(context, view.camera, view.camera_frames)
        armature = find(name)
    others = []
    for other in view.others:
        frames = view.camera_frames or scene_frames
        others.append((other, (yield from matrices_over(context, other.camera, frames))))
    armature = find(name)
    camera = view.camera if seen is None else ""
    matrices = yield from read_matrices(context, armature, camera, chain, scene_frames)
    matrices = matrices if seen is None else replace(matrices, camera=seen)
    return SceneReading(
        armature=name,
        footage=view.footage,
        body=body,
        still=still,
        chain=chain,
        matrices=matrices,
        scene_frames=tuple(scene_frames),
        fields=fields,
        others=tuple(others),
    )


def read_rig(armature: bpy.types.Object) -> rig.RigFrames:
    """An armature's rest pose and place at the current frame.

    Raises:
        SceneError: it is no SMPL armature.
    """
    still = read_still(armature)
    matrix = np.array(armature.matrix_world, np.float64)[None]
    scale = rig.object_scale(matrix[0])
    return replace(still, object_matrices=matrix, units_per_metre=still.units_per_metre * scale)
