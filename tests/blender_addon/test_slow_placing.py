# SPDX-License-Identifier: GPL-3.0-or-later
"""A long result is put in place in many turns, of which the last alone changes anything."""

import numpy as np
import pytest
from scene_makers import random_sequence
from scripted_backend import ScriptedBackend, turned_result
from session_makers import add_shot, connect, finished, step_until

from posefit_shared.settings import RefineSettings

pytestmark = pytest.mark.bpy

NECK = ('pose.bones["Neck"].rotation_quaternion', 1)


@pytest.fixture
def shot(context, tmp_path, monkeypatch):
    """The armature `Shot`; each step of the session does one slice."""
    from blender_addon.jobs import job_runner

    monkeypatch.setattr(job_runner, "SLICE_SECONDS", 0.0)
    return add_shot(tmp_path)


@pytest.fixture
def session(addon):
    """The extension's session, connected to a backend that answers."""
    from blender_addon.session import SESSION

    with ScriptedBackend(answer=turned_result) as backend:
        connect(SESSION, backend)
        yield SESSION
        SESSION.disconnect()
        SESSION._jobs.clear()


def half_built(session, context, shot, frames=(4, 5, 6)):
    """A refinement whose action is built in part, after a good many turns."""
    job = session.refine(context, shot, frames, RefineSettings(refine_shape=False))
    step_until(session, lambda: job.build is not None)
    for _ in range(40):
        session.step()
    assert job.is_open
    return job


def actions():
    import bpy

    return {action.name: action.users for action in bpy.data.actions}


def neck_key(armature, frame):
    from blender_addon.keys import fcurves

    points = fcurves.curves_of(armature)[NECK].keyframe_points
    return next(point for point in points if point.co[0] == frame)


def test_while_it_is_built_nothing_is_in_place_and_what_is_cancelled_is_gone(
    context, shot, session
):
    before = actions()
    job = half_built(session, context, shot)
    assert shot.animation_data.action.name == "Shot"
    assert shot.posefit_comparison.refined is None
    (unfinished,) = actions().keys() - before.keys()
    assert unfinished.startswith(".")
    assert actions()[unfinished] == 0  # Blender saves no action that nothing uses
    session.stop()
    assert actions() == before
    assert session.undecided() == [job]


def test_an_undo_meanwhile_begins_it_anew_and_one_undo_takes_it_back(context, shot, session):
    import bpy

    bpy.ops.ed.undo_push(message="before")
    shot.location.x = 1.0
    bpy.ops.ed.undo_push(message="moved")
    half_built(session, context, shot)
    bpy.context.scene["pushed while it is built"] = True
    bpy.ops.ed.undo_push(message="pushed while it is built")
    bpy.ops.ed.undo()
    job = finished(session)
    assert not job.is_problem, job.words
    shot = bpy.data.objects["Shot"]
    assert shot.animation_data.action.name == "Shot.posefit"
    assert shot.location.x == 1.0
    bpy.ops.ed.undo()
    session.step()
    assert bpy.data.objects["Shot"].animation_data.action.name == "Shot"
    assert set(actions()) == {"Shot"}


def test_keys_that_the_artist_moves_meanwhile_are_in_the_result(context, shot, session):
    half_built(session, context, shot)
    neck_key(shot, 8).co.y = 0.25  # not among the frames that are refined
    context.view_layer.update()
    job = finished(session)
    assert not job.is_problem, job.words
    assert shot.animation_data.action.name == "Shot.posefit"
    assert neck_key(shot, 8).co.y == pytest.approx(0.25)


def test_an_armature_that_is_removed_meanwhile_leaves_no_half_action(context, shot, session):
    import bpy

    half_built(session, context, shot)
    bpy.data.objects.remove(shot)
    job = finished(session)
    assert "was removed" in job.words
    assert set(actions()) == {"Shot"}


def test_a_shape_that_changes_with_it_is_built_for_the_joints_to_come(context, shot, session):
    from blender_addon.rigs import body_builder
    from blender_addon.scenes import scene_reader

    betas = np.linspace(-1, 1, 10).astype(np.float32)
    frames = [4, 5]
    before = scene_reader.read_now(context, shot, frames).sequence
    session.disconnect()
    with ScriptedBackend(answer=lambda request: turned_result(request, betas=betas)) as backend:
        connect(session, backend)
        job = session.refine(context, shot, frames, RefineSettings(refine_shape=True))
        step_until(session, lambda: job.build is not None)
        assert not body_builder.read_betas(shot).any()
        finished(session)
    assert body_builder.read_betas(shot) == pytest.approx(betas)
    after = scene_reader.read_now(context, shot, frames).sequence
    shift = after.trans - before.trans
    assert shift == pytest.approx(np.tile([0.1, -0.2, 0.05], (2, 1)), abs=1e-4)


def test_one_that_ends_takes_nothing_of_another_that_is_being_built(context, shot, session):
    import bpy
    from blender_addon.jobs.sequence_job import FileJob
    from blender_addon.sequences.sequence_import import ImportOptions

    motion = random_sequence(np.random.default_rng(5), count=4)
    first, second = (
        FileJob(context.scene.name, name, ImportOptions(name, with_camera=False), motion)
        for name in ("One", "Two")
    )
    for job in (first, second):
        session.bring_in(context, job)
        while not job.build_until(context, 0.0):
            pass
    assert len([name for name in actions() if name.startswith(".")]) == 2
    session.stop(first.job_id)
    assert len([name for name in actions() if name.startswith(".")]) == 1
    built = second.build.built
    assert second.build.until(0.0)
    assert second.build.built == built  # and not begun anew
    assert not finished(session).is_problem
    assert bpy.data.objects["Two"].animation_data.action.name == "Two"
