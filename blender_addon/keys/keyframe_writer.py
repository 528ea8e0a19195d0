# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of a sequence → bone transforms and keys in a new action of the armature.

The last step of the path. What is not one of SMPL's joints, and every key on a frame that was not
computed, stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence

import bpy
import mathutils
import numpy as np
import numpy.typing as npt

from posefit_shared import rotations

from ..control.freedom import Freedom
from ..rigs.bone_rotations import BoneMotion, continuous_wxyz
from .fcurves import (
    ActionSlot,
    Channel,
    empty_action,
    ensure_curve,
    sample,
    set_keys,
    use_action,
)
from .rotation_values import from_matrices, rotation_channel
from .transform_sampling import bone_prefix
from .unfinished import UNFINISHED, RemovedError, still_there

Array = npt.NDArray[np.float64]


def build_motion(
    armature_uid: int,
    slot: ActionSlot,
    bones: Sequence[str],
    scene_frames: Sequence[int],
    motion: BoneMotion,
    freedom: Freedom | None = None,
) -> Generator[None, None, ActionSlot]:
    """Key bone transforms, curve by curve, in an action that nothing uses until it is whole.

    Nothing keeps it but the file that is open: unless it is used it is not saved.

    Args:
        armature_uid: Blender's number of the object to animate.
        slot: a new action, a copy of the one in use (`fcurves.new_action`).
        bones: (J,) names, in the order of `motion`; the first is the root.
        scene_frames: (T,) frames to key, and no others.
        motion: what to key.
        freedom: what could move: locked bones get no keys, pinned frames keep the values they had.

    Yields:
        Where it may pause.

    Returns:
        The action.

    Raises:
        RemovedError: armature or action were removed in a pause.
    """
    freedom = Freedom() if freedom is None else freedom
    pinned = list(freedom.pinned_positions(scene_frames))
    for joint, name in enumerate(bones):
        channels: dict[str, Array] = {}
        armature = still_there(armature_uid)
        if name not in freedom.locked:
            mode = armature.pose.bones[name].rotation_mode
            path = bone_prefix(name) + rotation_channel(mode)
            old = _old_values(armature, slot.curves, path, scene_frames, also_still=bool(pinned))
            channels[path] = _rotation_values(motion.rotations[:, joint], mode, old, bool(pinned))
        if joint == 0 and not freedom.is_root_held:
            channels[f"{bone_prefix(name)}location"] = motion.root_locations
        for path, values in channels.items():
            if pinned:
                armature = still_there(armature_uid)
                old = _old_values(armature, slot.curves, path, scene_frames, also_still=True)
                values = values.copy()
                values[pinned] = old[pinned]
            yield from _keyed(slot, path, values, scene_frames, name)
    return slot


def build_first_motion(
    name: str, bones: Sequence[str], scene_frames: Sequence[int], motion: BoneMotion
) -> Generator[None, None, ActionSlot]:
    """The same for an armature that is still to be made, its bones turned by quaternions.

    Args:
        name: what the armature is to be called.
        bones, scene_frames, motion: as `build_motion` takes them.

    Yields:
        Where it may pause.

    Returns:
        A new action with these keys and no others.

    Raises:
        RemovedError: the action was removed in a pause.
    """
    slot = empty_action(UNFINISHED, "OBJECT", name)
    for joint, bone in enumerate(bones):
        values = continuous_wxyz(motion.rotations[:, joint])
        path = f"{bone_prefix(bone)}rotation_quaternion"
        yield from _keyed(slot, path, values, scene_frames, bone)
        if joint == 0:
            path = f"{bone_prefix(bone)}location"
            yield from _keyed(slot, path, motion.root_locations, scene_frames, bone)
    return slot


def _keyed(
    slot: ActionSlot, path: str, values: Array, scene_frames: Sequence[int], group: str
) -> Generator[None, None, None]:
    """Put keys on the curves of a property, values (T, size), with a pause before each."""
    for index, column in enumerate(values.T):
        yield
        if (action := slot.action) is None:
            raise RemovedError
        curve = ensure_curve(action, slot.handle, (path, index), group)
        set_keys(curve, scene_frames, column)


def use_built(armature: bpy.types.Object, built: ActionSlot, action_name: str) -> bpy.types.Action:
    """Have an armature use what was built for it; the action that it had is kept with the file.

    Raises:
        RemovedError: it is gone.
    """
    action = built.action
    if action is None:
        raise RemovedError
    if armature.animation_data is not None and armature.animation_data.action is not None:
        armature.animation_data.action.use_fake_user = True
    action.name = action_name
    use_action(armature, action, built.handle)
    return action


def refined_action_name(armature: bpy.types.Object) -> str:
    """What a refinement's action is called: the old one's name with `.posefit`."""
    animation = armature.animation_data
    action = None if animation is None else animation.action
    base = armature.name if action is None else action.name
    return re.sub(r"\.posefit(\.preview)?(\.\d+)?$", "", base) + ".posefit"


def _rotation_values(matrices: Array, mode: str, old: Array | None, is_near: bool) -> Array:
    """Values (T, 3 or 4) of rotations in a bone's mode.

    Args:
        matrices: (T, 3, 3).
        mode: the bone's rotation mode.
        old: (T, 3 or 4) what it had, where it was animated.
        is_near: choose values nearest to the old ones, as some of those stay between them.
    """
    if is_near:
        return from_matrices(matrices, mode, old)
    if mode == "QUATERNION":
        return continuous_wxyz(matrices) if old is None else from_matrices(matrices, mode, old)
    if mode == "AXIS_ANGLE":
        rotvec = rotations.continuous_rotvecs(rotations.matrix_to_rotvec(matrices))
        angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
        axis = np.where(angle > 1e-9, rotvec / np.maximum(angle, 1e-9), (0.0, 1.0, 0.0))
        return np.concatenate([angle, axis], -1)
    return _continuous_euler(matrices, mode, old)


def _old_values(
    armature: bpy.types.Object,
    present: Mapping[Channel, bpy.types.FCurve],
    path: str,
    scene_frames: Sequence[int],
    *,
    also_still: bool,
) -> Array | None:
    """What a property (T, size) had; none where a channel has no keys, unless those count too."""
    still = list(armature.path_resolve(path))
    curves = [present.get((path, index)) for index in range(len(still))]
    keyed = [curve is not None and len(curve.keyframe_points) > 0 for curve in curves]
    if not also_still and not all(keyed):
        return None
    columns = [
        sample(curve, scene_frames) if is_keyed else np.full(len(scene_frames), value)
        for curve, value, is_keyed in zip(curves, still, keyed, strict=True)
    ]
    return np.stack(columns, -1)


def _continuous_euler(matrices: Array, order: str, old: Array | None) -> Array:
    result = np.zeros((len(matrices), 3))
    near: mathutils.Euler | None = None
    for t, matrix in enumerate(matrices.tolist()):
        if old is not None:
            near = mathutils.Euler(old[t], order)
        turned = mathutils.Matrix(matrix)
        euler = turned.to_euler(order) if near is None else turned.to_euler(order, near)
        result[t], near = tuple(euler), euler
    return result
