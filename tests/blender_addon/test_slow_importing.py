# SPDX-License-Identifier: GPL-3.0-or-later
"""A sequence is keyed in many turns; the last one builds its body, as importing at once does."""

import numpy as np
import pytest
from comparison_makers import keys_of, same_keys
from scene_makers import camera_fields, random_sequence, write_footage
from scripted_backend import ScriptedBackend
from session_makers import connect, finished, step_until
from test_estimate import backend as estimating
from test_estimate import camera, clip, estimated
from test_slow_placing import actions, session

from posefit_shared.messages import ImportResult
from posefit_shared.sequence import write_sequence

__all__ = ["camera", "clip", "session"]

pytestmark = pytest.mark.bpy

COUNT = 6


@pytest.fixture(autouse=True)
def one_slice(monkeypatch):
    """Each step of the session does one slice, of four frames at most."""
    from blender_addon.jobs import job_runner

    monkeypatch.setattr(job_runner, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr("blender_addon.slices.CHUNK", 4)


@pytest.fixture
def motion(rng):
    """Some motion before a moving camera."""
    return random_sequence(rng, count=COUNT, **camera_fields(rng, COUNT, moving=True))


@pytest.fixture
def pressed(context, motion, tmp_path):
    """What choosing a file in the dialogue does."""
    import bpy

    path = tmp_path / "walk.npz"
    write_sequence(path, motion)

    def press(**options):
        return bpy.ops.posefit.import_sequence(filepath=str(path), in_turns=True, **options)

    return press


def data_blocks():
    """Names of everything that an import makes, and how often it is used."""
    import bpy

    kinds = ("objects", "actions", "armatures", "meshes", "cameras", "shape_keys")
    return {(kind, item.name): item.users for kind in kinds for item in getattr(bpy.data, kind)}


def half_keyed(session, job):
    """Step until the keys are there in part; gives back the unfinished action's name."""
    before = set(actions())
    step_until(session, lambda: set(actions()) - before)
    for _ in range(20):
        session.step()
    assert job.is_open
    (unfinished,) = set(actions()) - before
    return unfinished


def test_many_turns_come_to_the_same_as_one(context, session, pressed, motion):
    import bpy
    from blender_addon.sequences.sequence_import import ImportOptions, import_sequence

    assert pressed() == {"CANCELLED"}
    (job,) = session.jobs
    turns = 0
    while job.is_open:
        assert not context.scene.objects
        session.step()
        turns += 1
    assert job.words == f"{COUNT} frames imported as walk"
    assert turns > 24 * 4 + 24  # a turn for each curve, and for each bone's weights
    there = bpy.data.objects["walk"]
    assert there.animation_data.action.name == "walk"
    assert context.scene.camera.name == "walk.camera"
    at_once = import_sequence(context, motion, ImportOptions("Other")).armature
    assert len(keys_of(there.animation_data.action)) == 24 * 4 + 3
    assert same_keys(*(keys_of(item.animation_data.action) for item in (there, at_once)))


def test_the_rig_to_come_is_the_one_that_is_built(context, motion, body):
    from blender_addon.rigs.rig_of_body import rig_of_body
    from blender_addon.scenes.scene_reader import read_rig
    from blender_addon.sequences.sequence_import import ImportOptions, import_sequence

    betas = np.linspace(-2, 2, 10).astype(np.float32)
    changed = motion.replace(betas=betas)
    built = read_rig(import_sequence(context, changed, ImportOptions("Body")).armature)
    expected = rig_of_body(body, betas)
    assert expected.match == built.match
    assert expected.rest == pytest.approx(built.rest, abs=1e-4)  # Blender's are off by 5e-5
    assert expected.rest_axes == pytest.approx(built.rest_axes)
    assert expected.rest_pelvis == pytest.approx(built.rest_pelvis)
    assert expected.units_per_metre == built.units_per_metre
    assert expected.object_matrices == pytest.approx(built.object_matrices)


def test_until_the_last_turn_nothing_is_used_and_cancelling_leaves_nothing(
    context, session, pressed
):
    before = data_blocks()
    pressed()
    (job,) = session.jobs
    unfinished = half_keyed(session, job)
    assert unfinished.startswith(".")
    assert data_blocks().keys() - before.keys() == {("actions", unfinished)}
    assert actions()[unfinished] == 0  # Blender saves no action that nothing uses
    session.stop()
    assert data_blocks() == before
    assert not session.is_busy


def test_what_is_built_beside_the_scene_goes_when_it_is_cancelled(context, session, pressed):
    import bpy

    before = data_blocks()
    pressed()
    step_until(session, lambda: any(mesh.shape_keys for mesh in bpy.data.meshes))
    made = data_blocks().keys() - before.keys()
    assert {kind for kind, _ in made} == {"objects", "actions", "meshes", "cameras", "shape_keys"}
    assert all(name.startswith(".") for kind, name in made if kind != "shape_keys")
    assert not context.scene.objects
    session.stop()
    assert data_blocks() == before


def test_what_somebody_else_removes_meanwhile_is_built_anew(context, session, pressed):
    import bpy

    pressed()
    step_until(session, lambda: any(mesh.shape_keys for mesh in bpy.data.meshes))
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)  # as Purge Unused Data does
    job = finished(session)
    assert not job.is_problem, job.words
    assert sorted(item.name for item in bpy.data.objects) == ["walk", "walk.camera", "walk.mesh"]
    assert all(not name.startswith(".") for kind, name in data_blocks())


def test_what_is_half_built_is_not_saved(context, session, pressed, tmp_path):
    import bpy

    pressed()
    step_until(session, lambda: any(mesh.shape_keys for mesh in bpy.data.meshes))
    path = tmp_path / "saved.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    with bpy.data.libraries.load(str(path)) as (there, _):
        kinds = ("objects", "actions", "meshes", "cameras")
        found = [name for kind in kinds for name in getattr(there, kind)]
    assert not [name for name in found if name.startswith(".posefit")]
    job = finished(session)
    assert not job.is_problem, job.words
    assert bpy.data.objects["walk"].animation_data.action.name == "walk"


def test_a_body_that_does_not_fit_is_said_by_the_job(context, session, pressed, motion, tmp_path):
    from posefit_shared.sequence import write_sequence

    hands = random_sequence(np.random.default_rng(1), count=3, joints=52, model_type="smplh")
    write_sequence(tmp_path / "walk.npz", hands)
    from blender_addon.rigs import body_builder

    body_builder._shelf.cache_clear()
    assert pressed() == {"CANCELLED"}
    job = finished(session)
    assert job.is_problem
    assert "the sequence poses 52 joints" in job.words
    assert not data_blocks()
    with pytest.raises(RuntimeError, match="poses 52 joints"):
        pressed()  # the body is known now


def test_several_files_come_in_one_after_the_other(context, session, rng, tmp_path):
    import bpy

    fields = camera_fields(rng)
    for index, name in enumerate(("anna", "ben", "cleo")):
        indices = np.arange(3) + 4 * index
        other = random_sequence(rng, count=3, frame_indices=indices, **fields)
        write_sequence(tmp_path / f"{name}.npz", other)
    files = [{"name": f"{name}.npz"} for name in ("anna", "ben", "cleo")]
    folder = str(tmp_path)
    outcome = bpy.ops.posefit.import_sequence(directory=folder, files=files, in_turns=True)
    assert outcome == {"CANCELLED"}
    assert [job.label for job in session.jobs] == ["anna", "ben", "cleo"]
    first, *later = session.jobs
    step_until(session, lambda: not first.is_open)
    assert first.words == "3 frames imported as anna"
    assert all(job.is_open for job in later)
    assert (context.scene.frame_start, context.scene.frame_end) == (1, 11)
    finished(session)
    bodies = [item.name for item in context.scene.objects if item.type == "ARMATURE"]
    assert sorted(bodies) == ["anna", "ben", "cleo"]
    assert [item.name for item in bpy.data.cameras] == ["anna.camera"]
    assert (context.scene.frame_start, context.scene.frame_end) == (1, 11)


def test_one_undo_takes_it_back_and_one_meanwhile_begins_it_anew(context, session, pressed):
    import bpy

    bpy.ops.ed.undo_push(message="before")
    pressed()
    half_keyed(session, session.jobs[-1])
    bpy.context.scene["pushed"] = True
    bpy.ops.ed.undo_push(message="pushed while it is keyed")
    bpy.ops.ed.undo()
    job = finished(session)
    assert not job.is_problem, job.words
    assert bpy.data.objects["walk"].animation_data.action.name == "walk"
    assert set(actions()) == {"walk", "walk.camera"}
    bpy.ops.ed.undo()
    session.step()
    assert not bpy.data.objects
    assert not actions()


def test_what_does_not_fit_is_said_when_it_is_pressed(context, session, pressed, tmp_path):
    footage = write_footage(tmp_path / "footage", COUNT, (64, 48))
    with pytest.raises(RuntimeError, match="64 x 48 pixels"):
        pressed(footage=str(footage))
    assert not session.jobs
    assert not actions()


def test_footage_that_is_gone_in_the_end_leaves_no_action(context, session, pressed, tmp_path):
    footage = write_footage(tmp_path / "footage", COUNT, (320, 240))
    pressed(footage=str(footage))
    half_keyed(session, session.jobs[-1])
    for picture in footage.iterdir():
        picture.unlink()
    job = finished(session)
    assert job.is_problem
    assert "holds no images" in job.words
    assert not data_blocks()


def test_a_scene_that_was_removed_meanwhile_gets_no_body(context, session, pressed):
    import bpy

    first = context.scene
    pressed()
    half_keyed(session, session.jobs[-1])
    context.window.scene = bpy.data.scenes.new("Elsewhere")
    bpy.data.scenes.remove(first)
    job = finished(session)
    assert "scene Scene was removed" in job.words
    assert not data_blocks()


def test_what_the_backend_read_is_keyed_in_turns_and_can_be_kept_after_a_stop(
    context, session, motion, tmp_path
):
    import bpy

    session.disconnect()
    path = tmp_path / "theirs.pkl"
    path.write_bytes(b"nothing that anybody unpickles")
    scripted = ScriptedBackend(
        answer=lambda request: ImportResult(motion), kinds=("refine", "import")
    )
    with scripted:
        connect(session, scripted)
        bpy.ops.posefit.import_sequence(filepath=str(path))
        (job,) = session.jobs
        half_keyed(session, job)
        session.stop()
        assert not data_blocks()
        assert session.undecided() == [job]
        assert bpy.ops.posefit.keep_finished() == {"FINISHED"}
    assert bpy.data.objects["theirs"].animation_data.action.name == "theirs"
    assert set(actions()) == {"theirs", "theirs.camera"}


def test_a_camera_that_moves_while_an_estimate_is_keyed_has_the_body_before_it(
    context, session, camera, body
):
    import bpy
    from test_estimate import assert_seen_alike

    session.disconnect()
    with estimating(estimated) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.estimate()
        half_keyed(session, session.jobs[-1])
        for curve in _curves(camera).values():
            for point in curve.keyframe_points:
                point.co.y += 0.1 if curve.data_path == "location" else 0.0
        context.view_layer.update()
        job = finished(session)
    assert not job.is_problem, job.words
    motion = estimated(scripted.requests[0]).sequence
    assert_seen_alike(context, body, bpy.data.objects["the clip"], motion, range(11, 15))


def _curves(item):
    from blender_addon.keys import fcurves

    return fcurves.curves_of(item)
