# SPDX-License-Identifier: GPL-3.0-or-later
"""A refined focal length becomes the lens, is compared with the pose, and can be undone."""

import threading

import numpy as np
import pytest
from scripted_backend import ScriptedBackend, turned_result
from session_makers import add_shot, connect, finished, step_until

pytestmark = pytest.mark.bpy

FACTOR = 1.25


@pytest.fixture
def shot(context, tmp_path):
    armature = add_shot(tmp_path)
    context.scene.posefit.refine_focal = True
    return armature


@pytest.fixture
def session(addon):
    from blender_addon.session import SESSION

    yield SESSION
    SESSION.disconnect()
    SESSION._jobs.clear()


def zoomed(request):
    """The request's motion turned, seen through a lens that is longer by a quarter."""
    intrinsics = request.sequence.intrinsics.reshape(-1, 3, 3)[:1].copy()
    intrinsics[:, 0, 0] *= FACTOR
    intrinsics[:, 1, 1] *= FACTOR
    return turned_result(request, intrinsics=intrinsics, distortion=np.zeros(5))


def refine(session, answer=zoomed):
    import bpy

    with ScriptedBackend(answer=answer) as backend:
        connect(session, backend)
        bpy.ops.posefit.refine_range()
        job = finished(session)
        session.disconnect()
    return backend.requests, job


def intrinsics(context, armature):
    from blender_addon.scenes import scene_reader

    return scene_reader.read_now(context, armature, [3]).sequence.intrinsics[0]


def test_the_lens_follows_and_is_said(context, shot, session):
    before, lens = intrinsics(context, shot), context.scene.camera.data.lens
    requests, job = refine(session)
    assert requests[0].settings.refine_focal == "clip"
    assert context.scene.camera.data.lens == pytest.approx(FACTOR * lens, rel=1e-6)
    after = intrinsics(context, shot)
    assert after[:2, :2] == pytest.approx(FACTOR * before[:2, :2], rel=1e-5)
    assert after[:2, 2] == pytest.approx(before[:2, 2], abs=1e-3)
    assert f"has {FACTOR * lens:.4g} mm" in job.words


def test_the_slider_and_reject_take_the_lens_along(context, shot, session):
    import bpy

    camera = context.scene.camera.data
    lens = camera.lens
    refine(session)
    shot.posefit_comparison.amount = 0.0
    assert camera.lens == pytest.approx(lens)
    shot.posefit_comparison.amount = 0.5
    assert camera.lens == pytest.approx((1 + FACTOR) / 2 * lens)
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert camera.lens == pytest.approx(lens)


def test_accept_keeps_the_lens_that_is_shown(context, shot, session):
    import bpy

    camera = context.scene.camera.data
    lens = camera.lens
    refine(session)
    shot.posefit_comparison.amount = 0.5
    assert bpy.ops.posefit.accept() == {"FINISHED"}
    assert camera.lens == pytest.approx((1 + FACTOR) / 2 * lens)
    assert shot.posefit_comparison.camera is None


def test_refining_again_keeps_the_first_lens_as_the_original(context, shot, session):
    camera = context.scene.camera.data
    lens = camera.lens
    refine(session)
    shot.posefit_comparison.amount = 0.5
    context.scene.posefit.refine_focal = False
    refine(session, turned_result)
    assert camera.lens == pytest.approx((1 + FACTOR) / 2 * lens)
    context.scene.posefit.refine_focal = True
    refine(session)
    assert camera.lens == pytest.approx(FACTOR * (1 + FACTOR) / 2 * lens)
    shot.posefit_comparison.amount = 0.0
    assert camera.lens == pytest.approx(lens)


def test_a_lens_that_was_set_by_hand_stays(context, shot, session):
    import bpy

    camera = context.scene.camera.data
    refine(session)
    camera.lens = 77.0
    shot.posefit_comparison.amount = 0.25
    assert bpy.ops.posefit.reject() == {"FINISHED"}
    assert camera.lens == pytest.approx(77.0)


def test_one_undo_takes_lens_and_pose_back(context, shot, session):
    import bpy

    lens = context.scene.camera.data.lens
    bpy.ops.ed.undo_push(message="before")
    refine(session)
    bpy.ops.ed.undo()
    assert bpy.context.scene.camera.data.lens == pytest.approx(lens)
    assert bpy.data.objects["Shot"].animation_data.action.name == "Shot"


def test_nothing_is_changed_where_no_frame_was_refined(context, shot, session):
    lens = context.scene.camera.data.lens
    refine(session, lambda request: turned_result(request, "kept", intrinsics=2 * np.eye(3)[None]))
    assert context.scene.camera.data.lens == lens


@pytest.mark.parametrize(
    ("hinder", "words"),
    [
        (lambda camera: camera.keyframe_insert("lens", frame=3), "is animated"),
        (lambda camera: camera.driver_add("lens"), "is driven"),
    ],
)
def test_a_lens_that_moves_is_refused_before_anything_is_sent(
    context, shot, session, hinder, words
):
    import bpy

    hinder(context.scene.camera.data)
    with ScriptedBackend(answer=zoomed) as backend:
        connect(session, backend)
        with pytest.raises(RuntimeError, match=words):
            bpy.ops.posefit.refine_range()
    assert backend.requests == []


def test_a_lens_that_changed_meanwhile_keeps_the_result_waiting(context, shot, session):
    import bpy

    camera = context.scene.camera.data
    is_changed = threading.Event()

    def answer(request):
        assert is_changed.wait(10)
        return zoomed(request)

    with ScriptedBackend(answer=answer) as backend:
        connect(session, backend)
        bpy.ops.posefit.refine_range()
        step_until(session, lambda: backend.requests)
        camera.lens = 20.0
        is_changed.set()
        step_until(session, lambda: "is 20 mm" in session.jobs[-1].words)
        job = session.jobs[-1]
    assert "is 20 mm, but" in job.words
    assert camera.lens == 20.0
    assert shot.animation_data.action.name == "Shot"
