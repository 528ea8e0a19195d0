# SPDX-License-Identifier: GPL-3.0-or-later
"""Several refinements one after the other; stopped ones, whose finished frames are kept or not."""

import numpy as np
import pytest
from scene_makers import camera_fields, random_sequence, write_footage
from scripted_backend import SHIFT, ScriptedBackend, half_done, turned_result
from test_session import connect, current_action, read, session, shot, step_until

from posefit_shared.messages import Progress
from posefit_shared.settings import RefineSettings

__all__ = ["session", "shot"]

pytestmark = pytest.mark.bpy

KEEP_SHAPE = RefineSettings(refine_shape=False)


@pytest.fixture
def other(context, shot):
    """A second armature in the same scene, over the same footage."""
    from blender_addon.sequences import sequence_import

    rng = np.random.default_rng(12)
    options = sequence_import.ImportOptions("Other", first_scene_frame=3, with_camera=False)
    motion = random_sequence(rng, count=8)
    return sequence_import.import_sequence(context, motion, options).armature


def select(context, *armatures):
    import bpy

    bpy.ops.object.select_all(action="DESELECT")
    for armature in armatures:
        armature.select_set(True)
    context.view_layer.objects.active = armatures[0]


def ended(session):
    step_until(session, lambda: not session.is_busy)
    return [job.words for job in session.jobs]


def test_all_selected_armatures_are_refined_one_job_each(context, shot, other, session):
    import bpy

    before = {item.name: read(context, item, [4]) for item in (shot, other)}
    select(context, shot, other)
    context.scene.frame_set(4)
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        assert bpy.ops.posefit.refine_frame() == {"FINISHED"}
        assert [job.label for job in session.jobs] == ["Shot, frame 4", "Other, frame 4"]
        ended(session)
    for item in (shot, other):
        assert current_action(item).name == f"{item.name}.posefit"
        moved = read(context, item, [4]).trans - before[item.name].trans
        assert moved[0] == pytest.approx(SHIFT, abs=1e-4)


def test_a_selected_rig_that_is_not_smpl_does_not_stop_the_others(context, shot, session):
    import bpy

    prop = bpy.data.objects.new("Prop", bpy.data.armatures.new("Prop"))
    context.collection.objects.link(prop)
    select(context, shot, prop)
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        assert bpy.ops.posefit.refine_frame() == {"FINISHED"}
        assert [job.armature for job in session.jobs] == ["Shot"]
        ended(session)
        select(context, prop)
        with pytest.raises(RuntimeError, match="the armature is no SMPL rig"):
            bpy.ops.posefit.refine_frame()


def test_a_second_refinement_of_an_armature_begins_from_what_came_of_the_first(
    context, shot, session
):
    before = read(context, shot, range(3, 11))
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        session.refine(context, shot, range(3, 9), KEEP_SHAPE)
        second = session.refine(context, shot, range(5, 11), KEEP_SHAPE)
        assert second.words == "after Shot, frames 3-8"
        assert all("refined" in words for words in ended(session))
    moved = (read(context, shot, range(3, 11)).trans - before.trans) / SHIFT
    assert moved == pytest.approx(np.outer([1, 1, 2, 2, 2, 2, 1, 1], np.ones(3)), abs=1e-2)


def test_the_one_that_waits_goes_on_when_the_one_before_it_is_cancelled(context, shot, session):
    with ScriptedBackend() as backend:
        connect(session, backend)
        first = session.refine(context, shot, [4, 5], KEEP_SHAPE)
        second = session.refine(context, shot, [6], KEEP_SHAPE)
        step_until(session, lambda: first.fraction)
        assert second.is_waiting
        session.stop(first.job_id)
        assert not first.is_open
        step_until(session, lambda: len(backend.requests) == 2)
        assert second.is_open


def test_what_is_missing_is_said_when_it_is_queued_and_not_hours_later(context, shot, session):
    from blender_addon.rigs.rig import SceneError

    with ScriptedBackend() as backend:
        connect(session, backend)
        session.refine(context, shot, [4], KEEP_SHAPE)
        with pytest.raises(SceneError, match="outside the footage"):
            session.refine(context, shot, [400], KEEP_SHAPE)
        assert len(session.jobs) == 1


def test_a_shot_is_refined_while_another_scene_is_shown(context, shot, session, tmp_path):
    import bpy
    from blender_addon.sequences import sequence_import

    before = read(context, shot, range(3, 11))
    first_scene = context.scene
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        session.refine(context, shot, range(3, 9), KEEP_SHAPE)
        session.refine(context, shot, range(5, 11), KEEP_SHAPE)  # is read when the first is in
        context.window.scene = bpy.data.scenes.new("Shot 2")
        rng = np.random.default_rng(13)
        options = sequence_import.ImportOptions("Two", footage=write_footage(tmp_path / "two", 4))
        motion = random_sequence(rng, count=4, **camera_fields(rng))
        two = sequence_import.import_sequence(context, motion, options).armature
        session.refine(context, two, range(1, 5), KEEP_SHAPE)
        assert all("refined" in words for words in ended(session))
    assert context.scene.name == "Shot 2"
    assert current_action(two).name == "Two.posefit"
    context.window.scene = first_scene
    moved = (read(context, shot, range(3, 11)).trans - before.trans) / SHIFT
    assert moved == pytest.approx(np.outer([1, 1, 2, 2, 2, 2, 1, 1], np.ones(3)), abs=1e-2)


def test_a_constrained_armature_of_another_scene_is_read_there(context, shot, session):
    """Frame by frame, as its scene evaluates it; no frame of the shown scene changes."""
    import bpy

    target = bpy.data.objects.new("Target", None)
    context.collection.objects.link(target)
    shot.constraints.new("COPY_LOCATION").target = target
    target.location = (1.0, 2.0, 3.0)
    context.view_layer.update()
    before = read(context, shot, range(3, 11))
    first_scene = context.scene
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        session.refine(context, shot, [4], KEEP_SHAPE)
        job = session.refine(context, shot, range(5, 11), KEEP_SHAPE)
        context.window.scene = bpy.data.scenes.new("Shot 2")
        context.scene.frame_set(77)
        ended(session)
        assert not job.is_problem, job.words
        assert backend.requests[1].sequence.trans == pytest.approx(before.trans[2:], abs=1e-4)
    assert context.scene.frame_current == 77
    context.window.scene = first_scene


def test_a_new_shape_waits_until_its_scene_is_shown(context, shot, session):
    import bpy
    from blender_addon.rigs import body_builder

    betas = np.linspace(-1, 1, 10).astype(np.float32)
    first_scene = context.scene
    with ScriptedBackend(answer=lambda request: turned_result(request, betas=betas)) as backend:
        connect(session, backend)
        job = session.refine(context, shot, [4, 5], RefineSettings(refine_shape=True))
        context.window.scene = bpy.data.scenes.new("Shot 2")
        step_until(session, lambda: job.has_final)
        session.step()
        assert job.is_open
        assert job.words == "done, and put in place when scene Scene is shown"
        assert not body_builder.read_betas(shot).any()
        context.window.scene = first_scene
        ended(session)
    assert body_builder.read_betas(shot) == pytest.approx(betas)


def test_frames_that_are_done_are_counted_while_a_range_runs(context, shot, session):
    with ScriptedBackend(provisional=half_done) as backend:
        connect(session, backend)
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        step_until(session, lambda: job.finished)
        assert job.line == "4 of 8 done, frame 1 of 4, 2 s left"
        assert job.is_open
        assert current_action(shot).name == "Shot"


def test_stopped_frames_that_are_kept_are_one_undo_step_and_can_be_compared(context, shot, session):
    import bpy

    before = read(context, shot, range(3, 11))
    old = current_action(shot)
    bpy.ops.ed.undo_push(message="before")
    with ScriptedBackend(provisional=half_done) as backend:
        connect(session, backend)
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        step_until(session, lambda: job.finished)
        assert bpy.ops.posefit.cancel(job=job.job_id) == {"FINISHED"}
        assert job.words == "stopped, 4 of 8 frames are done"
        assert current_action(shot) == old
        step_until(session, lambda: backend.cancelled)
        assert bpy.ops.posefit.keep_finished("EXEC_DEFAULT", True, job=job.job_id) == {"FINISHED"}
    assert job.words == "4 of 8 frames refined in action Shot.posefit"
    assert not session.undecided()
    moved = read(context, shot, range(3, 11)).trans - before.trans
    assert moved[:4] == pytest.approx(np.tile(SHIFT, (4, 1)), abs=1e-4)
    assert moved[4:] == pytest.approx(np.zeros((4, 3)), abs=1e-4)
    assert shot.posefit_comparison.original == old
    assert shot.posefit_comparison.refined == current_action(shot)
    bpy.ops.ed.undo()
    assert current_action(bpy.data.objects["Shot"]).name == "Shot"
    assert "Shot.posefit" not in bpy.data.actions


def test_stopped_frames_that_are_dropped_change_nothing(context, shot, session):
    import bpy

    with ScriptedBackend(provisional=half_done) as backend:
        connect(session, backend)
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        step_until(session, lambda: job.finished)
        bpy.ops.posefit.cancel()
        assert session.undecided() == [job]
        assert bpy.ops.posefit.drop_finished() == {"FINISHED"}
    assert not session.undecided()
    assert current_action(shot).name == "Shot"
    assert job.words == "dropped, nothing was changed"


def test_what_is_done_can_be_kept_in_the_middle_of_a_range(context, shot, session):
    import bpy

    with ScriptedBackend(provisional=half_done) as backend:
        connect(session, backend)
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        step_until(session, lambda: job.finished)
        assert bpy.ops.posefit.keep_finished(job=job.job_id) == {"FINISHED"}
        step_until(session, lambda: backend.cancelled)
    assert not session.is_busy
    assert current_action(shot).name == "Shot.posefit"


def test_keeping_what_is_done_leaves_jobs_alone_of_which_nothing_is(context, shot, other, session):
    import bpy

    def first_only(request):
        return half_done(request) if len(request.sequence) > 2 else []

    with ScriptedBackend(provisional=first_only) as backend:
        connect(session, backend)
        assert not bpy.ops.posefit.keep_finished.poll()
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        waiting = session.refine(context, other, [4, 5], KEEP_SHAPE)
        step_until(session, lambda: job.finished and waiting.fraction)
        bpy.ops.posefit.keep_finished()
        assert waiting.is_open
    assert current_action(shot).name == "Shot.posefit"
    assert current_action(other).name == "Other"


def test_what_was_done_when_the_backend_was_left_can_be_kept(context, shot, session):
    import bpy

    with ScriptedBackend(provisional=half_done) as backend:
        connect(session, backend)
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        step_until(session, lambda: job.finished)
        session.disconnect()
        assert job.is_problem
    assert bpy.ops.posefit.keep_finished() == {"FINISHED"}
    assert current_action(shot).name == "Shot.posefit"


def test_an_undone_job_with_frames_is_remembered_however_many_end_after_it(context, shot, session):
    from blender_addon.jobs.job_queue import SHOWN_JOBS

    with ScriptedBackend(provisional=half_done) as backend:
        connect(session, backend)
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        step_until(session, lambda: job.finished)
        session.stop()
        for _ in range(6):
            session.refine(context, shot, [4], KEEP_SHAPE)
            session.stop()
        assert job in session.jobs
        assert len(session.jobs) == SHOWN_JOBS + 2


def test_another_file_drops_what_was_stopped(context, shot, session):
    import bpy

    with ScriptedBackend(provisional=half_done) as backend:
        connect(session, backend)
        job = session.refine(context, shot, range(3, 11), KEEP_SHAPE)
        step_until(session, lambda: job.finished)
        session.stop()
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert not session.undecided()
    assert "another file" in job.words


def test_without_an_estimate_of_the_backend_the_time_left_is_worked_out(context, shot, session):
    with ScriptedBackend() as backend:
        connect(session, backend)
        job = session.refine(context, shot, [4], KEEP_SHAPE)
        step_until(session, lambda: job.fraction)
        job.time_left = type(job.time_left)()
        assert job.line == "frame 1 of 4"
        job.time_left.report(0.0, 0.0)
        job.hear(Progress(job.remote_id, 0.5, "solving"))
        assert "left" in job.line


def test_esc_ends_a_playback_and_not_the_refinement(context, shot, session):
    from types import SimpleNamespace

    import bpy
    from blender_addon.operators.queue import POSEFIT_OT_cancel

    with ScriptedBackend() as backend:
        connect(session, backend)
        job = session.refine(context, shot, [4, 5], KEEP_SHAPE)
        press = SimpleNamespace(type="ESC")
        operator = SimpleNamespace(job="", execute=lambda context: session.stop() or {"FINISHED"})
        for handler in bpy.app.handlers.animation_playback_post:
            handler(context.scene, None)  # Blender calls them before the key comes to us
        assert POSEFIT_OT_cancel.invoke(operator, context, press) == {"PASS_THROUGH"}
        assert job.is_open
        session.playback_ended_at -= 1
        assert POSEFIT_OT_cancel.invoke(operator, context, press) == {"FINISHED"}
        assert not job.is_open


def test_esc_over_a_3d_view_is_a_key_that_stops_and_goes_with_the_extension(addon):
    import bpy
    from blender_addon.operators import queue

    def keys():
        found = bpy.context.window_manager.keyconfigs.addon.keymaps["3D View"].keymap_items
        return [item for item in found if item.idname == "posefit.cancel"]

    assert [item.type for item in keys()] == ["ESC"]
    assert not bpy.ops.posefit.cancel.poll()  # nothing under way: Esc is everybody else's
    queue.detach()
    assert not keys()
    queue.attach()
