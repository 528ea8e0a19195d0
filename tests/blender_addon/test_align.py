# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion that was not shot with the footage is moved as a whole; its keys stay as they are."""

import numpy as np
import pytest
from scripted_backend import ScriptedBackend
from session_makers import add_shot, connect, finished
from test_session import session

from posefit_shared import rotations
from posefit_shared.messages import AlignResult, Failure

__all__ = ["session"]

pytestmark = pytest.mark.bpy

MOVE = np.eye(4)
MOVE[:3, :3] = rotations.rotvec_to_matrix([0, 0, 0.8])
MOVE[:3, 3] = (1.0, -2.0, 0.25)
REPORT = {"misfit": 0.021, "misfit_before": 0.4, "turn_deg": 45.8, "is_offset_clear": True}


@pytest.fixture
def shot(context, tmp_path):
    return add_shot(tmp_path)


def backend(offset=0, report=REPORT):
    return ScriptedBackend(
        answer=lambda request: AlignResult(offset, MOVE, report), kinds=("refine", "align")
    )


def read(context, armature, frames=(4, 7)):
    from blender_addon.scenes import scene_reader
    from blender_addon.scenes.scene_view import view_to_export
    from blender_addon.slices import to_end

    context.view_layer.update()
    view = view_to_export(context.scene, frames, with_camera=False)
    return to_end(scene_reader.read_range(context, armature, frames, view)).request().sequence


def assert_moved(before, after):
    """SMPL's root turned and moved in the world, nothing else."""
    turned = MOVE[:3, :3] @ rotations.rotvec_to_matrix(before.poses[:, 0].astype(float))
    assert rotations.rotvec_to_matrix(after.poses[:, 0].astype(float)) == pytest.approx(
        turned, abs=1e-4
    )
    assert after.poses[:, 1:] == pytest.approx(before.poses[:, 1:], abs=1e-5)
    steps = np.diff(before.trans, axis=0) @ MOVE[:3, :3].T  # the same for pelvis and transl
    assert np.diff(after.trans, axis=0) == pytest.approx(steps, abs=1e-3)


def test_the_armature_is_moved_and_its_offset_set_in_one_undo_step(context, shot, session):
    import bpy

    before, action = read(context, shot), shot.animation_data.action
    bpy.ops.ed.undo_push(message="before")
    shot.posefit_footage_offset = 1
    bpy.ops.ed.undo_push(message="offset")
    with backend(offset=3) as there:
        connect(session, there)
        assert bpy.ops.posefit.align_to_footage(search_seconds=2.0) == {"FINISHED"}
        job = finished(session)
    assert job.words == (
        "Shot was turned by 46° and moved into place, its Footage Offset is now 3; it lies 2% of "
        "the person's height beside them (40% before)"
    )
    assert_moved(before, read(context, shot))
    assert shot.posefit_footage_offset == 3
    assert shot.animation_data.action == action
    assert shot.parent is None
    request = there.requests[0]
    assert (request.first_frame, request.offset, request.search) == (3, 1, 60)
    assert request.picture_frames.tolist() == list(range(3, 11))
    assert request.decoded_frames.tolist() == list(range(8))
    bpy.ops.ed.undo()
    shot = bpy.data.objects["Shot"]
    assert shot.posefit_footage_offset == 1
    assert read(context, shot).poses == pytest.approx(before.poses, abs=1e-5)


def test_an_armature_whose_own_transform_is_animated_gets_a_parent(context, shot, session):
    import bpy

    shot.keyframe_insert("location", frame=3)
    shot.location = (0.5, 0.0, 0.0)
    shot.keyframe_insert("location", frame=9)
    before = read(context, shot)
    with backend() as there:
        connect(session, there)
        assert bpy.ops.posefit.align_to_footage(wait=True) == {"FINISHED"}
    assert_moved(before, read(context, shot))
    assert shot.parent.name == "Shot.alignment"
    assert "has a new parent, Shot.alignment" in session.jobs[-1].words


def test_a_scaled_armature_is_moved_in_its_own_metres(context, shot, session):
    import bpy

    shot.scale = (100, 100, 100)
    before = read(context, shot)
    with backend() as there:
        connect(session, there)
        assert bpy.ops.posefit.align_to_footage(wait=True) == {"FINISHED"}
    after = read(context, shot)
    assert_moved(before, after)
    assert np.abs(shot.matrix_world.translation) == pytest.approx([100, 200, 25], abs=1e-2)


def test_what_cannot_be_aligned_is_refused_in_words_and_nothing_moves(context, shot, session):
    import bpy

    target = bpy.data.objects.new("Target", None)
    context.collection.objects.link(target)
    held = shot.constraints.new("COPY_LOCATION")
    held.target = target
    words = "nothing fits: at best the motion lies 40% of the person's height beside them"
    refusing = ScriptedBackend(answer=lambda _: Failure("job", words), kinds=("align",))
    with refusing as there:
        connect(session, there)
        with pytest.raises(RuntimeError, match="holds Shot in its place: mute it"):
            bpy.ops.posefit.align_to_footage(wait=True)
        held.mute = True
        with pytest.raises(RuntimeError, match="nothing fits"):
            bpy.ops.posefit.align_to_footage(wait=True)
    assert np.array(shot.matrix_world) == pytest.approx(np.eye(4), abs=1e-6)
