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

from ..keys.fcurves import ActionSlot, ensure_curve, new_action, set_keys, use_action
from ..keys.keyframe_writer import build_first_motion, use_built
from ..rigs import body_builder, rig
from ..rigs.bone_rotations import continuous_wxyz
from ..rigs.rig import SceneError
from ..rigs.rig_of_body import rig_of_body
from ..scenes import scene_camera, scene_footage
from ..slices import to_end
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


@dataclass(frozen=True)
class PreparedSequence:
    """A sequence whose motion is keyed, and whose body is still to be built."""

    motion: sequence.Sequence
    """The sequence, as it will stand in the scene."""
    options: ImportOptions
    betas: npt.NDArray[np.float32]
    """(N,) the body's shape."""
    scene_frames: tuple[int, ...]
    slot: ActionSlot
    """The action, which nothing uses yet."""
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
    """Whether body and footage fit a sequence.

    Raises:
        SceneError: they do not.
        BodyFileError: the body file cannot be read.
    """
    _check_body(motion, body_builder.load_body(options.body))
    _load_fitting_clip(motion, options)


def prepare_sequence(
    motion: sequence.Sequence, options: ImportOptions
) -> Generator[None, None, PreparedSequence]:
    """Key a sequence's motion, bit by bit, in an action that waits for its body.

    Yields:
        Where it may pause.

    Raises:
        SceneError: the body does not fit the sequence.
        BodyFileError: the body file cannot be read.
        RemovedError: the action was removed in a pause.
    """
    body = body_builder.load_body(options.body)
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
    return PreparedSequence(motion, options, betas, scene_frames, slot, tuple(notes))


def place_sequence(context: bpy.types.Context, prepared: PreparedSequence) -> Imported:
    """Build the body of a sequence whose keys are there, its camera and its footage.

    Raises:
        SceneError: the footage does not fit the sequence; nothing was built.
        BodyFileError: the body file cannot be read.
    """
    motion, options = prepared.motion, prepared.options
    clip = _load_fitting_clip(motion, options)
    body = body_builder.load_body(options.body)
    build = body_builder.BodyOptions(
        options.name, options.body, motion.gender, options.pose_correctives
    )
    armature = body_builder.build_body(context, body, prepared.betas, build)
    use_built(armature, prepared.slot, options.name)
    notes = list(prepared.notes)
    camera = None
    if options.with_camera:
        camera = _build_view(context, motion, clip, list(prepared.scene_frames), options)
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


def build_camera(
    context: bpy.types.Context, motion: sequence.Sequence, scene_frames: list[int], name: str
) -> bpy.types.Object:
    """A camera with the lens and motion of a sequence's, keyed where it changes."""
    data = bpy.data.cameras.new(name)
    camera = bpy.data.objects.new(name, data)
    context.collection.objects.link(camera)
    camera.rotation_mode = "QUATERNION"
    count, first = len(motion), motion.camera(0)
    assert motion.intrinsics is not None
    assert motion.world_to_camera is not None
    size = first.image_size
    lenses = [frames.lens_from_intrinsics(one, size) for one in motion.intrinsics.reshape(-1, 3, 3)]
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = lenses[0]["sensor_width_mm"]
    table = np.array([[one["lens_mm"], one["shift_x"], one["shift_y"]] for one in lenses])
    table = np.broadcast_to(table, (count, 3))  # one lens for all frames is said once
    columns = zip(("lens", "shift_x", "shift_y"), table.T, strict=True)
    _set_or_key(data, {(path, 0): values for path, values in columns}, scene_frames)
    world = frames.opencv_to_blender_camera(motion.world_to_camera.reshape(-1, 4, 4))
    world = np.broadcast_to(world, (count, 4, 4))
    wxyz = continuous_wxyz(world[:, :3, :3])
    channels = {("location", k): world[:, k, 3] for k in range(3)}
    channels |= {("rotation_quaternion", k): wxyz[:, k] for k in range(4)}
    _set_or_key(camera, channels, scene_frames)
    if np.any(first.distortion):
        camera[scene_camera.DISTORTION_KEY] = first.distortion.tolist()
    render = context.scene.render
    render.resolution_x, render.resolution_y = size
    render.resolution_percentage = 100
    render.pixel_aspect_x = lenses[0]["pixel_aspect_x"]
    render.pixel_aspect_y = lenses[0]["pixel_aspect_y"]
    return camera


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


def _build_view(
    context: bpy.types.Context,
    motion: sequence.Sequence,
    clip: bpy.types.MovieClip | None,
    scene_frames: list[int],
    options: ImportOptions,
) -> bpy.types.Object | None:
    scene = context.scene
    camera = None
    if motion.has_camera:
        camera = build_camera(context, motion, scene_frames, f"{options.name}.camera")
        scene.camera = camera
    rate = motion.mocap_framerate
    if clip is not None and camera is not None:
        show_footage(scene, camera, clip, options.first_scene_frame)
        rate = clip.fps if clip.source == "MOVIE" and clip.fps > 0 else rate
    set_frame_rate(scene, rate)
    scene.frame_start, scene.frame_end = min(scene_frames), max(scene_frames)
    scene.frame_set(scene_frames[0])
    return camera


def _set_or_key(
    owner: bpy.types.ID, channels: dict[tuple[str, int], Array], scene_frames: list[int]
) -> None:
    """Set channels that hold still, key those that move."""
    moving = any(np.ptp(values) > 1e-9 for values in channels.values())
    if moving:
        slot = new_action(owner, owner.name)
        use_action(owner, slot.action, slot.handle)
    for (path, index), values in channels.items():
        if moving:
            curve = ensure_curve(slot.action, slot.handle, (path, index), "Camera")
            set_keys(curve, scene_frames, values)
        current = getattr(owner, path)
        if isinstance(current, float):
            setattr(owner, path, values[0])
        else:
            current[index] = values[0]


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
