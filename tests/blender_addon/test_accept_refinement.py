# SPDX-License-Identifier: GPL-3.0-or-later
"""What is accepted is what was shown; all else is the original's, keys and handles included."""

import numpy as np
import pytest
from comparison_makers import (
    ARM,
    BETWEEN,
    BONES,
    EVERY,
    add_animated_body,
    add_sparse_body,
    both_motions,
    key_times,
    keys_of,
    part,
    record,
    refine,
    refusal,
    same_keys,
    select,
    shown,
    slerp,
    smooth_motion,
    turned,
)

pytestmark = pytest.mark.bpy

FRAMES = range(1, 11)


@pytest.fixture
def armature(context):
    """Ten keyed frames, of which 4 to 7 were refined."""
    armature = add_animated_body(context, smooth_motion(10), FRAMES)
    refine(context, armature, range(4, 8), turned(part(smooth_motion(10), slice(3, 7))))
    return armature


@pytest.fixture
def sparse(context):
    """An animator's three Bezier poses; the refinement keyed all forty frames."""
    return add_sparse_body(context)


def test_accepting_all_leaves_the_refined_action_and_the_original_as_they_are(context, armature):
    import bpy

    settings = armature.posefit_comparison
    original, refined = settings.original, settings.refined
    before, after = keys_of(original), keys_of(refined)
    assert bpy.ops.posefit.accept() == {"FINISHED"}
    assert armature.animation_data.action == refined
    assert same_keys(keys_of(refined), after)
    assert same_keys(keys_of(original), before)
    assert (original.name, refined.name) == ("Walk", "Walk.posefit")
    assert original.use_fake_user
    assert settings.refined is None
    with pytest.raises(RuntimeError, match="no refinement that waits"):
        bpy.ops.posefit.accept()


@pytest.mark.parametrize("amount", [0.3, 0.5])
def test_the_strength_that_was_shown_is_accepted(context, armature, amount):
    import bpy

    before, after = both_motions(context, armature, FRAMES)
    original = keys_of(armature.posefit_comparison.original)
    armature.posefit_comparison.amount = amount
    assert bpy.ops.posefit.accept() == {"FINISHED"}
    rotations, locations = record(context, armature, FRAMES)
    assert rotations == pytest.approx(slerp(before[0], after[0], amount), abs=1e-4)
    assert locations == pytest.approx((1 - amount) * before[1] + amount * after[1], abs=1e-5)
    assert sorted(action.name for action in bpy.data.actions) == ["Walk", "Walk.posefit"]
    for channel, keys in keys_of(armature.animation_data.action).items():
        untouched = [0, 1, 2, 7, 8, 9]
        assert np.array_equal(keys.points[untouched], original[channel].points[untouched])


def test_only_selected_bones_are_taken(context, armature):
    import bpy

    before, after = both_motions(context, armature, FRAMES)
    original = keys_of(armature.posefit_comparison.original)
    select(armature, [BONES[joint] for joint in ARM])
    assert bpy.ops.posefit.accept(bones="SELECTED") == {"FINISHED"}
    rotations, locations = record(context, armature, FRAMES)
    wanted = before[0].copy()
    wanted[:, ARM] = after[0][:, ARM]
    assert rotations == pytest.approx(wanted, abs=1e-5)
    assert locations == pytest.approx(before[1], abs=1e-6)
    found = keys_of(armature.animation_data.action)
    others = [c for c in original if not any(f'"{BONES[joint]}"' in c[0] for joint in ARM)]
    assert same_keys({c: found[c] for c in others}, {c: original[c] for c in others})


@pytest.mark.parametrize(("first", "last"), [(5, 6), (6, 30), (1, 5)])
def test_only_frames_of_the_range_are_taken(context, armature, first, last):
    import bpy

    before, after = both_motions(context, armature, FRAMES)
    context.scene.use_preview_range = True
    context.scene.frame_preview_start, context.scene.frame_preview_end = first, last
    assert bpy.ops.posefit.accept(frames="RANGE") == {"FINISHED"}
    inside = np.array([first <= frame <= last for frame in FRAMES])
    wanted = np.where(inside[:, None, None, None], after[0], before[0])
    assert record(context, armature, FRAMES)[0] == pytest.approx(wanted, abs=1e-5)
    assert key_times(armature, "Head") == list(FRAMES)


def test_beside_a_range_the_artists_curves_stay_to_the_last_quarter_frame(context, sparse):
    import bpy

    before, after = both_motions(context, sparse, BETWEEN)
    context.scene.frame_start, context.scene.frame_end = 10, 15
    assert bpy.ops.posefit.accept(frames="RANGE") == {"FINISHED"}
    rotations, locations = record(context, sparse, BETWEEN)
    outside = (BETWEEN <= 9) | (BETWEEN >= 16)
    assert rotations[outside] == pytest.approx(before[0][outside], abs=2e-4)
    assert locations[outside] == pytest.approx(before[1][outside], abs=2e-4)
    inside = (BETWEEN >= 10) & (BETWEEN <= 15)
    assert rotations[inside] == pytest.approx(after[0][inside], abs=1e-4)
    assert key_times(sparse, "Head") == [1, *range(9, 17), 20, 40]


def test_a_cut_of_a_straight_segment_leaves_the_bezier_one_before_it(context, sparse):
    import bpy
    from blender_addon.keys import fcurves

    sparse.posefit_comparison.amount = 0
    for curve in fcurves.curves_of(sparse).values():
        curve.keyframe_points[1].interpolation = "LINEAR"
        curve.keyframe_points[1].handle_left_type = "AUTO"
        curve.keyframe_points[1].handle_right_type = "AUTO"
        curve.update()
    before, after = both_motions(context, sparse, BETWEEN)
    context.scene.frame_start, context.scene.frame_end = 22, 24
    assert bpy.ops.posefit.accept(frames="RANGE") == {"FINISHED"}
    rotations, _ = record(context, sparse, BETWEEN)
    outside = (BETWEEN <= 21) | (BETWEEN >= 25)
    assert rotations[outside] == pytest.approx(before[0][outside], abs=2e-4)
    inside = (BETWEEN >= 22) & (BETWEEN <= 24)
    assert rotations[inside] == pytest.approx(after[0][inside], abs=1e-4)


def test_only_the_current_frame_is_taken(context, sparse):
    import bpy

    before, after = both_motions(context, sparse, EVERY)
    context.scene.frame_set(12)
    assert bpy.ops.posefit.accept(frames="CURRENT") == {"FINISHED"}
    wanted = before[0].copy()
    wanted[11] = after[0][11]
    assert record(context, sparse, EVERY)[0] == pytest.approx(wanted, abs=2e-4)


def test_an_easing_beside_a_range_stays_on_whole_frames(context, sparse):
    import bpy
    from blender_addon.keys import fcurves

    settings = sparse.posefit_comparison
    settings.amount = 0
    for curve in fcurves.curves_of(sparse).values():
        for point in curve.keyframe_points:
            point.interpolation = "SINE"
    before, after = both_motions(context, sparse, EVERY)
    context.scene.frame_start, context.scene.frame_end = 10, 15
    assert bpy.ops.posefit.accept(frames="RANGE") == {"FINISHED"}
    wanted = before[0].copy()
    wanted[9:15] = after[0][9:15]
    assert record(context, sparse, EVERY)[0] == pytest.approx(wanted, abs=2e-4)


def test_of_a_pose_without_keys_other_frames_stay_as_it_stood(context):
    import bpy

    bpy.ops.posefit.add_body()
    armature = context.object
    armature.pose.bones["Neck"].rotation_quaternion = (0.8, 0.6, 0, 0)
    stood = record(context, armature, [5])
    refine(context, armature, [4, 5, 6], part(smooth_motion(10), [3, 4, 5]))
    better = record(context, armature, [5])
    context.scene.frame_set(5)
    select(armature, ["Neck"])
    assert bpy.ops.posefit.accept(frames="CURRENT", bones="SELECTED") == {"FINISHED"}
    neck = BONES.index("Neck")
    for frame, wanted in ((2, stood), (4, stood), (5, better), (6, stood), (9, stood)):
        rotations, locations = shown(context, armature, frame)
        assert rotations[neck] == pytest.approx(wanted[0][0, neck], abs=1e-5)
        assert np.delete(rotations, neck, 0) == pytest.approx(
            np.delete(stood[0][0], neck, 0), abs=1e-6
        )
        assert locations == pytest.approx(stood[1][0], abs=1e-6)


def test_a_single_refined_frame_of_a_pose_without_keys_may_be_all_that_is_taken(context):
    import bpy

    bpy.ops.posefit.add_body()
    armature = context.object
    stood = record(context, armature, [5])
    context.scene.frame_set(5)
    refine(context, armature, [5], part(smooth_motion(10), [4]))
    better = record(context, armature, [5])
    context.scene.frame_set(5)
    assert bpy.ops.posefit.accept(frames="CURRENT") == {"FINISHED"}
    for frame, wanted in ((1, stood), (4, stood), (5, better), (6, stood), (30, stood)):
        found = shown(context, armature, frame)
        assert found[0] == pytest.approx(wanted[0][0], abs=1e-5)
        assert found[1] == pytest.approx(wanted[1][0], abs=1e-5)


def test_other_channels_and_kinds_of_keys_stay(context):
    import bpy
    from blender_addon.keys import fcurves

    armature = add_animated_body(context, smooth_motion(10), FRAMES)
    armature.pose.bones["Neck"].keyframe_insert("scale", frame=2)
    armature["mood"] = 1.0
    armature.keyframe_insert('["mood"]', frame=7)
    point = fcurves.curves_of(armature)['pose.bones["Neck"].rotation_quaternion', 1]
    point = point.keyframe_points[8]
    point.interpolation, point.type, point.easing = "BEZIER", "EXTREME", "EASE_OUT"
    point.handle_right_type = "FREE"
    point.handle_right = (point.co.x + 0.25, point.co.y + 0.5)
    handle = tuple(point.handle_right)
    before = keys_of(armature.animation_data.action)
    refine(context, armature, range(3, 6), turned(part(smooth_motion(10), slice(2, 5))))
    armature.keyframe_insert('["mood"]', frame=9)  # work done since then
    context.scene.frame_set(4)
    assert bpy.ops.posefit.accept(frames="CURRENT") == {"FINISHED"}
    after = keys_of(armature.animation_data.action)
    assert after['["mood"]', 0].times.tolist() == [7, 9]
    scale = [channel for channel in before if "scale" in channel[0]]
    assert same_keys({c: after[c] for c in scale}, {c: before[c] for c in scale})
    neck = fcurves.curves_of(armature)['pose.bones["Neck"].rotation_quaternion', 1]
    kept = neck.keyframe_points[8]
    assert tuple(kept.handle_right) == pytest.approx(handle)
    assert (kept.interpolation, kept.type, kept.easing) == ("BEZIER", "EXTREME", "EASE_OUT")


@pytest.mark.parametrize(
    "options", [{}, {"frames": "CURRENT"}, {"keys": "OWN"}, {"keys": "FEWEST"}]
)
def test_one_undo_takes_it_back(context, sparse, options):
    import bpy

    name = sparse.name
    context.scene.frame_set(12)
    sparse.posefit_comparison.amount = 0.5
    refined = keys_of(sparse.posefit_comparison.refined)
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.posefit.accept("EXEC_DEFAULT", True, **options) == {"FINISHED"}
    bpy.ops.ed.undo()
    settings = bpy.data.objects[name].posefit_comparison
    assert settings.amount == pytest.approx(0.5)
    assert bpy.data.objects[name].animation_data.action == settings.preview
    assert same_keys(keys_of(settings.refined), refined)
    bpy.ops.ed.redo()
    assert bpy.data.objects[name].posefit_comparison.refined is None


def test_what_cannot_be_accepted_is_said_and_nothing_changes(context, armature):
    settings = armature.posefit_comparison
    refined = keys_of(settings.refined)
    select(armature, [])
    assert "None of the refined bones of Body is selected" in refusal(bones="SELECTED")
    context.scene.frame_set(30)
    assert "Frames 30 to 30 lie outside what was refined, frames 3 to 8" in refusal(
        frames="CURRENT"
    )
    settings.amount = 0
    assert "press Reject" in refusal()
    settings.amount = 1
    assert same_keys(keys_of(settings.refined), refined)


def test_the_same_keys_are_nothing_to_accept(context):
    motion = smooth_motion(10)
    armature = add_animated_body(context, motion, FRAMES, {})
    refine(context, armature, [], part(motion, []))
    assert "same keys as the original" in refusal()
    assert armature.posefit_comparison.refined is not None
