# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion is compared with pictures, and seen by the camera, of other frames than its own."""

import numpy as np
import pytest
from scene_makers import camera_fields, random_sequence, write_footage
from scripted_backend import SHIFT, ScriptedBackend, turned_result
from test_queue import KEEP_SHAPE, ended
from test_session import connect, session

from posefit_shared import frames

__all__ = ["session"]

pytestmark = pytest.mark.bpy

COUNT = 8


@pytest.fixture
def shot(context, tmp_path):
    """An armature of eight frames from scene frame 1 on, under a moving camera."""
    from blender_addon.sequences import sequence_import

    rng = np.random.default_rng(8)
    motion = random_sequence(rng, count=COUNT, **camera_fields(rng, COUNT, moving=True))
    options = sequence_import.ImportOptions("Shot", footage=write_footage(tmp_path / "f", COUNT))
    return sequence_import.import_sequence(context, motion, options).armature


def read(context, armature, scene_frames):
    from blender_addon.scenes import scene_reader

    return scene_reader.read_now(context, armature, scene_frames).sequence


@pytest.mark.parametrize(("offset", "shown"), [(3.0, [4, 5]), (2.6, [4, 5]), (-0.4, [1, 2])])
def test_the_nearest_picture_and_its_camera_are_taken(context, shot, offset, shown):
    before, there = read(context, shot, [1, 2]), read(context, shot, shown)
    shot.posefit_footage_offset = offset
    moved = read(context, shot, [1, 2])
    assert moved.frame_indices.tolist() == [frame - 1 for frame in shown]
    assert moved.world_to_camera == pytest.approx(there.world_to_camera, abs=1e-6)
    assert moved.poses == pytest.approx(before.poses, abs=1e-6)
    assert moved.trans == pytest.approx(before.trans, abs=1e-6)


def test_a_camera_on_a_constraint_is_read_frame_by_frame(context, shot):
    import bpy

    target = bpy.data.objects.new("Target", None)
    context.collection.objects.link(target)
    for frame in range(1, COUNT + 1):
        target.location = (frame, 0.0, 2.0)
        target.keyframe_insert("location", frame=frame)
    context.scene.camera.constraints.new("COPY_LOCATION").target = target
    context.scene.frame_set(6)
    shot.posefit_footage_offset = 3
    moved = read(context, shot, [1, 2])
    places = [frames.opencv_to_blender_camera(m)[0, 3] for m in moved.world_to_camera]
    assert places == pytest.approx([4, 5], abs=1e-4)
    assert context.scene.frame_current == 6


def test_keys_stay_on_the_armatures_own_frames(context, shot, session):
    before = read(context, shot, range(1, COUNT + 1))
    shot.posefit_footage_offset = 3
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        session.refine(context, shot, [2, 3], KEEP_SHAPE)
        assert "2 of 2 frames refined" in ended(session)[-1]
    assert backend.requests[0].sequence.frame_indices.tolist() == [4, 5]
    shot.posefit_footage_offset = 0
    moved = read(context, shot, range(1, COUNT + 1)).trans - before.trans
    expected = np.outer([0, 1, 1, 0, 0, 0, 0, 0], SHIFT)
    assert moved == pytest.approx(expected, abs=1e-4)


def test_an_offset_beyond_the_footage_is_named_in_the_message(context, shot):
    from blender_addon.rigs.rig import SceneError

    shot.posefit_footage_offset = 40
    with pytest.raises(SceneError, match=r"frame 41 lies outside .*Footage Offset of Shot is 40"):
        read(context, shot, [1])
