# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist locks, pins and stiffens goes over the wire, and is not touched in the action."""

from types import SimpleNamespace

import numpy as np
import pytest
from comparison_makers import keys_of, select
from scripted_backend import ScriptedBackend, turned_result
from session_makers import add_shot, connect, finished

from posefit_shared import rotations, skeleton

pytestmark = pytest.mark.bpy

ELBOW = skeleton.SMPL_JOINT_NAMES.index("L_Elbow")
MODES = {"L_Elbow": "XYZ", "R_Elbow": "AXIS_ANGLE"}


@pytest.fixture
def shot(context, tmp_path):
    return add_shot(tmp_path)


@pytest.fixture
def session(addon):
    from blender_addon.session import SESSION

    yield SESSION
    SESSION.disconnect()
    SESSION._jobs.clear()


def all_turned(request, **changes):
    """Every joint turned and the root moved, whatever was locked or pinned."""
    motion = request.sequence
    turn = rotations.rotvec_to_matrix([0.1, -0.2, 0.15])
    poses = rotations.matrix_to_rotvec(rotations.rotvec_to_matrix(motion.poses) @ turn)
    return turned_result(request, poses=poses.astype(np.float32), **changes)


def refine(session, operator, **options):
    """What the backend was asked, once its answer is in place."""
    import bpy

    with ScriptedBackend(answer=all_turned) as backend:
        connect(session, backend)
        getattr(bpy.ops.posefit, operator)(**options)
        job = finished(session)
        session.disconnect()
    assert not job.is_problem, job.words
    return backend.requests[0]


def keys_by_bone(armature, name):
    keys = keys_of(armature.animation_data.action)
    return {channel: found for channel, found in keys.items() if f'"{name}"' in channel[0]}


def same(one, other):
    names = ("points", "left", "right", "kinds")
    return one.keys() == other.keys() and all(
        np.array_equal(getattr(one[channel], name), getattr(other[channel], name))
        for channel in one
        for name in names
    )


def test_nothing_is_held_unless_asked_for(context, shot, session):
    request = refine(session, "refine_range")
    assert request.locked_joints == ()
    assert request.stiffness is None
    assert request.pinned_frames == ()
    assert request.settings.influence == 1
    assert request.settings.contacts


def test_locked_bones_keep_their_very_keys(context, shot, session):
    import bpy

    select(shot, {"L_Elbow", "Pelvis", "R_Hand"})
    assert bpy.ops.posefit.lock_bones() == {"FINISHED"}
    select(shot, {"R_Hand"})
    assert bpy.ops.posefit.unlock_bones() == {"FINISHED"}
    before = {name: keys_by_bone(shot, name) for name in ("L_Elbow", "R_Elbow", "Pelvis")}
    request = refine(session, "refine_range")
    assert request.locked_joints == (0, ELBOW)
    assert same(keys_by_bone(shot, "L_Elbow"), before["L_Elbow"])
    assert not same(keys_by_bone(shot, "R_Elbow"), before["R_Elbow"])
    pelvis = keys_by_bone(shot, "Pelvis")
    moved = {
        path for path, _ in pelvis if not same({0: pelvis[path, 0]}, {0: before["Pelvis"][path, 0]})
    }
    assert {path.rsplit(".", 1)[-1] for path in moved} == {"location"}


def test_a_locked_bone_without_keys_gets_none(context, shot, session):
    shot.animation_data_clear()
    shot.pose.bones["L_Knee"].posefit_locked = True
    refine(session, "refine_range")
    assert keys_by_bone(shot, "L_Knee") == {}
    assert keys_by_bone(shot, "R_Knee")


def test_stiffness_is_sent_for_every_joint(context, shot, session):
    import bpy

    select(shot, {"L_Elbow"})
    assert bpy.ops.posefit.set_stiffness(stiffness=7.5) == {"FINISHED"}
    expected = np.ones(24, np.float32)
    expected[ELBOW] = 7.5
    assert np.array_equal(refine(session, "refine_frame").stiffness, expected)


@pytest.mark.parametrize("is_keyed", [True, False])
def test_pinned_frames_keep_their_values(context, shot, session, is_keyed):
    """Frame 6 is keyed or lies between keys; both ways it shows what it did."""
    import bpy
    from blender_addon.keys import fcurves

    for name, mode in MODES.items():
        shot.pose.bones[name].rotation_mode = mode
        shot.pose.bones[name].keyframe_insert(
            f"rotation_{'euler' if mode == 'XYZ' else 'axis_angle'}", frame=3
        )
    if not is_keyed:
        for curve in fcurves.curves_of(shot).values():
            keys = fcurves.read_keys(curve)
            fcurves.write_all_keys(curve, keys[keys.times % 4 == 3])
    curves = fcurves.curves_of(shot)
    before = {channel: curve.evaluate(6) for channel, curve in curves.items()}
    context.scene.frame_set(6)
    assert bpy.ops.posefit.pin_frames() == {"FINISHED"}
    request = refine(session, "refine_range")
    assert request.pinned_frames == (3,)
    curves = fcurves.curves_of(shot)
    assert {channel: curves[channel].evaluate(6) for channel in before} == before
    turned = [abs(curves[c].evaluate(5) - curves[c].evaluate(6)) for c in before if "Hip" in c[0]]
    assert max(turned) > 0.05


def test_a_pinned_frame_of_a_pose_without_an_action_keeps_that_pose(context, shot, session):
    still = np.array(shot.pose.bones["L_Knee"].rotation_quaternion)
    shot.animation_data_clear()
    shot.pose.bones["L_Knee"].rotation_quaternion = -still
    shot.posefit_pinned_frames = "5"
    refine(session, "refine_range")
    context.scene.frame_set(5)
    assert np.array_equal(shot.pose.bones["L_Knee"].rotation_quaternion, -still)
    context.scene.frame_set(4)
    near = np.array(shot.pose.bones["L_Knee"].rotation_quaternion)
    assert 0.8 < near @ -still < 0.9999  # turned, and on the same side


def test_selected_keys_are_pinned_unpinned_and_cleared(context, shot):
    import bpy

    select_keys(shot, {4, 5, 9})
    assert bpy.ops.posefit.pin_frames(frames="KEYS") == {"FINISHED"}
    assert shot.posefit_pinned_frames == "4-5, 9"
    context.scene.frame_set(5)
    assert bpy.ops.posefit.unpin_frames() == {"FINISHED"}
    assert shot.posefit_pinned_frames == "4, 9"
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.posefit.clear_pins() == {"FINISHED"}
    assert shot.posefit_pinned_frames == ""


def test_the_frames_of_selected_keys_alone_are_refined(context, shot, session):
    select_keys(shot, {4, 5, 9})
    before = keys_by_bone(shot, "L_Elbow")
    request = refine(session, "refine_keyframes")
    assert request.sequence.frame_indices.tolist() == [1, 2, 6]
    after = keys_by_bone(shot, "L_Elbow")
    for channel, keys in before.items():
        changed = keys.points[:, 1] != after[channel].points[:, 1]
        assert set(keys.times[changed]) <= {4.0, 5.0, 9.0}
    assert session.jobs[-1].label == "Shot, frames 4-5, 9"


def select_keys(armature, frames):
    from blender_addon.keys import fcurves

    for curve in fcurves.curves_of(armature).values():
        for key in curve.keyframe_points:
            key.select_control_point = round(key.co.x) in frames


def test_root_and_hands_are_held_by_the_settings(context, shot, session):
    settings = context.scene.posefit
    settings.refine_root_rotation = settings.refine_hands = settings.refine_translation = False
    settings.contacts, settings.influence = False, 0.25
    before = keys_by_bone(shot, "Pelvis")
    request = refine(session, "refine_range")
    assert request.locked_joints == (0, 22, 23)
    assert not request.settings.refine_translation
    assert not request.settings.contacts
    assert request.settings.influence == 0.25
    assert same(keys_by_bone(shot, "Pelvis"), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda shot: setattr(shot, "posefit_pinned_frames", "3-10"), "all frames asked for are"),
        (lambda shot: setattr(shot, "posefit_pinned_frames", "5, x"), "of Shot: 'x' is no frame"),
    ],
)
def test_what_leaves_nothing_to_do_is_refused_before_anything_is_sent(
    context, shot, session, change, words
):
    import bpy

    change(shot)
    with ScriptedBackend(answer=all_turned) as backend:
        connect(session, backend)
        with pytest.raises(RuntimeError, match=words):
            bpy.ops.posefit.refine_range()
        assert not session.is_busy
    assert backend.requests == []


def test_all_bones_locked_is_refused_where_the_root_may_not_move_either(context, shot, session):
    import bpy

    for bone in shot.pose.bones:
        bone.posefit_locked = True
    with ScriptedBackend(answer=all_turned) as backend:
        connect(session, backend)
        context.scene.posefit.refine_translation = False
        with pytest.raises(RuntimeError, match="all bones are locked"):
            bpy.ops.posefit.refine_frame()
        context.scene.posefit.refine_translation = True
        assert bpy.ops.posefit.refine_frame() == {"FINISHED"}
        finished(session)


def test_operators_say_what_is_not_selected(context, shot):
    import bpy

    select(shot, set())
    for name in ("lock_bones", "unlock_bones", "set_stiffness"):
        with pytest.raises(RuntimeError, match="no bone is selected"):
            getattr(bpy.ops.posefit, name)()
    select_keys(shot, set())
    with pytest.raises(RuntimeError, match="no key of Shot is selected"):
        bpy.ops.posefit.pin_frames(frames="KEYS")


def test_what_was_decided_is_saved_with_the_file(context, shot, tmp_path):
    import bpy

    shot.pose.bones["L_Elbow"].posefit_locked = True
    shot.pose.bones["R_Elbow"].posefit_stiffness = 3
    shot.posefit_pinned_frames = "4-6"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    shot = bpy.data.objects["Shot"]
    assert shot.pose.bones["L_Elbow"].posefit_locked
    assert shot.pose.bones["R_Elbow"].posefit_stiffness == 3
    assert shot.posefit_pinned_frames == "4-6"


def test_the_panel_names_and_counts_what_is_held(context, shot):
    from blender_addon.panels.control import POSEFIT_PT_control
    from test_panels import Recorder

    for name in ("L_Elbow", "R_Hip"):
        shot.pose.bones[name].posefit_locked = True
    shot.pose.bones["Neck"].posefit_stiffness = 2.5
    shot.posefit_pinned_frames = "3, 5-6"
    layout = Recorder([])
    POSEFIT_PT_control.draw(SimpleNamespace(layout=layout), context)
    text = " ".join(layout.words)
    assert "2 bones locked: R_Hip, L_Elbow" in text
    assert "1 held more or less than usual: Neck (stiffness 2.5)" in text
    assert "3 frames pinned" in text
    assert layout.buttons["posefit.set_stiffness"].stiffness == context.scene.posefit.stiffness
    shot.posefit_pinned_frames = "3, five"
    POSEFIT_PT_control.draw(SimpleNamespace(layout=layout), context)
    assert "'five' is no frame" in " ".join(layout.words)
