# SPDX-License-Identifier: GPL-3.0-or-later
"""Animation in NLA strips: refined over them, and accepted as a strip beside the untouched rest."""

import numpy as np
import pytest
from comparison_makers import record
from scripted_backend import SHIFT, TURN, ScriptedBackend
from session_makers import add_shot, connect, refine_range
from test_session import session

__all__ = ["session"]

pytestmark = pytest.mark.bpy

ALL = range(3, 11)
L_ELBOW = 18


@pytest.fixture
def shot(context, tmp_path):
    """Eight frames from scene frame 3 on, pushed down to an NLA track."""
    armature = add_shot(tmp_path)
    animation = armature.animation_data
    action = animation.action
    slot = getattr(animation, "action_slot", None)
    animation.action = None
    track = animation.nla_tracks.new()
    track.name = "Mocap"
    strip = track.strips.new("Mocap", 3, action)
    if slot is not None:
        strip.action_slot = slot
    return armature


def turned(context, armature, before):
    """(T,) by how much of the scripted turn each frame's elbow differs from before."""
    after, _ = record(context, armature, ALL)
    turn = np.swapaxes(before[0][:, L_ELBOW], -1, -2) @ after[:, L_ELBOW]
    angle = np.arccos(np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    wanted = np.arccos((np.trace(TURN) - 1) / 2)
    return np.round(angle / wanted, 2).tolist()


def test_the_refined_action_goes_over_the_strips_on_its_frames_alone(context, shot, session):
    before = record(context, shot, ALL)
    refine_range(session, context, (5, 7))
    assert shot.animation_data.action.name == "Shot.posefit"
    assert turned(context, shot, before) == [0, 0, 1, 1, 1, 0, 0, 0]
    settings = shot.posefit_comparison
    settings.amount = 0.5
    assert turned(context, shot, before) == [0, 0, 0.5, 0.5, 0.5, 0, 0, 0]
    settings.amount = 0.0
    assert turned(context, shot, before) == [0] * 8


def test_what_was_found_is_measured_against_the_strips(context, shot, session):
    from blender_addon.results import findings

    refine_range(session, context, (5, 7))
    found = findings.of_armature(shot)
    assert found.turned_deg[:, L_ELBOW] == pytest.approx([np.degrees(0.3)] * 3, abs=0.01)
    assert np.abs(np.delete(found.turned_deg, L_ELBOW, 1)).max() < 0.05
    assert found.moved_mm[:, 0] == pytest.approx([np.linalg.norm(SHIFT) * 1e3] * 3, abs=0.5)


@pytest.mark.parametrize("frames", [(5, 7), (6, 6)])
def test_accepted_it_is_a_strip_above_the_others(context, shot, session, frames):
    import bpy

    before = record(context, shot, ALL)
    refine_range(session, context, frames)
    wanted = [float(frames[0] <= frame <= frames[1]) for frame in ALL]
    with pytest.raises(RuntimeError, match="lives in NLA strips"):
        bpy.ops.posefit.accept(keys="FEWEST")
    assert bpy.ops.posefit.accept() == {"FINISHED"}
    animation = shot.animation_data
    assert animation.action is None
    assert [track.name for track in animation.nla_tracks] == ["Mocap", "Shot.posefit"]
    assert turned(context, shot, before) == wanted


def test_rejected_the_strips_alone_are_left(context, shot, session):
    import bpy

    before = record(context, shot, ALL)
    refine_range(session, context, (5, 7))
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert shot.animation_data.action is None
    assert turned(context, shot, before) == [0] * 8
    assert [track.name for track in shot.animation_data.nla_tracks] == ["Mocap"]
    assert "Shot.posefit" not in bpy.data.actions


def test_of_a_pinned_frame_what_the_backend_left_is_keyed(context, shot, session):
    before = record(context, shot, ALL)
    shot.posefit_pinned_frames = "6"
    request = refine_range(session, context, (5, 7))
    assert request.pinned_frames == (1,)
    # The scripted backend turns pinned frames too: it is shown what came back, not a curve's value.
    assert turned(context, shot, before) == [0, 0, 1, 1, 1, 0, 0, 0]


def test_an_action_that_is_mixed_into_strips_is_refused_in_words(context, shot, session):
    import bpy

    animation = shot.animation_data
    animation.action = bpy.data.actions["Shot"].copy()
    animation.action_blend_type = "COMBINE"
    with ScriptedBackend() as backend:
        connect(session, backend)
        with pytest.raises(
            RuntimeError, match=r"is mixed into its NLA strips \(blending Combine\)"
        ):
            bpy.ops.posefit.refine_frame(wait=True)
