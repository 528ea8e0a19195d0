# SPDX-License-Identifier: GPL-3.0-or-later
"""The artist sees which bones were matched, and mends what names did not say."""

from types import SimpleNamespace

import numpy as np
import pytest
from comparison_makers import keys_of
from scripted_backend import ScriptedBackend, turned_result
from session_makers import add_shot, connect, finished

pytestmark = pytest.mark.bpy


@pytest.fixture
def shot(context, tmp_path):
    """A shot whose left elbow and neck have names of the studio's own."""
    armature = add_shot(tmp_path)
    armature.data.bones["L_Elbow"].name = "ulna"
    armature.data.bones["Neck"].name = "throat"
    return armature


def drawn(context):
    from blender_addon.panels.bones import POSEFIT_PT_bones
    from test_panels import Recorder

    layout = Recorder([])
    POSEFIT_PT_bones.draw(SimpleNamespace(layout=layout), context)
    return layout.words


def test_what_is_missing_is_counted_and_mended(context, shot):
    import bpy
    from blender_addon.rigs import rig_match
    from blender_addon.rigs.rig import SceneError

    assert "22 of 24 joints have a bone" in drawn(context)
    found = rig_match.found_bones(shot)
    assert "neck: missing" in drawn(context)
    assert "left_hip: L_Hip" in drawn(context)
    assert [joint for joint, bone in found.items() if bone is None] == ["neck", "left_elbow"]
    with pytest.raises(SceneError, match="no bones found for neck, left_elbow"):
        rig_match.match_armature(shot)
    shot.posefit_bone_neck = "throat"
    shot.data.bones.active = shot.data.bones["ulna"]
    assert bpy.ops.posefit.use_active_bone(joint="left_elbow") == {"FINISHED"}
    assert "24 of 24 joints have a bone" in drawn(context)
    assert rig_match.match_armature(shot).bones[12] == "throat"
    assert shot.posefit_bone_left_elbow == "ulna"
    assert bpy.ops.posefit.match_bones() == {"FINISHED"}
    assert "22 of 24 joints have a bone" in drawn(context)


def test_the_active_bone_is_taken_for_a_joint_that_exists(context, shot):
    import bpy

    shot.data.bones.active = shot.data.bones["ulna"]
    with pytest.raises(RuntimeError, match="no joint 'left_tail'"):
        bpy.ops.posefit.use_active_bone(joint="left_tail")
    shot.data.bones.active = None
    with pytest.raises(RuntimeError, match="no bone is active"):
        bpy.ops.posefit.use_active_bone(joint="left_hip")


def test_a_mended_rig_is_refined_compared_and_accepted(context, shot, addon, tmp_path):
    import bpy
    from blender_addon.session import SESSION

    shot.posefit_bone_neck, shot.posefit_bone_left_elbow = "throat", "ulna"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    shot = bpy.data.objects["Shot"]
    before = elbow_keys(shot)
    with ScriptedBackend(answer=turned_result) as backend:
        connect(SESSION, backend)
        bpy.ops.posefit.refine_range()
        job = finished(SESSION)
        SESSION.disconnect()
        SESSION._jobs.clear()
    assert not job.is_problem, job.words
    assert backend.requests[0].sequence.poses.shape == (8, 24, 3)
    assert np.abs(elbow_keys(shot) - before).max() > 0.05
    shot.posefit_comparison.amount = 0.5
    assert bpy.ops.posefit.accept() == {"FINISHED"}


def elbow_keys(armature):
    keys = keys_of(armature.animation_data.action)
    path = 'pose.bones["ulna"].rotation_quaternion'
    return np.stack([keys[path, index].points[:, 1] for index in range(4)])
