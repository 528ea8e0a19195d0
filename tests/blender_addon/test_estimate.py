# SPDX-License-Identifier: GPL-3.0-or-later
"""A clip goes to the backend, a body in motion comes back and stands where the camera sees it."""

import numpy as np
import pytest
from scene_makers import camera_fields, evaluated_vertices, random_sequence, skin, write_movie
from scripted_backend import ScriptedBackend
from test_queue import ended
from test_session import connect, session, step_until

from posefit_shared import frames
from posefit_shared.messages import EstimateResult

__all__ = ["session"]

pytestmark = pytest.mark.bpy

LEVEL = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
"""A level camera at the origin, as the engine assumes one."""
COUNT = 8


def backend(answer=None, **fields):
    return ScriptedBackend(answer=answer, kinds=("refine", "estimate"), **fields)


def estimated(request, **changes):
    """Some motion in the frames that were asked for, four metres before a level camera."""
    stop = COUNT if request.stop_frame is None else request.stop_frame
    indices = np.arange(request.start_frame, stop)
    lens = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    rng = np.random.default_rng(20 + request.person)
    motion = random_sequence(
        rng,
        count=len(indices),
        frame_indices=indices,
        intrinsics=lens if request.intrinsics is None else request.intrinsics,
        world_to_camera=LEVEL,
        image_size=(320, 240),
        person_id=request.person,
        status=("refined",) * (len(indices) - 1) + ("no_person",),
    )
    trans = np.array([0.3, 4.0, 0.1], np.float32) + motion.trans - motion.trans[0]
    return EstimateResult(motion.replace(trans=trans, **changes))


@pytest.fixture
def clip(tmp_path, context):
    return write_movie(tmp_path / "the clip.mp4", COUNT, (320, 240))


@pytest.fixture
def camera(context, clip):
    """A moving camera somewhere in the scene with the clip behind it, from scene frame 11 on."""
    from blender_addon.sequences import sequence_camera, sequence_import

    rng = np.random.default_rng(3)
    motion = random_sequence(rng, count=COUNT, **camera_fields(rng, COUNT, moving=True))
    built = sequence_camera.build_camera(context, motion, list(range(11, 11 + COUNT)), "Filmed")
    sequence_import.show_footage(context.scene, built, sequence_import.load_clip(clip), 11)
    context.scene.camera = built
    context.scene.frame_start, context.scene.frame_end = 1, 14
    return built


def assert_seen_alike(context, body, armature, motion, scene_frames):
    """The body's surface lies before the scene's camera as the motion has it before its own."""
    from blender_addon.rigs import body_builder

    for row, frame in enumerate(scene_frames):
        context.scene.frame_set(frame)
        shown = evaluated_vertices(body_builder.mesh_of(armature))
        matrix = np.array(context.scene.camera.matrix_world)
        seen = frames.apply(frames.blender_to_opencv_camera(matrix), shown)
        posed = skin(body, motion.betas, motion.poses[row], motion.trans[row])
        assert np.abs(seen - frames.apply(LEVEL, posed)).max() < 5e-4


def test_a_body_stands_where_the_scenes_camera_sees_it(context, camera, session, body):
    import bpy

    size = context.scene.render.resolution_x
    with backend(estimated) as scripted:
        connect(session, scripted)
        assert bpy.ops.posefit.estimate() == {"FINISHED"}
        assert ended(session) == [
            "4 frames estimated as the clip, 1 of them without a person, carried across"
        ]
    request = scripted.requests[0]
    assert (request.start_frame, request.stop_frame, request.person) == (0, 4, 0)
    assert request.intrinsics == pytest.approx(
        camera_fields(np.random.default_rng(0))["intrinsics"]
    )
    assert_seen_alike(
        context, body, bpy.data.objects["the clip"], estimated(request).sequence, range(11, 15)
    )
    scene = context.scene
    assert scene.camera == camera
    assert (scene.frame_start, scene.frame_end, scene.render.resolution_x) == (1, 14, size)


def test_a_camera_on_a_constraint_is_followed(context, camera, session, body):
    import bpy

    target = bpy.data.objects.new("Target", None)
    context.collection.objects.link(target)
    target.location = (0.5, 0.0, 1.0)
    target.keyframe_insert("location", frame=11)
    target.location.z = 3.0
    target.keyframe_insert("location", frame=14)
    camera.constraints.new("COPY_LOCATION").target = target
    context.scene.frame_set(2)
    with backend(estimated) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.estimate()
        ended(session)
    assert context.scene.frame_current == 2
    motion = estimated(scripted.requests[0]).sequence
    assert_seen_alike(context, body, bpy.data.objects["the clip"], motion, range(11, 15))


def test_a_file_brings_camera_footage_and_all_people(context, clip, session, body):
    import bpy

    with backend(estimated) as scripted:
        connect(session, scripted)
        assert bpy.ops.posefit.estimate(filepath=str(clip), people=2) == {"FINISHED"}
        ended(session)
    assert [request.person for request in scripted.requests] == [0, 1]
    assert scripted.requests[0].intrinsics is None
    assert scripted.requests[0].stop_frame is None
    scene = context.scene
    assert [item.name for item in bpy.data.objects if item.type == "CAMERA"] == ["the clip.camera"]
    assert scene.active_clip.filepath == str(clip)
    assert (scene.frame_start, scene.frame_end) == (1, COUNT)
    for request, name in zip(scripted.requests, ("the clip", "the clip.person2"), strict=True):
        armature = bpy.data.objects[name]
        assert armature.animation_data.action.name == name
        motion = estimated(request).sequence
        assert_seen_alike(context, body, armature, motion, range(1, 1 + COUNT))


def test_an_estimate_is_one_undo_step(context, clip, session):
    import bpy

    bpy.ops.ed.undo_push(message="before")
    with backend(estimated) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.estimate(filepath=str(clip))
        ended(session)
        assert "the clip" in bpy.data.objects
        bpy.ops.ed.undo()
    assert not bpy.data.objects
    assert bpy.context.scene.camera is None


def test_an_estimate_waits_until_its_scene_is_shown(context, camera, session):
    import bpy

    first = context.scene
    with backend(estimated) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.estimate()
        job = session.jobs[-1]
        context.window.scene = bpy.data.scenes.new("Elsewhere")
        step_until(session, lambda: job.has_final)
        session.step()
        assert job.is_open
        assert "when scene Scene is shown" in job.words
        context.window.scene = first
        ended(session)
    assert first.objects["the clip"].type == "ARMATURE"


def test_an_estimate_for_a_scene_that_was_removed_says_so(context, camera, session):
    import bpy

    first = context.scene
    with backend(estimated) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.estimate()
        job = session.jobs[-1]
        context.window.scene = bpy.data.scenes.new("Elsewhere")
        bpy.data.scenes.remove(first)
        step_until(session, lambda: not job.is_open)
    assert "scene Scene was removed" in job.words
    assert "the clip" not in bpy.data.objects


def test_a_camera_that_was_removed_meanwhile_is_made_anew(context, camera, session, body):
    import bpy

    context.scene.frame_start = 13
    with backend(estimated) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.estimate()
        bpy.data.objects.remove(camera)
        ended(session)
    motion = estimated(scripted.requests[0]).sequence
    assert context.scene.camera.name == "the clip.camera"
    assert context.scene.active_clip.frame_start == 11
    assert_seen_alike(context, body, bpy.data.objects["the clip"], motion, [13, 14])


def test_an_estimate_that_is_cancelled_builds_nothing(context, camera, session):
    import bpy

    with backend() as scripted:
        connect(session, scripted)
        bpy.ops.posefit.estimate()
        job = session.jobs[-1]
        step_until(session, lambda: job.fraction)
        assert bpy.ops.posefit.cancel(job=job.job_id) == {"FINISHED"}
        step_until(session, lambda: scripted.cancelled)
    assert job.words == "cancelled, nothing was changed"
    assert "the clip" not in bpy.data.objects


def test_frames_that_were_not_asked_for_are_refused(context, camera, session):
    import bpy

    def other(request):
        return estimated(request, frame_indices=np.arange(4) + 1)

    with backend(other) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.estimate()
        assert "other frames" in ended(session)[-1]
    assert "the clip" not in bpy.data.objects


def test_what_cannot_be_estimated_is_said_at_once(context, session, clip):
    import bpy

    with backend() as scripted:
        connect(session, scripted)
        with pytest.raises(RuntimeError, match="the scene has no camera"):
            bpy.ops.posefit.estimate()
        with pytest.raises(RuntimeError, match="is not there"):
            bpy.ops.posefit.estimate(filepath="/nowhere/clip.mp4")
    with ScriptedBackend() as scripted:
        connect(session, scripted)
        with pytest.raises(RuntimeError, match="cannot run estimate jobs"):
            bpy.ops.posefit.estimate(filepath=str(clip))


def test_a_range_beside_the_footage_is_refused_in_words(context, camera, session):
    import bpy

    context.scene.frame_start, context.scene.frame_end = 100, 200
    with backend() as scripted:
        connect(session, scripted)
        with pytest.raises(RuntimeError, match="covers frames 11 to 18"):
            bpy.ops.posefit.estimate()
