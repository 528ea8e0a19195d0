# SPDX-License-Identifier: GPL-3.0-or-later
"""Armatures with an original and a refined motion, and what they show."""

from __future__ import annotations

import numpy as np

from posefit_shared import rotations, skeleton

BONES = skeleton.SMPL_JOINT_NAMES
MODES = {"L_Hip": "XYZ", "R_Hip": "ZXY", "L_Knee": "AXIS_ANGLE", "R_Knee": "YXZ"}
"""Bones that do not turn by quaternions."""
ARM = [BONES.index(name) for name in ("L_Shoulder", "L_Elbow", "L_Hip")]
"""Joints to accept alone."""
POSES = [1, 20, 40]
EVERY = range(1, 41)
BETWEEN = np.arange(1, 40.1, 0.25)
"""Frames of the sparse motion: its own keys, all, and quarters of frames."""


def smooth_motion(count, seed=0, size=0.4):
    """Bones that turn smoothly about poses of their own."""
    from blender_addon.rigs.bone_rotations import BoneMotion

    rng = np.random.default_rng(seed)
    time = np.linspace(0, 2, count)[:, None, None]
    swing = np.sin(time + rng.uniform(0, 6, (1, 24, 3))) * rng.normal(size=(24, 3)) * size
    rest = rng.normal(size=(24, 3)) * 0.3
    locations = np.stack([time[:, 0, 0], np.sin(time[:, 0, 0]), rng.normal() + time[:, 0, 0]], -1)
    return BoneMotion(rotations.rotvec_to_matrix(rest + swing), locations)


def turned(motion, degrees=20.0, seed=7):
    """The same motion, each bone turned a little further and the root moved."""
    from blender_addon.rigs.bone_rotations import BoneMotion

    axes = np.random.default_rng(seed).normal(size=(24, 3))
    axes *= np.radians(degrees) / np.linalg.norm(axes, axis=-1, keepdims=True)
    further = motion.rotations @ rotations.rotvec_to_matrix(axes)
    return BoneMotion(further, motion.root_locations + (0.0, 0.1, 0.2))


def part(motion, indices):
    """Some frames of a motion."""
    from blender_addon.rigs.bone_rotations import BoneMotion

    return BoneMotion(motion.rotations[indices], motion.root_locations[indices])


def key_motion(armature, bones, frames, motion, action_name, freedom=None):
    """Key bone transforms in a new action, built as a job builds it, and have it in use."""
    from blender_addon.keys import fcurves, keyframe_writer
    from blender_addon.keys.unfinished import UNFINISHED
    from blender_addon.slices import to_end

    begun = fcurves.new_action(armature, UNFINISHED)
    building = keyframe_writer.build_motion(
        armature.session_uid, begun, bones, frames, motion, freedom
    )
    return keyframe_writer.use_built(armature, to_end(building), action_name)


def add_animated_body(context, motion, frames, modes=MODES):
    """A body with an action `Walk`."""
    import bpy

    bpy.ops.posefit.add_body()
    armature = context.object
    for name, mode in modes.items():
        armature.pose.bones[name].rotation_mode = mode
    key_motion(armature, BONES, frames, motion, "Walk")
    armature.animation_data.action.name = "Walk"
    context.scene.frame_set(context.scene.frame_current)
    return armature


def refine(context, armature, frames, motion):
    """What putting a refinement in place does."""
    from blender_addon.keys import keyframe_writer
    from blender_addon.results import comparison

    before = comparison.state_before(armature)
    name = keyframe_writer.refined_action_name(armature)
    key_motion(armature, BONES, frames, motion, name)
    comparison.remember(armature, before)
    context.scene.frame_set(context.scene.frame_current)


def shown(context, armature, frame):
    """Rotations (24, 3, 3) and the root's location (3,) that Blender shows at a frame."""
    context.scene.frame_set(int(np.floor(frame)), subframe=frame - np.floor(frame))
    matrices = [np.array(armature.pose.bones[name].matrix_basis)[:3, :3] for name in BONES]
    return np.stack(matrices), np.array(armature.pose.bones["Pelvis"].location)


def shown_now(context, armature):
    """The same at the current frame, without setting it."""
    context.view_layer.update()
    evaluated = armature.evaluated_get(context.evaluated_depsgraph_get())
    return np.stack([np.array(evaluated.pose.bones[n].matrix_basis)[:3, :3] for n in BONES])


def record(context, armature, frames):
    """What is shown on many frames: (T, 24, 3, 3) and (T, 3)."""
    rows = [shown(context, armature, frame) for frame in frames]
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def slerp(before, after, amount):
    """Rotations a share of the way between two, along the shortest turn."""
    turn = rotations.matrix_to_rotvec(np.swapaxes(before, -1, -2) @ after)
    return before @ rotations.rotvec_to_matrix(amount * turn)


def keys_of(action):
    """All keys of an action by channel, as arrays."""
    from blender_addon.keys import fcurves

    handle = action.slots[0].handle if hasattr(action, "slots") else 0
    curves = fcurves.curves_in(action, handle)
    return {channel: fcurves.read_keys(curve) for channel, curve in curves.items()}


def same_keys(one, other):
    """Whether two results of `keys_of` are the same."""
    return one.keys() == other.keys() and all(
        np.array_equal(getattr(one[channel], name), getattr(other[channel], name))
        for channel in one
        for name in ("points", "left", "right", "kinds")
    )


def add_sparse_body(context):
    """Three Bezier poses of an animator's, of which a refinement keyed all forty frames."""
    from blender_addon.keys import curve_keys, fcurves

    armature = add_animated_body(context, part(smooth_motion(40), [0, 19, 39]), POSES)
    for curve in fcurves.curves_of(armature).values():
        keys = fcurves.read_keys(curve)
        keys.kinds[:, 0] = curve_keys.BEZIER
        keys.kinds[:, 1:3] = curve_keys.AUTO_CLAMPED
        fcurves.write_all_keys(curve, keys)
    refine(context, armature, EVERY, turned(smooth_motion(40)))
    return armature


def select(armature, names):
    for bone in armature.pose.bones:
        (bone if hasattr(bone, "select") else bone.bone).select = bone.name in names


def both_motions(context, armature, frames):
    armature.posefit_comparison.amount = 0
    before = record(context, armature, frames)
    armature.posefit_comparison.amount = 1
    return before, record(context, armature, frames)


def key_times(armature, bone):
    keys = keys_of(armature.animation_data.action)
    return sorted({t for (path, _), k in keys.items() if f'"{bone}"' in path for t in k.times})


def refusal(**options):
    """What Accept says when it refuses."""
    import bpy
    import pytest

    with pytest.raises(RuntimeError) as error:
        bpy.ops.posefit.accept(**options)
    assert "Traceback" not in str(error.value)
    return str(error.value)
