# SPDX-License-Identifier: GPL-3.0-or-later
"""What is drawn of held bones and pins lies where they are; drawing itself needs a window."""

from types import SimpleNamespace

import numpy as np
import pytest
from comparison_makers import add_animated_body, smooth_motion

pytestmark = pytest.mark.bpy


@pytest.fixture
def armature(context):
    armature = add_animated_body(context, smooth_motion(3), [1, 2, 3])
    armature.location, armature.rotation_euler = (1, 2, 3), (0.2, 0.4, 1.0)
    context.view_layer.update()
    return armature


def test_held_bones_are_drawn_where_they_are_shown(context, armature):
    from blender_addon.overlays import control_overlay

    bones = armature.pose.bones
    bones["L_Hip"].posefit_locked = True
    bones["R_Hip"].posefit_stiffness, bones["Neck"].posefit_stiffness = 5.0, 0.2
    bones["L_Hip"].posefit_stiffness = 3.0
    context.scene.frame_set(2)
    points, colours = control_overlay.held_bones(armature, context.evaluated_depsgraph_get())
    by_bone = {
        name: (armature.matrix_world @ bones[name].head, armature.matrix_world @ bones[name].tail)
        for name in ("L_Hip", "R_Hip", "Neck")
    }
    kinds = {"L_Hip": control_overlay.LOCKED, "R_Hip": control_overlay.STIFF}
    kinds["Neck"] = control_overlay.LOOSE
    for name, ends in by_bone.items():
        places = np.flatnonzero(np.abs(points - np.array(ends[0])).max(-1) < 1e-5)
        assert len(places) == 1
        assert points[places[0] + 1] == pytest.approx(np.array(ends[1]), abs=1e-5)
        assert colours[places[0] : places[0] + 2] == pytest.approx(np.array([kinds[name]] * 2))
    assert len(points) == 6


def test_nothing_is_drawn_where_nothing_is_held(context, armature):
    from blender_addon.overlays import control_overlay

    points, colours = control_overlay.held_bones(armature, context.evaluated_depsgraph_get())
    assert points.shape == (0, 3)
    assert colours.shape == (0, 4)


def test_the_active_armature_is_shown_and_others_in_pose_mode_alone(context, armature):
    import bpy
    from blender_addon.overlays import control_overlay

    bpy.ops.posefit.add_body()
    other = context.object
    assert control_overlay.shown_armatures(context) == [other]
    context.view_layer.objects.active = armature
    assert control_overlay.shown_armatures(context) == [armature]
    other.select_set(True)
    armature.select_set(True)
    bpy.ops.object.mode_set(mode="POSE")
    assert set(control_overlay.shown_armatures(context)) == {armature, other}


def test_pins_are_upright_lines_at_their_frames(context):
    from blender_addon.overlays import control_overlay

    view = SimpleNamespace(region_to_view=lambda x, y: ((x - 3) / 10, y))
    lines = control_overlay.pin_lines((-5, 1, 4, 50), view, (100, 200))
    assert lines.tolist() == [[13, 0], [13, 200], [43, 0], [43, 200]]
    assert control_overlay.pin_lines((), view, (100, 200)).shape == (0, 2)
