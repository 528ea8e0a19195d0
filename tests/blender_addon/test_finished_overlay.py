# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that are done are seen as stick figures where their bones will be."""

import numpy as np
import pytest
from scripted_backend import ScriptedBackend, half_done
from test_queue import KEEP_SHAPE
from test_session import connect, session, shot, step_until

__all__ = ["session", "shot"]

pytestmark = pytest.mark.bpy


def bone_heads(armature):
    from blender_addon.rigs.rig import match_bones

    match = match_bones(bone.name for bone in armature.data.bones)
    bones = [armature.pose.bones[name] for name in match.bones]
    places = [armature.matrix_world @ bone.head for bone in bones]
    return np.array(places), match.parents


def test_the_figure_lies_on_the_bones_that_are_keyed_afterwards(context, shot, session):
    import bpy
    from blender_addon.overlays import finished_overlay

    shot.scale = (1.5,) * 3
    shot.rotation_euler = (0.3, -0.2, 1.0)
    context.view_layer.update()
    with ScriptedBackend(provisional=half_done) as backend:
        connect(session, backend)
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        step_until(session, lambda: job.finished)
        assert job.figures.scene_frames == [3, 4, 5, 6]
        context.scene.frame_set(8)
        assert not finished_overlay.figures_at(context.scene)
        context.scene.frame_set(5)
        (lines,) = finished_overlay.figures_at(context.scene)
        bpy.ops.posefit.keep_finished()
        assert not finished_overlay.figures_at(context.scene)
    heads, parents = bone_heads(shot)
    ends = [heads[[parent, joint]] for joint, parent in enumerate(parents) if parent >= 0]
    assert lines == pytest.approx(np.concatenate(ends), abs=2e-4)


def test_stopped_frames_are_shown_until_that_is_decided(context, shot, session):
    import bpy
    from blender_addon.overlays import finished_overlay

    context.scene.frame_set(4)
    with ScriptedBackend(provisional=half_done) as backend:
        connect(session, backend)
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        step_until(session, lambda: job.finished)
        bpy.ops.posefit.cancel()
        assert finished_overlay.figures_at(context.scene)
        assert not finished_overlay.figures_at(bpy.data.scenes.new("Elsewhere"))
        bpy.ops.posefit.drop_finished()
    assert not finished_overlay.figures_at(context.scene)


def test_lines_are_drawn(context):
    """Off screen, where Blender's module can draw; the older ones cannot."""
    import gpu
    import mathutils
    from blender_addon.overlays import finished_overlay

    if not hasattr(gpu, "init"):
        return
    gpu.init()
    target = gpu.types.GPUOffScreen(64, 64)
    with target.bind():
        gpu.state.active_framebuffer_get().clear(color=(0, 0, 0, 1))
        with gpu.matrix.push_pop(), gpu.matrix.push_pop_projection():
            gpu.matrix.load_matrix(mathutils.Matrix.Identity(4))
            gpu.matrix.load_projection_matrix(mathutils.Matrix.Identity(4))
            finished_overlay.draw_lines([np.array([[-0.5, 0, 0], [0.5, 0, 0]], np.float32)])
    pixels = np.array(target.texture_color.read().to_list())
    target.free()
    is_drawn = pixels[..., 1] > 100
    assert is_drawn[31:33, 20:44].all()
    assert not is_drawn[:28].any()
    assert not is_drawn[:, :14].any()
