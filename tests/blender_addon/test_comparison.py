# SPDX-License-Identifier: GPL-3.0-or-later
"""An artist compares, goes back, and loses nothing."""

import numpy as np
import pytest
from comparison_makers import (
    add_animated_body,
    key_motion,
    keys_of,
    part,
    record,
    refine,
    same_keys,
    shown_now,
    slerp,
    smooth_motion,
    turned,
)

pytestmark = pytest.mark.bpy

FRAMES = range(1, 11)
REFINED = range(4, 8)


@pytest.fixture
def armature(context):
    """Ten keyed frames, of which 4 to 7 were refined; bones of every rotation mode."""
    motion = smooth_motion(10)
    armature = add_animated_body(context, motion, FRAMES)
    refine(context, armature, REFINED, turned(part(motion, slice(3, 7))))
    return armature


def in_use(armature):
    return armature.animation_data.action


def both_motions(context, armature):
    armature.posefit_comparison.amount = 0
    before = record(context, armature, FRAMES)
    armature.posefit_comparison.amount = 1
    return before, record(context, armature, FRAMES)


def test_the_ends_of_the_slider_are_the_original_and_the_refined_action(context, armature):
    motion = smooth_motion(10)
    before, after = both_motions(context, armature)
    assert in_use(armature).name == "Walk.posefit"
    assert before[0] == pytest.approx(motion.rotations, abs=1e-5)
    assert before[1] == pytest.approx(motion.root_locations, abs=1e-5)
    wanted = motion.rotations.copy()
    wanted[3:7] = turned(motion).rotations[3:7]
    assert after[0] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("amount", [0.25, 0.5, 0.9])
def test_between_them_each_bone_is_turned_that_part_of_the_way(context, armature, amount):
    before, after = both_motions(context, armature)
    armature.posefit_comparison.amount = amount
    rotations, locations = record(context, armature, FRAMES)
    assert rotations == pytest.approx(slerp(before[0], after[0], amount), abs=1e-4)
    assert locations == pytest.approx((1 - amount) * before[1] + amount * after[1], abs=1e-5)
    context.scene.frame_set(5)
    armature.posefit_comparison.amount = 0.5
    wanted = slerp(before[0][4], after[0][4], 0.5)
    assert shown_now(context, armature) == pytest.approx(wanted, abs=1e-4)
    armature.posefit_comparison.amount = 0
    assert shown_now(context, armature) == pytest.approx(before[0][4], abs=1e-5)


def test_the_slider_changes_neither_action_and_leaves_none_behind(context, armature):
    import bpy

    settings = armature.posefit_comparison
    before, after = keys_of(settings.original), keys_of(settings.refined)
    for amount in (0.3, 0.0, 0.7, 1.0, 0.2):
        settings.amount = amount
    assert same_keys(keys_of(settings.original), before)
    assert same_keys(keys_of(settings.refined), after)
    assert len(bpy.data.actions) == 3
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert [action.name for action in bpy.data.actions] == ["Walk"]


def test_blended_angles_do_not_jump_where_quaternions_and_angles_were_kept_apart(context):
    """The refined action may keep the same rotation by other numbers."""
    from blender_addon.keys import fcurves

    motion = smooth_motion(10)
    armature = add_animated_body(context, motion, FRAMES)
    refine(context, armature, FRAMES, turned(motion))
    for (path, index), curve in fcurves.curves_of(armature).items():
        keys = fcurves.read_keys(curve)
        if 'R_Elbow"].rotation_quaternion' in path:
            keys.points[:, 1] *= -1
        if 'L_Hip"].rotation_euler' in path and index == 0:
            keys.points[:, 1] += 2 * np.pi
        fcurves.write_all_keys(curve, keys)
    before, after = both_motions(context, armature)
    armature.posefit_comparison.amount = 0.5
    rotations, _ = record(context, armature, FRAMES)
    assert rotations == pytest.approx(slerp(before[0], after[0], 0.5), abs=1e-4)
    for channel, keys in keys_of(in_use(armature)).items():
        assert np.abs(np.diff(keys.points[:, 1])).max() < 0.5, channel


def test_reject_brings_the_original_back_and_removes_the_result(context, armature):
    import bpy

    before, _ = both_motions(context, armature)
    armature.posefit_comparison.amount = 0.4
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert [action.name for action in bpy.data.actions] == ["Walk"]
    assert in_use(armature).name == "Walk"
    assert armature.posefit_comparison.refined is None
    assert record(context, armature, FRAMES)[0] == pytest.approx(before[0], abs=1e-6)


def test_a_result_that_something_else_uses_is_kept(context, armature):
    import bpy

    other = bpy.data.objects.new("Other", armature.data)
    other.animation_data_create().action = in_use(armature)
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert "Walk.posefit" in bpy.data.actions


def test_one_undo_takes_a_rejection_back(context, armature):
    import bpy

    name = armature.name
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.posefit.reject("EXEC_DEFAULT", True)
    assert "Walk.posefit" not in bpy.data.actions
    bpy.ops.ed.undo()
    armature = bpy.data.objects[name]
    assert in_use(armature).name == "Walk.posefit"
    settings = armature.posefit_comparison
    assert (settings.original.name, settings.refined.name) == ("Walk", "Walk.posefit")
    settings.amount = 0.5
    assert in_use(armature) == settings.preview


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0])
def test_a_saved_file_goes_on_where_it_was(context, armature, tmp_path, amount):
    import bpy

    before, after = both_motions(context, armature)
    armature.posefit_comparison.amount = amount
    name = armature.name
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    context, armature = bpy.context, bpy.data.objects[name]
    assert armature.posefit_comparison.amount == amount
    wanted = slerp(before[0], after[0], amount)
    assert record(context, armature, FRAMES)[0] == pytest.approx(wanted, abs=1e-4)
    armature.posefit_comparison.amount = 0.75
    wanted = slerp(before[0], after[0], 0.75)
    assert record(context, armature, FRAMES)[0] == pytest.approx(wanted, abs=1e-4)
    context.view_layer.objects.active = armature
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert in_use(armature).name == "Walk"


def test_actions_may_be_renamed(context, armature):
    import bpy

    bpy.data.actions["Walk"].name = "First try"
    bpy.data.actions["Walk.posefit"].name = "Better"
    bpy.data.objects[armature.name].name = "Hans"
    armature.posefit_comparison.amount = 0
    assert in_use(armature).name == "First try"
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert [action.name for action in bpy.data.actions] == ["First try"]


def test_a_pose_without_keys_comes_back_as_it_stood(context):
    import bpy

    bpy.ops.posefit.add_body()
    armature = context.object
    armature.pose.bones["L_Hip"].rotation_mode = "XYZ"
    armature.pose.bones["L_Hip"].rotation_euler = (0.1, 0.2, 0.3)
    armature.pose.bones["Neck"].rotation_quaternion = (0.8, 0.6, 0, 0)
    armature.pose.bones["Pelvis"].location = (1, 2, 3)
    stood = record(context, armature, [5])
    context.scene.frame_set(5)
    refine(context, armature, [5], part(smooth_motion(10), [4]))
    better = record(context, armature, [5])
    assert np.abs(better[0] - stood[0]).max() > 0.1
    armature.posefit_comparison.amount = 0.5
    assert record(context, armature, [5])[0] == pytest.approx(
        slerp(stood[0], better[0], 0.5), abs=1e-4
    )
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert in_use(armature) is None
    assert len(bpy.data.actions) == 0
    back = record(context, armature, [5])
    assert back[0] == pytest.approx(stood[0], abs=1e-6)
    assert back[1] == pytest.approx(stood[1], abs=1e-6)


def test_another_refinement_is_compared_with_the_same_original(context, armature):
    import bpy

    settings = armature.posefit_comparison
    original = settings.original
    refine(context, armature, [9], part(turned(smooth_motion(10), 50), [8]))
    assert settings.original == original
    assert sorted(action.name for action in bpy.data.actions) == ["Walk", "Walk.posefit"]
    before, after = both_motions(context, armature)
    changed = np.abs(after[0] - before[0]).max(axis=(1, 2, 3)) > 1e-3
    assert np.flatnonzero(changed).tolist() == [3, 4, 5, 6, 8]


def test_a_refinement_from_the_middle_of_the_slider_keeps_what_it_did_not_contain(
    context, armature
):
    import bpy

    settings = armature.posefit_comparison
    original, full = settings.original, settings.refined
    settings.amount = 0.5
    refine(context, armature, [9], part(turned(smooth_motion(10), 50), [8]))
    assert settings.original == original
    assert settings.preview is None
    assert full.name == "Walk.posefit"
    assert full.use_fake_user
    assert settings.refined.name == "Walk.posefit.001"
    assert len(bpy.data.actions) == 3


def test_reject_puts_the_shape_back(context, body):
    import bpy
    from blender_addon.results import comparison
    from blender_addon.rigs import body_builder

    motion = smooth_motion(10)
    armature = add_animated_body(context, motion, FRAMES, {})
    heads = {bone.name: np.array(bone.head_local) for bone in armature.data.bones}
    before = comparison.state_before(armature)
    body_builder.set_betas(body_builder.mesh_of(armature), np.linspace(-1, 1, 10))
    body_builder.fit_joints(context, armature, body)
    key_motion(
        armature, [b.name for b in armature.data.bones], FRAMES, turned(motion), "Walk.posefit"
    )
    comparison.remember(armature, before)
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert not body_builder.read_betas(armature).any()
    for bone in armature.data.bones:
        assert np.array(bone.head_local) == pytest.approx(heads[bone.name], abs=1e-5)


def refusal(operator, **options):
    with pytest.raises(RuntimeError) as error:
        operator(**options)
    return str(error.value)


@pytest.mark.parametrize("name", ["accept", "reject"])
def test_without_a_refinement_there_is_nothing_to_decide(context, name):
    import bpy

    operator = getattr(bpy.ops.posefit, name)
    assert not operator.poll()
    bpy.ops.posefit.add_body()
    words = refusal(operator)
    assert "no refinement that waits to be accepted" in words
    assert "Traceback" not in words


@pytest.mark.parametrize("name", ["accept", "reject"])
def test_another_action_or_a_lost_original_is_said_and_changes_nothing(context, armature, name):
    import bpy

    operator = getattr(bpy.ops.posefit, name)
    settings = armature.posefit_comparison
    refined = settings.refined
    armature.animation_data.action = bpy.data.actions.new("Third")
    assert "uses action Third, expected Walk.posefit (refined) or Walk" in refusal(operator)
    settings.amount = 0.5
    assert in_use(armature).name == "Third"
    armature.animation_data.action = refined
    bpy.data.actions.remove(bpy.data.actions["Walk"])
    assert "was removed from the file" in refusal(operator)
    assert in_use(armature) == refined
