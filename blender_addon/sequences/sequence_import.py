# SPDX-License-Identifier: GPL-3.0-or-later
"""A sequence → a body with its motion, the camera that filmed it, and the footage behind it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import frames, sequence

from ..keys.fcurves import ActionSlot
from ..keys.keyframe_writer import build_first_motion, use_built
from ..rigs import body_builder, new_body, rig
from ..rigs.rig import SceneError
from ..rigs.rig_of_body import rig_of_body
from ..scenes import scene_footage
from ..slices import to_end
from .sequence_camera import camera_slices, place_camera
from .sequence_placing import moved

Array = npt.NDArray[np.float64]

CAMERA_WORLD_TO_ZUP: Array = frames.YUP_TO_ZUP @ frames.OPENCV_TO_BLENDER_CAMERA
"""Stands a world that is an OpenCV camera's frame upright: forward is y, up is z."""


@dataclass(frozen=True)
class ImportOptions:
    """How a sequence comes in."""

    name: str
    """Name of the body and its action."""
    body: str = "free"
    """`free`, or the path of the body file that the betas belong to."""
    footage: Path | None = None
    """Video file or folder of images; none leaves the camera without a background."""
    with_camera: bool = True
    """Also make the sequence's camera, and the scene's picture size and rate."""
    pose_correctives: bool = False
    """Also make the pose correctives."""
    first_scene_frame: int = 1
    """Scene frame of the footage's first frame."""
    scene_range: tuple[int, int] | None = None
    """First and last frame that the scene gets with the camera; none: the sequence's."""


@dataclass(frozen=True)
class PreparedSequence:
    """A sequence whose motion is keyed, and whose mesh and camera wait for their scene."""

    motion: sequence.Sequence
    """The sequence, as it will stand in the scene."""
    options: ImportOptions
    betas: npt.NDArray[np.float32]
    """(N,) the body's shape."""
    scene_frames: tuple[int, ...]
    slot: ActionSlot
    """The action, which nothing uses yet."""
    build: new_body.BodyOptions
    """How the body is built."""
    mesh: int
    """Blender's number of its mesh."""
    camera: int | None
    """Blender's number of its camera; none where it comes without."""
    notes: tuple[str, ...]
    """Sentences that the user should read."""


@dataclass(frozen=True)
class Imported:
    """What came in."""

    armature: bpy.types.Object
    camera: bpy.types.Object | None
    notes: tuple[str, ...]
    """Sentences that the user should read."""


def import_sequence(
    context: bpy.types.Context, motion: sequence.Sequence, options: ImportOptions
) -> Imported:
    """Build a body with the motion of a sequence, its camera and its footage.

    Raises:
        SceneError: the body or the footage does not fit the sequence.
        BodyFileError: the body file cannot be read.
    """
    check_sequence(motion, options)
    return place_sequence(context, to_end(prepare_sequence(motion, options)))


def check_sequence(motion: sequence.Sequence, options: ImportOptions) -> None:
    """Whether footage fits a sequence, and the body, if its file was read already.

    Raises:
        SceneError: they do not.
    """
    if (body := body_builder.loaded(options.body)) is not None:
        _check_body(motion, body)
    _load_fitting_clip(motion, options)


def prepare_sequence(
    motion: sequence.Sequence, options: ImportOptions
) -> Generator[None, None, PreparedSequence]:
    """Key a sequence's motion, and make its camera and mesh, bit by bit beside the scene.

    Yields:
        Where it may pause.

    Raises:
        SceneError: the body does not fit the sequence.
        BodyFileError: the body file cannot be read.
        RemovedError: something of it was removed in a pause.
    """
    body = yield from body_builder.loading(options.body)
    notes = _check_body(motion, body)
    betas = motion.betas if motion.betas.ndim == 1 else motion.betas.mean(axis=0)
    if motion.betas.ndim == 2 and np.ptp(motion.betas, axis=0).max() > 1e-4:
        notes.append("the shape changes over time in the file: its mean is used")
    if motion.world == "camera":
        motion = _upright(motion, body_builder.rest_joints(body, betas)[0])
        notes.append("what is up is not known: the camera is taken to be level")
    yield
    indices = np.arange(len(motion)) if motion.frame_indices is None else motion.frame_indices
    scene_frames = tuple((indices + options.first_scene_frame).tolist())
    still = rig_of_body(body, betas)
    at_frames = replace(
        still,
        scene_frames=scene_frames,
        object_matrices=np.repeat(still.object_matrices, len(motion), axis=0),
        above_root=np.repeat(still.above_root, len(motion), axis=0),
    )
    bones = yield from rig.motion_slices(motion.poses, motion.trans, at_frames)
    slot = yield from build_first_motion(options.name, still.match.bones, scene_frames, bones)
    camera = None
    if options.with_camera and motion.has_camera:
        camera = yield from camera_slices(motion, scene_frames, f"{options.name}.camera")
    build = new_body.BodyOptions(
        options.name, options.body, motion.gender, options.pose_correctives
    )
    mesh = yield from new_body.mesh_slices(body, betas, build)
    return PreparedSequence(
        motion, options, betas, scene_frames, slot, build, mesh, camera, tuple(notes)
    )


def place_sequence(context: bpy.types.Context, prepared: PreparedSequence) -> Imported:
    """Put a sequence's body, its motion, its camera and its footage into the scene.

    Raises:
        SceneError: the footage does not fit the sequence; nothing was changed.
        BodyFileError: the body file cannot be read.
        RemovedError: something that was prepared is gone.
    """
    motion, options = prepared.motion, prepared.options
    clip = _load_fitting_clip(motion, options)
    body = body_builder.load_body(options.body)
    armature = new_body.place_body(context, body, prepared.betas, prepared.build, prepared.mesh)
    use_built(armature, prepared.slot, options.name)
    notes = list(prepared.notes)
    camera = None
    if options.with_camera:
        camera = _set_up_view(context, prepared, clip)
        notes += [] if camera else ["the file has no camera"]
    return Imported(armature, camera, tuple(notes))


def load_clip(path: Path) -> bpy.types.MovieClip:
    """A movie clip of a video file or a folder of images.

    Raises:
        SceneError: nothing there that Blender can read.
    """
    if path.is_dir():
        images = scene_footage.images_in(path)
        if not images:
            raise SceneError(f"the folder {path} holds no images: choose the footage's folder")
        path = images[0]
    if not path.is_file():
        raise SceneError(f"the footage {path} is not there: choose it again")
    clip = bpy.data.movieclips.load(str(path), check_existing=True)
    if not scene_footage.is_readable(clip):
        bpy.data.movieclips.remove(clip)
        raise SceneError(f"Blender cannot read the footage {path}: convert it, or choose another")
    return clip


def size_of_clip(path: Path) -> tuple[int, int]:
    """Width and height of a video file's or a folder's pictures.

    Raises:
        SceneError: nothing there that Blender can read.
    """
    width, height = (int(n) for n in load_clip(path).size)
    return width, height


def show_footage(
    scene: bpy.types.Scene, camera: bpy.types.Object, clip: bpy.types.MovieClip, first_frame: int
) -> None:
    """Put a clip behind a camera, its first frame on a scene frame."""
    clip.frame_start = first_frame
    background = camera.data.background_images.new()
    background.source = "MOVIE_CLIP"
    background.clip = clip
    background.frame_method = "STRETCH"
    background.alpha = 1.0
    camera.data.show_background_images = True
    scene.active_clip = clip


def set_frame_rate(scene: bpy.types.Scene, rate: float) -> None:
    """Make a scene run at a rate, frames per second, whole or not."""
    scene.render.fps = max(1, round(rate))
    scene.render.fps_base = scene.render.fps / rate


def _set_up_view(
    context: bpy.types.Context, prepared: PreparedSequence, clip: bpy.types.MovieClip | None
) -> bpy.types.Object | None:
    scene, motion, options = context.scene, prepared.motion, prepared.options
    camera = None
    if prepared.camera is not None:
        camera = place_camera(context, motion, f"{options.name}.camera", prepared.camera)
        scene.camera = camera
    rate = motion.mocap_framerate
    if clip is not None and camera is not None:
        show_footage(scene, camera, clip, options.first_scene_frame)
        rate = clip.fps if clip.source == "MOVIE" and clip.fps > 0 else rate
    set_frame_rate(scene, rate)
    shown = prepared.scene_frames
    scene.frame_start, scene.frame_end = options.scene_range or (min(shown), max(shown))
    scene.frame_set(shown[0])
    return camera


def _check_body(motion: sequence.Sequence, body: body_builder.BodyArrays) -> list[str]:
    if motion.poses.shape[1] != body.num_joints:
        raise SceneError(
            f"the sequence poses {motion.poses.shape[1]} joints ({motion.model_type}), the body "
            f"{body.name} has {body.num_joints}: choose a body file of that model"
        )
    if motion.body and motion.body not in (body.name, body.content_hash):
        return [
            f"the file's shape was made for another body than {body.name}: proportions may differ, "
            "choose the body file that it belongs to"
        ]
    return []


def _load_fitting_clip(
    motion: sequence.Sequence, options: ImportOptions
) -> bpy.types.MovieClip | None:
    if options.footage is None:
        return None
    clip = load_clip(options.footage)
    size = tuple(int(n) for n in clip.size)
    if motion.image_size is not None and size != motion.image_size:
        raise SceneError(
            f"the footage is {size[0]} x {size[1]} pixels, the sequence's camera is for "
            f"{motion.image_size[0]} x {motion.image_size[1]}: choose the footage that it was "
            "made from"
        )
    return clip


def _upright(motion: sequence.Sequence, rest_pelvis: Array) -> sequence.Sequence:
    """The same motion seen by the same camera, in a world where the camera is level."""
    turn = CAMERA_WORLD_TO_ZUP
    changed = moved(motion, turn, rest_pelvis).replace(world="gravity")
    if motion.world_to_camera is not None:
        return changed.replace(world_to_camera=motion.world_to_camera @ frames.invert(turn))
    return changed
