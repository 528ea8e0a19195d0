# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refinement said stays with its action: through files, undo, accepting, rejecting."""

import numpy as np
import pytest
from comparison_makers import BONES, part, refine, select, smooth_motion, turned
from review_makers import (
    LEFT_ARM,
    REFINED,
    add_reviewed_body,
    doubtful_arm,
    remember,
    result_for,
    say,
)
from scene_makers import camera_fields, random_sequence, write_footage
from scripted_backend import SHIFT, turned_result

pytestmark = pytest.mark.bpy

STATUS = ("refined", "refined", "kept", "no_person")


@pytest.fixture
def armature(context):
    return add_reviewed_body(context, STATUS)


def found_of(armature):
    from blender_addon.results import findings

    return findings.of_armature(armature)


def same(one, other):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def heads(context, armature, frame):
    """(24, 3) where Blender shows the joints, millimetres."""
    context.scene.frame_set(frame)
    return np.stack([np.array(armature.pose.bones[name].head) for name in BONES]) * 1000


def test_a_refinement_leaves_what_the_backend_said(context, tmp_path):
    from blender_addon.jobs.apply_refinement import apply_refinement
    from blender_addon.jobs.refinement import Refinement
    from blender_addon.scenes import scene_reader
    from blender_addon.sequences import sequence_import

    motion = random_sequence(np.random.default_rng(3), 8, **camera_fields(np.random.default_rng(4)))
    options = sequence_import.ImportOptions("Shot", footage=write_footage(tmp_path / "f", 8))
    armature = sequence_import.import_sequence(context, motion, options).armature
    request = scene_reader.read_now(context, armature, [3, 4])
    confidence = doubtful_arm(2)
    result = turned_result(request, confidence=confidence.astype(np.float32))
    apply_refinement(context, Refinement(request, result, False, armature.session_uid))
    found = found_of(armature)
    assert found.frames.tolist() == [3, 4]
    assert found.bones == BONES
    assert found.status == ("refined", "refined")
    assert found.confidence == pytest.approx(confidence)
    wanted = np.zeros((2, 24))
    wanted[:, 18] = np.degrees(0.3)
    assert found.turned_deg == pytest.approx(wanted, abs=0.05)
    assert found.moved_mm[:, 0] == pytest.approx(1000 * np.linalg.norm(SHIFT), abs=0.5)


def test_how_far_joints_went_is_what_blender_shows(context, armature):
    found = found_of(armature)
    for row, frame in enumerate(REFINED):
        after = heads(context, armature, frame)
        armature.posefit_comparison.amount = 0
        moved = np.linalg.norm(after - heads(context, armature, frame), axis=-1)
        armature.posefit_comparison.amount = 1
        assert found.moved_mm[row] == pytest.approx(moved, abs=0.05)
        assert found.turned_deg[row] == pytest.approx(np.full(24, 20.0), abs=0.01)


def test_it_survives_saving_opening_and_undo(context, armature, tmp_path):
    import bpy

    before = found_of(armature)
    bpy.ops.ed.undo_push(message="refined")
    bpy.ops.posefit.reject()
    bpy.ops.ed.undo_push(message="rejected")
    bpy.ops.ed.undo()
    assert same(found_of(bpy.data.objects[0]), before)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "saved.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "saved.blend"))
    armature = next(item for item in bpy.data.objects if item.type == "ARMATURE")
    assert same(found_of(armature), before)
    assert found_of(armature).report == {"frames": 4, "misfit_after_by_before": 0.625}


def test_rejecting_drops_it(armature):
    import bpy

    bpy.ops.posefit.reject()
    assert found_of(armature) is None
    assert not any("posefit_findings" in action for action in bpy.data.actions)


def test_accepting_all_keeps_it(armature):
    import bpy

    before = found_of(armature)
    bpy.ops.posefit.accept(keys="FEWEST", tolerance_mm=0.01)
    after = found_of(armature)
    assert after.status == STATUS
    assert np.array_equal(after.confidence, before.confidence)
    assert after.moved_mm == pytest.approx(before.moved_mm, abs=0.1)


def test_accepting_some_bones_on_some_frames_keeps_just_those(context, armature):
    import bpy

    select(armature, {BONES[joint] for joint in LEFT_ARM})
    context.scene.frame_start, context.scene.frame_end = 5, 6
    before = found_of(armature)
    bpy.ops.posefit.accept(bones="SELECTED", frames="RANGE")
    after = found_of(armature)
    assert after.frames.tolist() == [5, 6]
    assert after.status == STATUS[1:3]
    others = np.setdiff1d(range(24), LEFT_ARM)
    assert np.array_equal(after.confidence[:, LEFT_ARM], before.confidence[1:3, LEFT_ARM])
    assert np.isnan(after.confidence[:, others]).all()
    assert after.turned_deg[:, others] == pytest.approx(0, abs=0.01)
    assert after.turned_deg[:, LEFT_ARM] == pytest.approx(20, abs=0.05)


def test_half_of_the_way_is_half_of_the_change(armature):
    import bpy

    armature.posefit_comparison.amount = 0.5
    bpy.ops.posefit.accept()
    assert found_of(armature).turned_deg == pytest.approx(np.full((4, 24), 10.0), abs=0.1)


def test_refining_some_frames_again_replaces_what_was_said_of_them(context, armature):
    motion = turned(part(smooth_motion(10), slice(5, 9)), 30.0)
    refine(context, armature, range(6, 10), motion)
    say(context, armature, range(6, 10), result_for(4, np.full((4, 24), 0.3)))
    found = found_of(armature)
    assert found.frames.tolist() == [4, 5, 6, 7, 8, 9]
    assert found.status == ("refined",) * 6
    assert found.confidence[:2] == pytest.approx(doubtful_arm()[:2])
    assert found.confidence[2:] == pytest.approx(np.full((4, 24), 0.3))
    assert found.turned_deg[0] == pytest.approx(20, abs=0.01)
    assert found.turned_deg[-1] == pytest.approx(30, abs=0.01)


def test_frames_of_a_result_may_come_in_any_order(context, armature):
    confidence = np.linspace(0, 1, 96).reshape(4, 24)
    remember(armature, [7, 4, 6, 5], result_for(4, confidence, STATUS))
    found = found_of(armature)
    assert found.frames.tolist() == [4, 5, 6, 7]
    assert found.status == (STATUS[1], STATUS[3], STATUS[2], STATUS[0])
    assert found.confidence == pytest.approx(confidence[[1, 3, 2, 0]])


def test_what_was_accepted_is_said_of_the_frames_that_were_refined(context, armature):
    from blender_addon.results.accept_refinement import accept
    from blender_addon.results.accepted_keys import AcceptOptions

    armature.posefit_comparison.amount = 0.5
    words = accept(armature, AcceptOptions())
    assert "bones accepted on frames 4 to 7 in action" in words
