# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of a sequence → bone transforms and keys in a new action of the armature.

The last step of the path. What is not one of SMPL's joints, and every key on a frame that was not
computed, stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import bpy
import mathutils
import numpy as np
import numpy.typing as npt

from posefit_shared import rotations

from ..control.freedom import Freedom
from ..rigs.bone_rotations import BoneMotion, continuous_wxyz
from .fcurves import Channel, curves_of, ensure_curve, sample, set_keys, use_new_action
from .rotation_values import from_matrices, rotation_channel
from .transform_sampling import bone_prefix

Array = npt.NDArray[np.float64]


def key_motion(
    armature: bpy.types.Object,
    bones: Sequence[str],
    scene_frames: Sequence[int],
    motion: BoneMotion,
    action_name: str,
    freedom: Freedom | None = None,
) -> bpy.types.Action:
    """Key bone transforms in a new action; the one that was in use is kept untouched.

    Args:
        armature: the object to animate.
        bones: (J,) names, in the order of `motion`; the first is the root.
        scene_frames: (T,) frames to key, and no others.
        motion: what to key.
        action_name: name of the new action.
        freedom: what could move: locked bones get no keys, pinned frames keep the values they had.

    Returns:
        The new action, in use by the armature.
    """
    freedom = Freedom() if freedom is None else freedom
    action = use_new_action(armature, action_name)
    present = curves_of(armature)
    pinned = list(freedom.pinned_positions(scene_frames))
    for joint, name in enumerate(bones):
        channels: dict[str, Array] = {}
        if name not in freedom.locked:
            mode = armature.pose.bones[name].rotation_mode
            path = bone_prefix(name) + rotation_channel(mode)
            old = _old_values(armature, present, path, scene_frames, also_still=bool(pinned))
            channels[path] = _rotation_values(motion.rotations[:, joint], mode, old, bool(pinned))
        if joint == 0 and not freedom.is_root_held:
            channels[f"{bone_prefix(name)}location"] = motion.root_locations
        for path, values in channels.items():
            if pinned:
                old = _old_values(armature, present, path, scene_frames, also_still=True)
                values = values.copy()
                values[pinned] = old[pinned]
            for index, column in enumerate(values.T):
                channel = (path, index)
                curve = present.get(channel) or ensure_curve(armature, channel, name)
                set_keys(curve, scene_frames, column)
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
