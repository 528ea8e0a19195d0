# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender → a real backend process over a real socket → keys; and that process killed midway."""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scene_makers import camera_fields, random_sequence, write_footage, write_movie

from posefit_shared import rotations

pytestmark = [pytest.mark.bpy, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
HANDLERS = Path(__file__).parent / "backend_for_tests"
CLIP = REPOSITORY / "backend/posefit/assets/demo/cam03.mp4"
TURN = rotations.rotvec_to_matrix([0.0, 0.0, 0.3])


@pytest.fixture
def shot(context, folder):
    """An armature with eight frames of motion over a video."""
    from blender_addon.sequences import sequence_import

    rng = np.random.default_rng(5)
    footage = write_movie(folder / "the clip.mp4", 8, (320, 240))
    motion = random_sequence(rng, count=8, **camera_fields(rng))
    options = sequence_import.ImportOptions("Shot", footage=footage)
    return sequence_import.import_sequence(context, motion, options).armature


OPTIONS = ("--handlers", "turning_handlers:run_job", "--device", "cpu")


@contextlib.contextmanager
def running(request, roots, folder, options=()):
    """A backend process that listens, for all the tests of this file that leave it alive."""
    from blender_addon.connection import backend_process

    python = Path(request.config.getoption("--backend-python"))
    if not python.is_file():
        pytest.skip(f"no backend Python at {python}: give --backend-python")
    with contextlib.chdir(HANDLERS):  # where the worker finds its handlers
        process = backend_process.start(python, roots, folder, options)
    try:
        deadline = time.monotonic() + 60
        while process.address() is None:
            assert time.monotonic() < deadline, process.log_path.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module")
def backend(request, tmp_path_factory):
    """A backend process that turns elbows, and a folder that it may read."""
    root = tmp_path_factory.getbasetemp() / "roots"
    root.mkdir()
    with running(request, [root], root.parent / "backend", OPTIONS) as process:
        yield process, root


@pytest.fixture(scope="module")
def engine(request, tmp_path_factory):
    """A backend process with the real engine that may read the demo clip."""
    folder = tmp_path_factory.mktemp("engine")
    with running(request, [CLIP.parent], folder) as process:
        yield process


@pytest.fixture
def engine_session(context, engine):
    """The session, connected to the real engine, and the demo clip with its estimate imported."""
    import bpy
    from blender_addon.session import SESSION

    estimate = Path(__file__).with_name("demo_estimate.npz")
    assert bpy.ops.posefit.import_sequence(filepath=str(estimate), footage=str(CLIP)) == {
        "FINISHED"
    }
    SESSION.connect(engine.address(), engine.keys())
    step_until(SESSION, lambda: SESSION.is_connected, 60)
    yield SESSION
    SESSION.disconnect()
    SESSION._jobs.clear()


@pytest.fixture
def folder(backend, request):
    """A folder of this test's own that the backend may read, with a space in its name."""
    path = backend[1] / f"my film {request.node.name}"
    path.mkdir()
    return path


@pytest.fixture
def session(addon, shot, backend):
    """The session, connected to the shared backend."""
    from blender_addon.session import SESSION

    SESSION.connect(backend[0].address(), backend[0].keys())
    step_until(SESSION, lambda: SESSION.is_connected, 60)
    yield SESSION
    SESSION.disconnect()
    SESSION._jobs.clear()


def step_until(session, condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        session.step()
        assert time.monotonic() < deadline, (session.connection, session.jobs, session.log_text())
        time.sleep(0.005)


def read(context, armature, frames):
    from blender_addon.scenes import scene_reader

    return scene_reader.read_now(context, armature, frames).sequence


def assert_turned(before, after, turned_frames):
    for index in range(len(before)):
        expected = rotations.rotvec_to_matrix(before.poses[index])
        if index in turned_frames:
            expected[18] = expected[18] @ TURN
        found = rotations.rotvec_to_matrix(after.poses[index])
        assert found == pytest.approx(expected, abs=2e-4)
    assert after.trans == pytest.approx(before.trans, abs=1e-4)


def test_a_frame_and_a_range_come_back_as_keys(context, shot, session):
    import bpy

    before = read(context, shot, range(1, 9))
    old = shot.animation_data.action
    context.scene.frame_set(4)
    context.scene.posefit.prior_weight = 0
    assert bpy.ops.posefit.refine_frame(wait=True) == {"FINISHED"}
    assert_turned(before, read(context, shot, range(1, 9)), {3})
    shot.animation_data.action = old
    if hasattr(shot.animation_data, "action_slot"):
        shot.animation_data.action_slot = old.slots[0]
    assert bpy.ops.posefit.refine_range(wait=True) == {"FINISHED"}
    assert_turned(before, read(context, shot, range(1, 9)), set(range(8)))
    assert session.connection.kind == "connected"
    assert any("test" in line for line in session.connection.details)


def test_the_backend_opens_the_very_frame_that_blender_shows(context, shot, session):
    from blender_addon.jobs.refinement import Refinement

    from posefit_shared.settings import RefineSettings

    seen = []
    session._apply = lambda job, deadline: seen.append(job.refinement())
    try:
        settings = RefineSettings(prior_weight=0.0)
        session.refine(context, shot, [3, 6], settings)
        step_until(session, lambda: seen)
    finally:
        del session._apply
    assert isinstance(seen[0], Refinement)
    greys = np.array(seen[0].result.report["greys"]) / 255 * 9 - 1
    assert greys == pytest.approx([2, 5], abs=0.3)


def test_footage_outside_the_media_roots_is_uploaded(context, shot, session, folder, tmp_path):
    import shutil

    import bpy
    from blender_addon.sequences import sequence_import

    elsewhere = tmp_path / "elsewhere" / "other.mp4"
    elsewhere.parent.mkdir()
    shutil.copy(folder / "the clip.mp4", elsewhere)
    clip = sequence_import.load_clip(elsewhere)
    context.scene.camera.data.background_images[0].clip = clip
    before = read(context, shot, range(1, 9))
    context.scene.posefit.prior_weight = 0
    context.scene.frame_set(2)
    assert bpy.ops.posefit.refine_frame(wait=True) == {"FINISHED"}
    assert session.jobs[-1].by_upload
    # Blender up to 5.0 may crash beside any second thread that runs Python.
    assert threading.enumerate() == [threading.main_thread()]
    assert_turned(before, read(context, shot, range(1, 9)), {1})


def test_a_body_file_of_the_users_own_travels_with_the_job(context, shot, session, tmp_path):
    import shutil

    import bpy
    from blender_addon.rigs import body_builder

    from posefit_shared import body_files

    source = Path(body_files.__file__).parent / "assets" / "free_body.npz"
    mine = tmp_path / "my body.npz"
    shutil.copy(source, mine)
    shot[body_builder.BODY_KEY] = str(mine)
    context.scene.posefit.prior_weight = 0
    assert bpy.ops.posefit.refine_frame(wait=True) == {"FINISHED"}


def test_cancel_ends_a_running_job_and_the_next_one_runs(context, shot, session):
    from posefit_shared.settings import RefineSettings

    session.refine(context, shot, range(1, 9), RefineSettings(prior_weight=30.0))
    job = session.jobs[-1]
    step_until(session, lambda: job.fraction > 0)
    session.cancel_all()
    assert not session.is_busy
    session.refine(context, shot, [2], RefineSettings(prior_weight=0.0))
    step_until(session, lambda: not session.is_busy)
    assert shot.animation_data.action.name == "Shot.posefit"
    assert [j.is_problem for j in session.jobs] == [False, False]


def test_a_backend_that_blender_started_and_that_is_killed_midway_is_said(
    context, shot, addon, backend_python, tmp_path, monkeypatch
):
    from blender_addon.operators.connection import media_roots
    from blender_addon.session import SESSION

    from posefit_shared.settings import RefineSettings

    monkeypatch.chdir(HANDLERS)
    SESSION.start_backend(backend_python, media_roots(), tmp_path / "backend", OPTIONS)
    assert SESSION.connection.kind == "starting"
    step_until(SESSION, lambda: SESSION.is_connected, 60)
    old = shot.animation_data.action
    SESSION.refine(context, shot, range(1, 9), RefineSettings(prior_weight=30.0))
    job = SESSION.jobs[-1]
    step_until(SESSION, lambda: job.fraction > 0)
    assert SESSION.has_log
    os.killpg(SESSION._link.backend.process.pid, signal.SIGKILL)
    step_until(SESSION, lambda: not job.is_open)
    assert "the backend was killed from outside" in job.words
    assert SESSION.connection.kind == "lost"
    assert SESSION.has_log  # now is when it is wanted
    assert shot.animation_data.action == old
    SESSION.step()
    assert SESSION.connection.kind == "lost"
    SESSION.disconnect()
    SESSION._jobs.clear()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc of Linux")
def test_a_refinement_outlives_the_broker_of_the_backend_that_blender_started(
    context, shot, addon, backend_python, tmp_path, monkeypatch
):
    from blender_addon.operators.connection import media_roots
    from blender_addon.session import SESSION

    from posefit_shared.settings import RefineSettings

    monkeypatch.chdir(HANDLERS)
    SESSION.start_backend(backend_python, media_roots(), tmp_path / "backend", OPTIONS)
    step_until(SESSION, lambda: SESSION.is_connected, 60)
    SESSION.refine(context, shot, range(1, 9), RefineSettings(prior_weight=4.0))
    job = SESSION.jobs[-1]
    step_until(SESSION, lambda: job.fraction > 0)
    keeper = SESSION._link.backend.process.pid
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    brokers = [pid for pid in children if b"kept" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(brokers[0]), signal.SIGKILL)
    step_until(SESSION, lambda: not job.is_open, 60)
    assert not job.is_problem
    assert SESSION.is_connected
    SESSION.disconnect()
    SESSION._jobs.clear()


def test_footage_that_is_cut_off_fails_in_a_sentence(context, shot, session, folder):
    from posefit_shared.settings import RefineSettings

    path = folder / "the clip.mp4"
    session.refine(context, shot, [2], RefineSettings(prior_weight=0.0))
    job = session.jobs[-1]
    path.write_bytes(path.read_bytes()[:500])
    step_until(session, lambda: not job.is_open)
    assert job.is_problem
    assert "the clip.mp4" in job.words


def test_image_folders_are_read_in_place(context, shot, session, folder):
    from blender_addon.sequences import sequence_import

    from posefit_shared.settings import RefineSettings

    clip = sequence_import.load_clip(write_footage(folder / "frames", 8))
    sequence_import.show_footage(context.scene, context.scene.camera, clip, 1)
    context.scene.camera.data.background_images[0].clip = clip
    session.refine(context, shot, [2, 3], RefineSettings(prior_weight=0.0))
    step_until(session, lambda: not session.is_busy)
    assert not session.jobs[-1].is_problem, session.jobs[-1].words


def test_the_real_engine_refines_a_frame_of_the_real_clip(context, engine_session):
    """The estimate (four frames, 34 to 37) was made by `posefit estimate` on the same clip."""
    import bpy

    armature = bpy.data.objects["demo_estimate"]
    before = read(context, armature, [35])
    context.scene.frame_set(35)
    bpy.ops.posefit.refine_frame()
    step_until(engine_session, lambda: not engine_session.is_busy, 120)
    job = engine_session.jobs[-1]
    assert not job.is_problem, job.words
    after = read(context, armature, [35])
    is_refined = "1 of 1 frames refined" in job.words
    assert is_refined == (armature.animation_data.action.name == "demo_estimate.posefit")
    moved = np.linalg.norm(after.trans - before.trans)
    assert (0 < moved < 0.5) if is_refined else moved == pytest.approx(0, abs=1e-6)


def test_who_else_stands_there_gets_to_the_backend(context, shot, session):
    import bpy

    other = shot.copy()
    context.collection.objects.link(other)
    other.select_set(False)
    assert bpy.context.object == shot
    told = []

    def look(job, deadline):
        told.append(job.result.report["others"])
        job.end("looked at")

    session._apply = look
    try:
        for is_wanted in (True, False):
            context.scene.posefit.use_others = is_wanted
            assert bpy.ops.posefit.refine_frame() == {"FINISHED"}
            step_until(session, lambda: not session.is_busy, 60)
    finally:
        del session._apply
    assert told == [1, 0]


def test_the_real_engine_refines_beside_another_character(context, engine_session):
    import bpy

    armature = bpy.data.objects["demo_estimate"]
    other = armature.copy()
    context.collection.objects.link(other)
    other.location.x += 0.7
    context.scene.frame_set(35)
    assert bpy.ops.posefit.refine_frame() == {"FINISHED"}
    job = engine_session.jobs[-1]
    step_until(engine_session, lambda: not engine_session.is_busy, 120)
    assert not job.is_problem, job.words
    assert len(job.others) == 1


def test_the_real_engine_leaves_locked_bones_and_pinned_frames(context, engine_session):
    """Without a lock and a pin this refinement turns the left shoulder, and changes frame 34."""
    import bpy
    from blender_addon.keys import fcurves

    armature = bpy.data.objects["demo_estimate"]
    armature.pose.bones["L_Shoulder"].posefit_locked = True
    armature.posefit_pinned_frames = "34"
    before = values_of(fcurves.curves_of(armature))
    context.scene.posefit.displacement = "net-fast"
    context.scene.posefit.use_scene_range = False
    context.scene.posefit.frame_start, context.scene.posefit.frame_end = 34, 37
    answers = []
    apply = engine_session._apply
    engine_session._apply = lambda job, deadline: (
        answers.append(job.refinement()) or apply(job, deadline)
    )
    try:
        bpy.ops.posefit.refine_range()
        step_until(engine_session, lambda: not engine_session.is_busy, 240)
    finally:
        del engine_session._apply
        words = engine_session.jobs[-1].words
    assert answers, words
    turned = np.abs(answers[0].result.poses - answers[0].request.sequence.poses).max(-1)
    assert turned[:, 16].max() < 1e-6  # the engine itself held them
    assert turned[0].max() < 1e-6
    after = values_of(fcurves.curves_of(armature))
    for channel, values in before.items():
        assert after[channel][0] == values[0]
        if "L_Shoulder" in channel[0]:
            assert np.array_equal(after[channel], values)
    assert max(np.abs(after[c] - before[c])[3] for c in before if "R_Shoulder" in c[0]) > 1e-3


def values_of(curves):
    """What curves show on frames 34 to 37, by channel."""
    return {
        channel: np.array([curve.evaluate(frame) for frame in range(34, 38)])
        for channel, curve in curves.items()
    }


def test_the_real_engine_estimates_the_real_clip_before_the_scenes_camera(context, engine_session):
    """Four frames in which `posefit estimate` has found the person before, with the same lens."""
    import bpy

    before = read(context, bpy.data.objects["demo_estimate"], range(35, 39))
    assert bpy.ops.posefit.estimate() == {"FINISHED"}
    step_until(engine_session, lambda: not engine_session.is_busy, 120)
    job = engine_session.jobs[-1]
    assert not job.is_problem, job.words
    assert job.words == "4 frames estimated as cam03"
    after = read(context, bpy.data.objects["cam03"], range(35, 39))
    assert after.frame_indices.tolist() == [34, 35, 36, 37]
    assert np.linalg.norm(after.trans - before.trans, axis=1).max() < 0.5


def test_the_real_engine_brings_a_motion_of_another_take_back(context, engine_session):
    import bpy

    armature = bpy.data.objects["demo_estimate"]
    before = read(context, armature, range(35, 39))
    armature.location, armature.rotation_euler.z = (2.0, 1.0, 0.2), 1.2
    context.view_layer.objects.active = armature
    context.view_layer.update()
    assert bpy.ops.posefit.align_to_footage(search_seconds=0.0) == {"FINISHED"}
    step_until(engine_session, lambda: not engine_session.is_busy, 120)
    after = read(context, armature, range(35, 39))
    words = engine_session.jobs[-1].words
    assert np.linalg.norm(after.trans - before.trans, axis=1).max() < 0.15, words


def test_frames_that_the_real_engine_has_done_can_be_kept_before_it_ends(context, engine_session):
    """In windows of four frames the first one is told of while the second is under way."""
    import bpy

    from posefit_shared.settings import RefineSettings

    armature = bpy.data.objects["demo_estimate"]
    frames = range(35, 43)  # the pose of frame 38 stands on after it
    before = read(context, armature, frames)
    settings = RefineSettings(
        displacement="net-fast", refine_shape=False, window_frames=4, window_overlap=0
    )
    job = engine_session.refine(context, armature, frames, settings)
    step_until(engine_session, lambda: job.finished, 240)
    assert job.finished == (0, 1, 2, 3)
    assert bpy.ops.posefit.keep_finished() == {"FINISHED"}
    assert job.words == "4 of 8 frames refined in action demo_estimate.posefit"
    moved = np.abs(read(context, armature, frames).poses - before.poses).max(axis=(1, 2))
    assert (moved[:4] > 1e-4).all()
