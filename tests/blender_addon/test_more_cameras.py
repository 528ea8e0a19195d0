# SPDX-License-Identifier: GPL-3.0-or-later
"""Several cameras with footage are looked through at once, each by its own frames and lens."""

import numpy as np
import pytest
from scene_makers import write_footage
from scripted_backend import ScriptedBackend
from session_makers import add_shot, connect, refine_range
from test_session import session

__all__ = ["session"]

pytestmark = pytest.mark.bpy


@pytest.fixture
def shot(context, tmp_path):
    """Eight frames from scene frame 3 on, before a camera."""
    return add_shot(tmp_path)


def add_side_camera(context, folder, first_frame, count=8, size=(160, 120)):
    """A camera that moves along x, with a clip of its own from a scene frame on."""
    import bpy
    from blender_addon.sequences import sequence_import

    camera = bpy.data.objects.new("Side", bpy.data.cameras.new("Side"))
    context.collection.objects.link(camera)
    camera.location, camera.rotation_euler = (0.0, -4.0, 1.0), (1.4, 0.1, 0.0)
    for frame in (1, 20):
        camera.location.x = frame
        camera.keyframe_insert("location", frame=frame)
    clip = sequence_import.load_clip(write_footage(folder / "side", count, size))
    active = context.scene.active_clip
    sequence_import.show_footage(context.scene, camera, clip, first_frame)
    context.scene.active_clip = active
    return camera


def test_a_ticked_camera_goes_along_with_its_own_frames_lens_and_place(
    context, shot, session, tmp_path
):
    from blender_addon.scenes import scene_camera

    side = add_side_camera(context, tmp_path, first_frame=5)
    assert refine_range(session, context, (4, 7)).more_views == ()
    side.posefit_is_view = True
    request = refine_range(session, context, (4, 7))
    assert request.sequence.frame_indices.tolist() == [1, 2, 3, 4]
    (view,) = request.more_views
    assert view.name == "Side"
    assert view.media.path.endswith("side")
    assert view.frame_indices.tolist() == [-1, 0, 1, 2]
    assert view.image_size == (160, 120)
    assert view.intrinsics.shape == (1, 3, 3)  # one lens
    context.scene.frame_set(6)
    there = scene_camera.world_to_cameras([np.array(side.matrix_world)], 1.0)
    assert view.world_to_camera[2] == pytest.approx(there[0], abs=1e-5)
    shot.posefit_footage_offset = 1
    (later,) = refine_range(session, context, (4, 7)).more_views
    assert later.frame_indices.tolist() == [0, 1, 2, 3]
    assert later.world_to_camera[1] == pytest.approx(there[0], abs=1e-5)


def test_a_camera_that_cannot_help_is_refused_in_words(context, shot, session, tmp_path):
    import bpy

    side = add_side_camera(context, tmp_path, first_frame=100)
    side.posefit_is_view = True
    with ScriptedBackend() as backend:
        connect(session, backend)
        with pytest.raises(RuntimeError, match="Side covers frames 100 to 107 and none of those"):
            bpy.ops.posefit.refine_frame(wait=True)
        side.data.background_images.clear()
        with pytest.raises(RuntimeError, match="Side has no footage of its own"):
            bpy.ops.posefit.refine_frame(wait=True)


def test_the_panel_lists_all_cameras(context, shot, tmp_path):
    from types import SimpleNamespace

    from blender_addon.panels.cameras import POSEFIT_PT_cameras
    from test_panels import Recorder

    add_side_camera(context, tmp_path, first_frame=5)
    layout = Recorder([])
    POSEFIT_PT_cameras.draw(SimpleNamespace(layout=layout), context)
    assert layout.words == ["Shot.camera (the scene's)", "posefit_is_view"]
