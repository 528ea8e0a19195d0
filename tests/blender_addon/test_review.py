# SPDX-License-Identifier: GPL-3.0-or-later
"""An artist goes through the doubtful frames of a refinement."""

from types import SimpleNamespace

import pytest
from comparison_makers import add_animated_body, smooth_motion
from review_makers import FRAMES, add_reviewed_body
from test_panels import Recorder

pytestmark = pytest.mark.bpy

STATUS = ("refined", "refined", "kept", "failed")


@pytest.fixture
def armature(context):
    return add_reviewed_body(context, STATUS)


def panel_words(context):
    from blender_addon import panels

    layout = Recorder([])
    panels.review.POSEFIT_PT_review.draw(SimpleNamespace(layout=layout), context)
    return layout.words


def test_next_and_previous_go_through_the_doubtful_frames(context, armature):
    import bpy

    context.scene.frame_set(1)
    visited = []
    for _ in range(3):
        assert bpy.ops.posefit.next_doubtful() == {"FINISHED"}
        visited.append(context.scene.frame_current)
    assert visited == [5, 7, 5]
    bpy.ops.posefit.previous_doubtful()
    assert context.scene.frame_current == 7
    context.scene.posefit_review.threshold = 0.1
    context.scene.frame_set(9)
    bpy.ops.posefit.next_doubtful()
    assert context.scene.frame_current == 7


def test_where_nothing_is_doubtful_the_frame_stays(context):
    import bpy

    add_reviewed_body(context)
    context.scene.frame_set(2)
    context.scene.posefit_review.threshold = 0.1
    assert bpy.ops.posefit.next_doubtful() == {"CANCELLED"}
    assert context.scene.frame_current == 2


def test_a_body_without_findings_is_told_so(context):
    import bpy
    from blender_addon.results import review

    from blender_addon import panels

    armature = add_animated_body(context, smooth_motion(10), FRAMES)
    assert not panels.review.POSEFIT_PT_review.poll(context)
    assert not bpy.ops.posefit.next_doubtful.poll()
    assert review.problem(armature) == "Body shows no refined action: refine it first"


def test_the_panel_counts_frames_and_lists_the_worst(context, armature):
    words = panel_words(context)
    text = " ".join(words)
    assert text.startswith("2 frames refined, 1 left as it was, 1 not computed 62% of the misfit")
    assert words.count("posefit.show_frame") == 4
    assert {"threshold", "posefit.next_doubtful", "posefit.mark_keys"} <= set(words)


def test_a_listed_frame_is_one_press_away(context, armature):
    import bpy
    from blender_addon.results import review

    worst = review.worst(armature, 2)
    assert [review.doubt_words(one) for one in worst] == [
        "Frame 7: could not be computed",
        "Frame 5, left arm: 20% sure",
    ]
    bpy.ops.posefit.show_frame(frame=worst[1].frame)
    assert context.scene.frame_current == 5


def test_settings_are_saved_with_the_scene(context, armature, tmp_path):
    import bpy

    context.scene.posefit_review.threshold = 0.3
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "saved.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "saved.blend"))
    assert bpy.context.scene.posefit_review.threshold == pytest.approx(0.3)
