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

from .bone_rotations import BoneMotion, continuous_wxyz
from .fcurves import Channel, curves_of, ensure_curve, evaluate, set_keys, use_new_action
from .rotation_values import from_matrices
from .transform_sampling import bone_prefix

Array = npt.NDArray[np.float64]


def key_motion(
    armature: bpy.types.Object,
    bones: Sequence[str],
    scene_frames: Sequence[int],
    motion: BoneMotion,
    action_name: str,
) -> bpy.types.Action:
    """Key bone transforms in a new action; the one that was in use is kept untouched.

    Args:
        armature: the object to animate.
        bones: (J,) names, in the order of `motion`; the first is the root.
        scene_frames: (T,) frames to key, and no others.
        motion: what to key.
        action_name: name of the new action.

    Returns:
        The new action, in use by the armature.
    """
    action = use_new_action(armature, action_name)
    present = curves_of(armature)
    for joint, name in enumerate(bones):
        pose_bone = armature.pose.bones[name]
        prefix = bone_prefix(name)
        path, values = _rotation_values(pose_bone, present, prefix, scene_frames, motion, joint)
        channels = {(prefix + path, index): values[:, index] for index in range(values.shape[1])}
        if joint == 0:
            locations = motion.root_locations
            channels |= {(f"{prefix}location", index): locations[:, index] for index in range(3)}
        for channel, column in channels.items():
            curve = present.get(channel) or ensure_curve(armature, channel, name)
            set_keys(curve, scene_frames, column)
    return action


def refined_action_name(armature: bpy.types.Object) -> str:
    """What a refinement's action is called: the old one's name with `.posefit`."""
    animation = armature.animation_data
    action = None if animation is None else animation.action
    base = armature.name if action is None else action.name
    return re.sub(r"\.posefit(\.preview)?(\.\d+)?$", "", base) + ".posefit"


def _rotation_values(
    pose_bone: bpy.types.PoseBone,
    present: Mapping[Channel, bpy.types.FCurve],
    prefix: str,
    scene_frames: Sequence[int],
    motion: BoneMotion,
    joint: int,
) -> tuple[str, Array]:
    """The bone's rotation channel and its values (T, 3 or 4), in the mode that the bone has."""
    matrices = motion.rotations[:, joint]
    if pose_bone.rotation_mode == "QUATERNION":
        old = _old_values(present, prefix + "rotation_quaternion", 4, scene_frames)
        if old is None:
            return "rotation_quaternion", continuous_wxyz(matrices)
        return "rotation_quaternion", from_matrices(matrices, "QUATERNION", old)
    if pose_bone.rotation_mode == "AXIS_ANGLE":
        rotvec = rotations.continuous_rotvecs(rotations.matrix_to_rotvec(matrices))
        angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
        axis = np.where(angle > 1e-9, rotvec / np.maximum(angle, 1e-9), (0.0, 1.0, 0.0))
        return "rotation_axis_angle", np.concatenate([angle, axis], -1)
    old = _old_values(present, prefix + "rotation_euler", 3, scene_frames)
    return "rotation_euler", _continuous_euler(matrices, pose_bone.rotation_mode, old)


def _old_values(
    present: Mapping[Channel, bpy.types.FCurve], path: str, size: int, scene_frames: Sequence[int]
) -> Array | None:
    curves = [present.get((path, index)) for index in range(size)]
    if any(curve is None or len(curve.keyframe_points) == 0 for curve in curves):
        return None
    return np.stack([evaluate(curve, scene_frames) for curve in curves if curve is not None], -1)


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
