# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera of a sequence: keyed bit by bit beside the scene, then put into it."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import frames
from posefit_shared.sequence import Sequence as Motion

from ..keys.fcurves import Channel, empty_action, ensure_curve, set_keys, use_action
from ..keys.unfinished import UNFINISHED, RemovedError, still_there
from ..rigs.bone_rotations import continuous_wxyz
from ..scenes import scene_camera
from ..slices import chunks, to_end

Array = npt.NDArray[np.float64]


def build_camera(
    context: bpy.types.Context, motion: Motion, scene_frames: Sequence[int], name: str
) -> bpy.types.Object:
    """A camera with the lens and motion of a sequence's, keyed where it changes, at once."""
    uid = to_end(camera_slices(motion, scene_frames, name))
    return place_camera(context, motion, name, uid)


def camera_slices(
    motion: Motion, scene_frames: Sequence[int], name: str
) -> Generator[None, None, int]:
    """The same, in no scene.

    Args:
        motion: a sequence with a camera.
        scene_frames: (T,) its frames.
        name: what the camera is to be called.

    Yields:
        Where it may pause.

    Returns:
        Blender's number of the object, which nothing uses.

    Raises:
        RemovedError: it was removed in a pause.
    """
    assert motion.intrinsics is not None
    assert motion.world_to_camera is not None
    data = bpy.data.cameras.new(UNFINISHED)
    camera = bpy.data.objects.new(UNFINISHED, data)
    uid = camera.session_uid
    camera.rotation_mode = "QUATERNION"
    first = motion.camera(0)
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = _first_lens(motion)["sensor_width_mm"]
    if np.any(first.distortion):
        camera[scene_camera.DISTORTION_KEY] = first.distortion.tolist()
    yield
    each = motion.intrinsics.reshape(-1, 3, 3)
    table = np.empty((len(each), 3))
    for rows in chunks(len(each)):
        for row in rows:
            lens = frames.lens_from_intrinsics(each[row], first.image_size)
            table[row] = lens["lens_mm"], lens["shift_x"], lens["shift_y"]
        yield
    table = np.broadcast_to(table, (len(motion), 3))  # one lens for all frames is said once
    columns = zip(("lens", "shift_x", "shift_y"), table.T, strict=True)
    lenses: dict[Channel, Array] = {(path, 0): values for path, values in columns}
    yield from _set_or_key(uid, True, lenses, scene_frames, name)
    world = frames.opencv_to_blender_camera(motion.world_to_camera.reshape(-1, 4, 4))
    world = np.broadcast_to(world, (len(motion), 4, 4))
    yield
    wxyz = continuous_wxyz(world[:, :3, :3])
    places: dict[Channel, Array] = {("location", k): world[:, k, 3] for k in range(3)}
    places |= {("rotation_quaternion", k): wxyz[:, k] for k in range(4)}
    yield from _set_or_key(uid, False, places, scene_frames, name)
    return uid


def place_camera(
    context: bpy.types.Context, motion: Motion, name: str, uid: int
) -> bpy.types.Object:
    """Put a camera of `camera_slices` into the scene, with the size of its pictures.

    Raises:
        RemovedError: it is gone.
    """
    camera = still_there(uid)
    for owner in (camera, camera.data):
        owner.name = name
        if owner.animation_data is not None and owner.animation_data.action is not None:
            owner.animation_data.action.name = name
    context.collection.objects.link(camera)
    render, lens = context.scene.render, _first_lens(motion)
    render.resolution_x, render.resolution_y = motion.camera(0).image_size
    render.resolution_percentage = 100
    render.pixel_aspect_x, render.pixel_aspect_y = lens["pixel_aspect_x"], lens["pixel_aspect_y"]
    return camera


def _first_lens(motion: Motion) -> dict[str, float]:
    assert motion.intrinsics is not None
    return frames.lens_from_intrinsics(
        motion.intrinsics.reshape(-1, 3, 3)[0], motion.camera(0).image_size
    )


def _set_or_key(
    uid: int, is_data: bool, channels: dict[Channel, Array], scene_frames: Sequence[int], name: str
) -> Generator[None, None, None]:
    """Set channels of a camera or its data that hold still, key those that move."""
    moving = any(np.ptp(values) > 1e-9 for values in channels.values())
    for (path, _), values in channels.items():
        owner = _owner(uid, is_data)
        current = getattr(owner, path)
        if isinstance(current, float):
            setattr(owner, path, values[0])
        else:
            setattr(owner, path, [channels[path, k][0] for k in range(len(current))])
    if not moving:
        return
    owner = _owner(uid, is_data)
    slot = empty_action(UNFINISHED, owner.id_type, name)
    use_action(owner, slot.action, slot.handle)
    for channel, values in channels.items():
        yield
        if (action := slot.action) is None:
            raise RemovedError
        set_keys(ensure_curve(action, slot.handle, channel, "Camera"), scene_frames, values)


def _owner(uid: int, is_data: bool) -> bpy.types.ID:
    camera = still_there(uid)
    return camera.data if is_data else camera
