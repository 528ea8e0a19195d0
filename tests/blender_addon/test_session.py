# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking, waiting and applying: one undo step, late replies, backends that misbehave."""

import time

import numpy as np
import pytest
from scene_makers import camera_fields, random_sequence, write_footage
from scripted_backend import SHIFT, TURN, ScriptedBackend, turned_result

from posefit_shared import rotations
from posefit_shared.messages import Failure, Refused
from posefit_shared.settings import RefineSettings

pytestmark = pytest.mark.bpy

FIRST = 3


@pytest.fixture
def shot(context, tmp_path):
    """The armature of an imported sequence of eight frames, with camera and footage."""
    from blender_addon.sequences import sequence_import

    rng = np.random.default_rng(11)
    motion = random_sequence(rng, count=8, **camera_fields(rng))
    options = sequence_import.ImportOptions(
        "Shot", footage=write_footage(tmp_path / "my footage", 8), first_scene_frame=FIRST
    )
    return sequence_import.import_sequence(context, motion, options).armature


@pytest.fixture
def session(addon):
    """The extension's session, left disconnected."""
    from blender_addon.session import SESSION

    yield SESSION
    SESSION.disconnect()
    SESSION._jobs.clear()


def step_until(session, condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        session.step()
        assert time.monotonic() < deadline, (session.connection, session.jobs)
        time.sleep(0.005)


def connect(session, backend):
    import bpy

    addons = bpy.context.preferences.addons
    addons["blender_addon"].preferences.address = backend.address
    assert bpy.ops.posefit.connect() == {"FINISHED"}
    step_until(session, lambda: session.is_connected)


def finished(session):
    step_until(session, lambda: not session.is_busy)
    return session.jobs[-1]


def read(context, armature, frames):
    from blender_addon.scenes import scene_reader

    return scene_reader.read_now(context, armature, frames).sequence


def current_action(armature):
    return armature.animation_data.action


def test_a_refined_range_arrives_as_keys_in_a_new_action(context, shot, session):
    import bpy

    before = read(context, shot, range(3, 11))
    old = current_action(shot)
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        context.scene.posefit.use_scene_range = False
        context.scene.posefit.frame_start, context.scene.posefit.frame_end = 4, 7
        assert bpy.ops.posefit.refine_range() == {"FINISHED"}
        job = finished(session)
    assert not job.is_problem
    assert job.words == f"4 of 4 frames refined in action {current_action(shot).name}"
    assert current_action(shot).name == "Shot.posefit"
    assert old.use_fake_user
    assert old.name == "Shot"
    assert shot.posefit_comparison.original == old
    assert shot.posefit_comparison.refined == current_action(shot)
    after = read(context, shot, range(3, 11))
    changed = np.abs(after.poses - before.poses).max(axis=(1, 2)) > 1e-3
    assert changed.tolist() == [False, True, True, True, True, False, False, False]
    assert after.trans[1:5] - before.trans[1:5] == pytest.approx(np.tile(SHIFT, (4, 1)), abs=1e-4)
    turned = rotations.rotvec_to_matrix(before.poses[1:5, 18]) @ TURN
    assert rotations.rotvec_to_matrix(after.poses[1:5, 18]) == pytest.approx(turned, abs=1e-4)
    request = backend.requests[0]
    assert request.sequence.frame_indices.tolist() == [1, 2, 3, 4]
    assert request.media.path.endswith("my footage")
    assert not request.settings.refine_shape


def test_one_undo_takes_a_whole_refinement_back(context, shot, session):
    import bpy

    bpy.ops.ed.undo_push(message="before")
    old = current_action(shot).name
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        context.scene.frame_set(5)
        bpy.ops.posefit.refine_frame()
        finished(session)
        assert current_action(shot).name == "Shot.posefit"
        bpy.ops.ed.undo()
        shot = bpy.data.objects["Shot"]
        assert current_action(shot).name == old
        assert "Shot.posefit" not in bpy.data.actions
        assert shot.posefit_comparison.refined is None
        bpy.ops.ed.redo()
        assert current_action(bpy.data.objects["Shot"]).name == "Shot.posefit"


def test_scripts_may_wait_for_the_result(context, shot, session):
    import bpy

    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        assert bpy.ops.posefit.refine_frame(wait=True) == {"FINISHED"}
        assert current_action(shot).name == "Shot.posefit"
        assert len(backend.requests[0].sequence) == 1


def test_a_shape_that_was_refined_moves_sliders_and_joints(context, shot, session, body):
    from blender_addon.rigs import body_builder

    betas = np.linspace(-1, 1, 10).astype(np.float32)
    with ScriptedBackend(answer=lambda request: turned_result(request, betas=betas)) as backend:
        connect(session, backend)
        session.refine(context, shot, [4, 5], RefineSettings(refine_shape=False))
        finished(session)
        assert not body_builder.read_betas(shot).any()
        before = read(context, shot, [4, 5])
        session.refine(context, shot, [4, 5], RefineSettings(refine_shape=True))
        finished(session)
    assert body_builder.read_betas(shot) == pytest.approx(betas)
    head = np.array(shot.data.bones["L_Wrist"].head_local)
    expected = body_builder.rest_joints(body, betas)[20]
    assert head == pytest.approx((expected[0], -expected[2], expected[1]), abs=1e-5)
    after = read(context, shot, [4, 5])
    assert after.trans - before.trans == pytest.approx(np.tile(SHIFT, (2, 1)), abs=1e-4)


def test_a_pose_that_was_kept_changes_nothing(context, shot, session):
    old = current_action(shot)
    with ScriptedBackend(answer=lambda request: turned_result(request, "kept")) as backend:
        connect(session, backend)
        session.refine(context, shot, [4], RefineSettings(refine_shape=False))
        job = finished(session)
    assert current_action(shot) == old
    assert "nothing was changed" in job.words
    assert not job.is_problem


def answer_now(job, backend):
    """The last reply to a job, as if it came at this moment."""
    job.take_result(turned_result(backend.requests[-1]), is_final=True)


@pytest.mark.parametrize("fate", ["removed", "new file"])
def test_a_late_reply_changes_nothing_and_says_why(context, shot, session, fate):
    import bpy

    with ScriptedBackend() as backend:
        connect(session, backend)
        session.refine(context, shot, [4, 5], RefineSettings(refine_shape=False))
        step_until(session, lambda: backend.requests)
        job = session.jobs[-1]
        if fate == "removed":
            bpy.data.objects.remove(shot)
            bpy.data.objects.new("Shot", None)  # another one of that name is not it
            answer_now(job, backend)
        else:
            bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
        session.step()
    assert not job.is_open
    assert "drop" in job.words
    assert "Shot.posefit" not in bpy.data.actions
    assert bool(session.undecided()) == (fate == "removed")


def test_a_reply_finds_an_armature_that_was_renamed(context, shot, session):
    import bpy

    with ScriptedBackend() as backend:
        connect(session, backend)
        session.refine(context, shot, [4, 5], RefineSettings(refine_shape=False))
        step_until(session, lambda: backend.requests)
        shot.name = "Another"
        bpy.data.objects.new("Shot", None)
        answer_now(session.jobs[-1], backend)
        finished(session)
    assert current_action(shot).name == "Shot.posefit"


def test_an_armature_that_undo_brings_back_still_gets_its_result(context, shot, session):
    import bpy

    bpy.ops.ed.undo_push(message="before")
    with ScriptedBackend() as backend:
        connect(session, backend)
        session.refine(context, shot, [4, 5], RefineSettings(refine_shape=False))
        step_until(session, lambda: backend.requests)
        job = session.jobs[-1]
        bpy.data.objects.remove(shot)
        bpy.ops.ed.undo_push(message="removed")
        answer_now(job, backend)
        session.step()
        assert "was removed" in job.words
        bpy.ops.ed.undo()
        assert bpy.ops.posefit.keep_finished(job=job.job_id) == {"FINISHED"}
    assert current_action(bpy.data.objects["Shot"]).name == "Shot.posefit"
    assert not session.undecided()


def test_cancel_stops_the_job_at_the_backend_and_changes_nothing(context, shot, session):
    import bpy

    old = current_action(shot)
    with ScriptedBackend() as backend:
        connect(session, backend)
        session.refine(context, shot, [4, 5], RefineSettings(refine_shape=False))
        job = session.jobs[-1]
        step_until(session, lambda: job.fraction == 0.25)
        assert job.line == "frame 1 of 4, 2 s left"
        assert bpy.ops.posefit.cancel() == {"FINISHED"}
        assert not session.is_busy
        step_until(session, lambda: backend.cancelled)
    assert current_action(shot) == old
    assert job.words == "cancelled, nothing was changed"


def test_an_undo_while_a_range_is_read_reads_it_again(context, shot, session):
    import bpy

    bpy.ops.ed.undo_push(message="before")
    shot.location.x = 1.0
    bpy.ops.ed.undo_push(message="moved")
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        session.refine(context, shot, range(3, 11), RefineSettings(refine_shape=False))
        assert session.jobs[-1].is_reading
        bpy.ops.ed.undo()
        job = finished(session)
        moved = bpy.data.objects["Shot"]
        assert not job.is_problem, job.words
        assert current_action(moved).name == "Shot.posefit"
        assert moved.location.x == 0


def test_a_backend_that_may_not_open_the_path_gets_the_file(context, shot, session, tmp_path):
    from blender_addon.sequences import sequence_import
    from scene_makers import write_movie

    clip = sequence_import.load_clip(write_movie(tmp_path / "clip.mp4", 8, (320, 240)))
    sequence_import.show_footage(context.scene, context.scene.camera, clip, FIRST)
    context.scene.camera.data.background_images[0].clip = clip
    refused = Failure("media", "not below a media root")
    with ScriptedBackend(answer=lambda request: refused) as backend:
        connect(session, backend)
        session.refine(context, shot, [4], RefineSettings(refine_shape=False))
        step_until(session, lambda: session.jobs[-1].by_upload)
        assert backend.requests[0].media.path.endswith("clip.mp4")
    with ScriptedBackend(answer=lambda request: refused) as backend:
        connect(session, backend)
        folder = sequence_import.load_clip(tmp_path / "my footage")
        context.scene.camera.data.background_images[0].clip = folder
        session.refine(context, shot, [4], RefineSettings(refine_shape=False))
        assert finished(session).words == "not below a media root"


def test_what_the_backend_says_went_wrong_is_shown(context, shot, session):
    failure = Failure("FootageError", "frame 3 cannot be decoded: the file is cut off")
    with ScriptedBackend(answer=lambda request: failure) as backend:
        connect(session, backend)
        session.refine(context, shot, [4], RefineSettings(refine_shape=False))
        job = finished(session)
    assert job.is_problem
    assert job.words == failure.message


def test_an_answer_for_other_frames_is_dropped(context, shot, session):
    def other(request):
        return turned_result(request, frame_indices=request.sequence.frame_indices + 1)

    with ScriptedBackend(answer=other) as backend:
        connect(session, backend)
        session.refine(context, shot, [4], RefineSettings(refine_shape=False))
        job = finished(session)
    assert "other frames" in job.words
    assert current_action(shot).name == "Shot"


def test_without_a_backend_the_panel_says_so_and_stays_usable(context, shot, session, impatient):
    import bpy

    addons = bpy.context.preferences.addons
    addons["blender_addon"].preferences.address = "tcp://127.0.0.1:9"
    bpy.ops.posefit.connect()
    step_until(session, lambda: session.connection.kind == "lost")
    assert "No backend answers" in session.connection.words
    assert not bpy.ops.posefit.refine_frame.poll()
    session.step()
    assert session.connection.kind == "lost"
    assert bpy.ops.posefit.disconnect() == {"FINISHED"}


def test_another_version_is_refused_in_the_backends_words(context, session):
    words = "this backend speaks protocol 9, the client 1: update posefit in Blender"
    with ScriptedBackend(refuse=Refused("protocol_version", words)) as backend:
        session.connect(backend.address)
        step_until(session, lambda: session.connection.kind == "lost")
        assert session.connection.words == words


def test_garbage_is_no_backend(context, session, impatient):
    with ScriptedBackend(garbage=True) as backend:
        session.connect(backend.address)
        step_until(session, lambda: session.connection.kind == "lost")


@pytest.mark.parametrize(
    "address", ["tcp://192.168.1.5:5557", "localhost", "tcp://127.0.0.1:99999"]
)
def test_an_address_that_cannot_be_used_is_refused_in_words(context, session, address):
    import bpy

    bpy.context.preferences.addons["blender_addon"].preferences.address = address
    with pytest.raises(RuntimeError, match="address"):
        bpy.ops.posefit.connect()
    assert session.connection.kind == "off"
