# SPDX-License-Identifier: GPL-3.0-or-later
"""Doubtful frames are seen in the dope sheet, and the artist's own key types survive that."""

import numpy as np
import pytest
from comparison_makers import BONES, keys_of, part, refine, same_keys, smooth_motion, turned
from review_makers import LEFT_ARM, REFINED, add_reviewed_body, doubtful_arm, result_for, say

pytestmark = pytest.mark.bpy

KEYFRAME, EXTREME, BREAKDOWN, JITTER = 0, 1, 2, 3
TYPE = 4
ARM_BONES = {BONES[joint] for joint in LEFT_ARM}


@pytest.fixture
def armature(context):
    return add_reviewed_body(context)


def types_at(action, frame):
    """Types of all keys on a frame, by bone."""
    found = {}
    for (path, _), keys in keys_of(action).items():
        on_frame = keys.kinds[np.abs(keys.times - frame) < 1e-3, TYPE]
        found.setdefault(path.split('"')[1], set()).update(on_frame.tolist())
    return found


def set_type(action, bone, frame, number):
    from blender_addon.keys import fcurves

    handle = action.slots[0].handle if hasattr(action, "slots") else 0
    for (path, _), curve in fcurves.curves_in(action, handle).items():
        if f'"{bone}"' in path:
            keys = fcurves.read_keys(curve)
            keys.kinds[np.abs(keys.times - frame) < 1e-3, TYPE] = number
            fcurves.write_all_keys(curve, keys)


def test_every_key_of_a_doubtful_frame_is_marked_and_doubtful_joints_stand_out(armature):
    import bpy

    before = keys_of(armature.posefit_comparison.refined)
    assert bpy.ops.posefit.mark_keys() == {"FINISHED"}
    action = armature.posefit_comparison.refined
    for bone, types in types_at(action, 5).items():
        assert types == ({EXTREME} if bone in ARM_BONES else {BREAKDOWN}), bone
    for frame in (1, 4, 6, 7, 10):
        assert all(types == {KEYFRAME} for types in types_at(action, frame).values())
    for channel, keys in keys_of(action).items():
        for name in ("points", "left", "right"):
            assert np.array_equal(getattr(keys, name), getattr(before[channel], name))


def test_a_frame_that_was_not_computed_is_marked_on_all_bones(context):
    import bpy

    armature = add_reviewed_body(context, ("refined", "refined", "refined", "failed"))
    bpy.ops.posefit.mark_keys()
    types = types_at(armature.posefit_comparison.refined, 7)
    assert all(found == {EXTREME} for found in types.values())


def test_unmarking_brings_back_every_key_and_keeps_the_artists_types(armature):
    import bpy

    action = armature.posefit_comparison.refined
    for bone, frame, number in (
        ("L_Elbow", 5, JITTER),
        ("Head", 5, BREAKDOWN),
        ("Pelvis", 2, EXTREME),
    ):
        set_type(action, bone, frame, number)
    before = keys_of(action)
    bpy.ops.posefit.mark_keys()
    assert types_at(action, 5)["L_Elbow"] == {JITTER}
    assert types_at(action, 5)["L_Wrist"] == {EXTREME}
    bpy.ops.posefit.mark_keys(use_marks=False)
    assert same_keys(keys_of(action), before)
    assert "posefit_key_marks" not in action


def test_a_type_that_the_artist_gave_after_marking_stays(armature):
    import bpy

    bpy.ops.posefit.mark_keys()
    action = armature.posefit_comparison.refined
    set_type(action, "L_Elbow", 5, JITTER)
    bpy.ops.posefit.mark_keys(use_marks=False)
    types = types_at(action, 5)
    assert types.pop("L_Elbow") == {JITTER}
    assert all(found == {KEYFRAME} for found in types.values())


def test_marks_follow_the_threshold(context, armature):
    import bpy

    settings = context.scene.posefit_review
    bpy.ops.posefit.mark_keys()
    action = armature.posefit_comparison.refined
    settings.threshold = 0.1
    assert types_at(action, 5)["L_Elbow"] == {KEYFRAME}
    settings.threshold = 0.95
    assert types_at(action, 5)["Head"] == {EXTREME}
    assert types_at(action, 4)["Head"] == {EXTREME}
    bpy.ops.posefit.mark_keys(use_marks=False)
    settings.threshold = 0.5
    assert all(found == {KEYFRAME} for found in types_at(action, 5).values())


def test_marking_is_one_undo_step(armature):
    import bpy

    bpy.ops.ed.undo_push(message="before")
    before = keys_of(armature.posefit_comparison.refined)
    bpy.ops.posefit.mark_keys("EXEC_DEFAULT", True)
    bpy.ops.ed.undo()
    action = next(a for a in bpy.data.actions if a.name.endswith(".posefit"))
    assert same_keys(keys_of(action), before)
    assert "posefit_key_marks" not in action


def test_marks_follow_another_refinement(context, armature):
    import bpy

    bpy.ops.posefit.mark_keys()
    refine(context, armature, REFINED, turned(part(smooth_motion(10), slice(3, 7)), 30.0))
    say(context, armature, REFINED, result_for(4, doubtful_arm(row=2)))
    action = armature.posefit_comparison.refined
    assert all(found == {KEYFRAME} for found in types_at(action, 5).values())
    assert types_at(action, 6)["L_Elbow"] == {EXTREME}


@pytest.mark.parametrize("keys", ["COMPUTED", "OWN"])
def test_accepted_motion_has_plain_keys_and_can_be_marked_again(armature, keys):
    import bpy

    bpy.ops.posefit.mark_keys()
    bpy.ops.posefit.accept(keys=keys)
    action = armature.animation_data.action
    assert all((k.kinds[:, TYPE] == KEYFRAME).all() for k in keys_of(action).values())
    bpy.ops.posefit.mark_keys()
    assert types_at(action, 5)["L_Elbow"] == {EXTREME}


def test_the_original_is_never_marked(armature):
    import bpy

    before = keys_of(armature.posefit_comparison.original)
    bpy.ops.posefit.mark_keys()
    armature.posefit_comparison.amount = 0.0
    bpy.ops.posefit.mark_keys(use_marks=False)
    bpy.ops.posefit.mark_keys()
    assert same_keys(keys_of(armature.posefit_comparison.original), before)
