# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys go into a new action, on the frames they were computed for, and nowhere else."""

import numpy as np
import pytest
from comparison_makers import key_motion
from scene_makers import random_sequence

from posefit_shared import rotations, skeleton

pytestmark = pytest.mark.bpy


@pytest.fixture
def armature(context):
    """A body with ten frames of motion, action `Walk`."""
    from blender_addon.sequences import sequence_import

    motion = random_sequence(np.random.default_rng(3), count=10)
    options = sequence_import.ImportOptions("Walk", with_camera=False)
    return sequence_import.import_sequence(context, motion, options).armature


def make_motion(count, seed=0):
    from blender_addon.rigs.bone_rotations import BoneMotion

    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(count, 24, 3)) * 0.1 + rng.normal(size=(24, 3))
    return BoneMotion(rotations.rotvec_to_matrix(steps), rng.normal(size=(count, 3)))


def all_keys(owner):
    from blender_addon.keys import fcurves

    curves = fcurves.curves_of(owner)
    return {channel: fcurves.read_keys(curve).points.copy() for channel, curve in curves.items()}


def write(armature, frames, motion, name="Walk.posefit"):
    return key_motion(armature, skeleton.SMPL_JOINT_NAMES, frames, motion, name)


def test_a_refined_frame_changes_that_frame_alone_in_a_copy_of_the_action(armature):
    import bpy

    before = all_keys(armature)
    old = armature.animation_data.action
    motion = make_motion(1)
    new = write(armature, [4], motion)
    assert new != old
    assert old.name in bpy.data.actions
    assert old.use_fake_user
    after = all_keys(armature)
    assert after.keys() == before.keys()
    for channel, points in after.items():
        others = points[:, 0] != 4
        assert np.array_equal(points[others], before[channel][others])
    bpy.context.scene.frame_set(4)
    shown = np.array(armature.pose.bones["L_Elbow"].matrix_basis)[:3, :3]
    assert shown == pytest.approx(motion.rotations[0, 18], abs=1e-5)
    armature.animation_data.action = old
    if hasattr(armature.animation_data, "action_slot"):
        armature.animation_data.action_slot = old.slots[0]
    untouched = all_keys(armature)
    assert all(np.array_equal(untouched[channel], before[channel]) for channel in before)


def test_an_armature_without_an_action_gets_one(context):
    import bpy
    from blender_addon.keys import fcurves

    bpy.ops.posefit.add_body()
    armature = context.object
    action = write(armature, [3, 5], make_motion(2), "Body.posefit")
    assert armature.animation_data.action == action
    curves = fcurves.curves_of(armature)
    assert all(c.group.name in path for (path, _), c in curves.items())
    keys = all_keys(armature)
    assert len(keys) == 24 * 4 + 3
    assert all(points[:, 0].tolist() == [3, 5] for points in keys.values())


def test_keys_between_and_other_channels_stay(armature):
    from blender_addon.keys import fcurves

    armature.pose.bones["Neck"].keyframe_insert("scale", frame=2)
    armature.pose.bones["Neck"].keyframe_insert("rotation_quaternion", frame=4.5)
    armature["mood"] = 1.0
    armature.keyframe_insert('["mood"]', frame=7)
    before = all_keys(armature)
    write(armature, [4, 5], make_motion(2))
    after = all_keys(armature)
    assert after.keys() == before.keys()
    neck = fcurves.curves_of(armature)['pose.bones["Neck"].rotation_quaternion', 0]
    assert 4.5 in fcurves.read_keys(neck).points[:, 0]
    for channel in before:
        if "scale" in channel[0] or "mood" in channel[0]:
            assert np.array_equal(after[channel], before[channel])


def test_the_artists_own_handles_and_interpolation_survive(armature):
    from blender_addon.keys import fcurves

    channel = ('pose.bones["Neck"].rotation_quaternion', 1)
    curve = fcurves.curves_of(armature)[channel]
    point = curve.keyframe_points[6]
    point.interpolation = "BEZIER"
    point.handle_left_type = point.handle_right_type = "FREE"
    point.handle_right = (point.co.x + 0.25, point.co.y + 0.5)
    curve.keyframe_points[2].interpolation = "CONSTANT"
    wanted = tuple(point.handle_right)
    write(armature, [3, 3.5, 20], make_motion(3))
    keys = fcurves.curves_of(armature)[channel].keyframe_points
    kept = next(k for k in keys if k.co.x == 7)
    assert tuple(kept.handle_right) == pytest.approx(wanted)
    assert kept.handle_right_type == "FREE"
    first = next(k for k in keys if k.co.x == 3)
    assert first.interpolation == "CONSTANT"  # its value changed, not its kind
    added = next(k for k in keys if k.co.x == 3.5)
    assert added.interpolation == "CONSTANT"  # as the key before it


def test_quaternions_do_not_flip_between_frames_nor_against_the_old_ones(armature):
    from blender_addon.keys import fcurves

    curves = fcurves.curves_of(armature)
    channels = [('pose.bones["Head"].rotation_quaternion', k) for k in range(4)]
    for channel in channels:  # the same rotations with the other sign
        keys = fcurves.read_keys(curves[channel])
        keys.points[:, 1] *= -1
        fcurves.write_all_keys(curves[channel], keys)
    old = np.stack([fcurves.read_keys(curves[c]).points[:, 1] for c in channels], -1)
    frame = armature.animation_data.action.copy()
    assert frame is not None
    from blender_addon.rigs.bone_rotations import BoneMotion

    still = rotations.wxyz_to_matrix(old[4:7])
    motion = BoneMotion(np.repeat(still[:, None], 24, 1), np.zeros((3, 3)))
    write(armature, [5, 6, 7], motion)
    curves = fcurves.curves_of(armature)
    new = np.stack([fcurves.read_keys(curves[c]).points[:, 1] for c in channels], -1)
    assert new == pytest.approx(old, abs=1e-6)


@pytest.mark.parametrize("mode", ["XYZ", "ZXY", "AXIS_ANGLE"])
def test_a_bones_rotation_mode_is_kept(context, mode):
    import bpy
    from blender_addon.rigs.bone_rotations import BoneMotion

    bpy.ops.posefit.add_body()
    armature = context.object
    bone = armature.pose.bones["L_Hip"]
    bone.rotation_mode = mode
    turning = np.stack([np.full(40, 0.02), np.linspace(0, 9, 40), np.zeros(40)], -1)
    matrices = rotations.rotvec_to_matrix(turning)
    motion = BoneMotion(np.repeat(matrices[:, None], 24, 1), np.zeros((40, 3)))
    write(armature, range(1, 41), motion)
    assert bone.rotation_mode == mode
    path = "rotation_axis_angle" if mode == "AXIS_ANGLE" else "rotation_euler"
    keys = all_keys(armature)
    values = np.stack(
        [p[:, 1] for (data_path, _), p in sorted(keys.items()) if f'L_Hip"].{path}' in data_path],
        -1,
    )
    assert np.abs(np.diff(values, axis=0)).max() < 1.0
    for frame in (1, 17, 40):
        context.scene.frame_set(frame)
        shown = np.array(bone.matrix_basis)[:3, :3]
        assert shown == pytest.approx(matrices[frame - 1], abs=1e-5)
