# SPDX-License-Identifier: GPL-3.0-or-later
"""Accepting takes many turns, of which the last alone changes anything; so does the slider."""

import pytest
from comparison_makers import (
    add_sparse_body,
    keys_of,
    record,
    same_keys,
    shown_now,
    slerp,
)
from session_makers import step_until

pytestmark = pytest.mark.bpy

FRAMES = [1, 7, 12, 12.5, 33, 40]


@pytest.fixture
def sparse(context):
    """Three poses of an animator's, of which a refinement keyed all forty frames."""
    return add_sparse_body(context)


@pytest.fixture
def session(addon, monkeypatch):
    """The extension's session; each of its steps does one slice."""
    from blender_addon.jobs import job_runner
    from blender_addon.session import SESSION

    monkeypatch.setattr(job_runner, "SLICE_SECONDS", 0.0)
    yield SESSION
    SESSION._jobs.clear()


def begin(session, context, armature, **options):
    from blender_addon.results.accepted_keys import AcceptOptions

    return session.accept(context, armature, AcceptOptions(**options))


def to_end(session, job, turns=2000):
    while job.is_open and turns:
        session.step()
        turns -= 1
    assert not job.is_open
    return job


def actions():
    import bpy

    return {action.name for action in bpy.data.actions}


def move_slider(armature, amount):
    """What moving the slider does in a window."""
    from blender_addon.results import comparison

    armature.posefit_comparison["amount"] = amount  # no update
    comparison.show(armature, amount, at_once=False)


def fill(session, context, turns=2000):
    context.view_layer.update()
    while session.previews.is_open and turns:
        session.step()
        turns -= 1
    assert not session.previews.is_open


@pytest.mark.parametrize(
    "options",
    [{}, {"frames": (10, 20)}, {"keys": "OWN"}, {"keys": "FEWEST"}, {"bones": {"L_Elbow", "Head"}}],
    ids=["all", "frames", "own", "fewest", "bones"],
)
@pytest.mark.parametrize("amount", [1.0, 0.5])
def test_many_turns_come_to_the_same_as_one(context, session, options, amount):
    from blender_addon.results.accept_refinement import accept
    from blender_addon.results.accepted_keys import AcceptOptions

    results = []
    for at_once in (True, False):
        armature = add_sparse_body(context)
        armature.posefit_comparison.amount = amount
        if at_once:
            accept(armature, AcceptOptions(**options))
        else:
            job = to_end(session, begin(session, context, armature, **options))
            assert not job.is_problem, job.words
            assert "bones accepted" in job.words
        assert armature.posefit_comparison.refined is None
        results.append(keys_of(armature.animation_data.action))
    assert same_keys(*results)


def test_until_the_last_turn_nothing_is_changed_and_cancelling_leaves_nothing(
    context, session, sparse
):
    sparse.posefit_comparison.amount = 0.5
    before, refined = actions(), keys_of(sparse.posefit_comparison.refined)
    job = begin(session, context, sparse)
    step_until(session, lambda: actions() - before)
    for _ in range(20):
        session.step()
    assert job.is_open
    (unfinished,) = actions() - before
    assert unfinished.startswith(".")
    assert sparse.posefit_comparison.amount == pytest.approx(0.5)
    session.stop()
    assert actions() == before
    assert same_keys(keys_of(sparse.posefit_comparison.refined), refined)
    assert not session.undecided()


def test_a_slider_that_is_moved_meanwhile_counts(context, session, sparse):
    sparse.posefit_comparison.amount = 0.5
    job = begin(session, context, sparse)
    for _ in range(60):
        session.step()
    sparse.posefit_comparison.amount = 0.25
    shown = record(context, sparse, FRAMES)
    to_end(session, job)
    for part, wanted in zip(record(context, sparse, FRAMES), shown, strict=True):
        assert part == pytest.approx(wanted, abs=1e-3)


def test_what_was_rejected_meanwhile_is_said(context, session, sparse):
    import bpy

    job = begin(session, context, sparse)
    session.step()
    bpy.ops.posefit.reject()
    to_end(session, job)
    assert "no refinement that waits to be accepted" in job.words


def test_one_undo_takes_it_back(context, session, sparse):
    import bpy

    sparse.posefit_comparison.amount = 0.5
    bpy.ops.ed.undo_push(message="before")
    to_end(session, begin(session, context, sparse))
    assert sparse.animation_data.action.name == "Walk.posefit"
    bpy.ops.ed.undo()
    settings = bpy.data.objects["Body"].posefit_comparison
    assert settings.amount == pytest.approx(0.5)
    assert bpy.data.objects["Body"].animation_data.action == settings.preview


def test_it_is_asked_for_once_at_a_time_and_refused_at_once_where_nothing_waits(
    context, session, sparse
):
    from blender_addon.rigs.rig import SceneError

    job = begin(session, context, sparse)
    with pytest.raises(SceneError, match="is being accepted"):
        begin(session, context, sparse)
    to_end(session, job)
    with pytest.raises(SceneError, match="no refinement that waits"):
        begin(session, context, sparse)


def test_frames_that_are_gone_to_before_they_are_blended_are_right(context, session, sparse):
    settings = sparse.posefit_comparison
    settings.amount = 0
    before = record(context, sparse, FRAMES)[0]
    settings.amount = 1
    after = record(context, sparse, FRAMES)[0]
    context.scene.frame_set(7)
    move_slider(sparse, 0.5)
    assert shown_now(context, sparse) == pytest.approx(slerp(before[1], after[1], 0.5), abs=1e-4)
    assert session.previews.is_open
    for row, frame in enumerate(FRAMES):
        if frame != int(frame):
            continue
        (shown,), _ = record(context, sparse, [frame])
        assert shown == pytest.approx(slerp(before[row], after[row], 0.5), abs=1e-4), frame
    fill(session, context)
    whole = record(context, sparse, FRAMES)
    settings.amount = 0.5001  # all at once, as scripts in the background have it
    assert whole[0] == pytest.approx(record(context, sparse, FRAMES)[0], abs=1e-3)
    assert len(keys_of(settings.preview)) == len(keys_of(settings.refined))


def test_a_file_is_saved_with_all_frames_blended(context, session, sparse, tmp_path):
    import bpy
    from blender_addon.results import blended_preview

    move_slider(sparse, 0.5)
    context.view_layer.update()
    assert blended_preview.is_open(sparse)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "kept.blend"), copy=True)
    assert not blended_preview.is_open(sparse)


def test_an_undo_in_between_goes_on_blending(context, session, sparse):
    import bpy
    from blender_addon.results import blended_preview

    bpy.ops.ed.undo_push(message="before")
    move_slider(sparse, 0.5)
    bpy.ops.ed.undo_push(message="half blended")
    fill(session, context)
    sparse.location.x = 1
    bpy.ops.ed.undo_push(message="moved")
    bpy.ops.ed.undo()
    armature = bpy.data.objects["Body"]
    assert blended_preview.is_open(armature)
    session.step()
    fill(session, context)
    assert not blended_preview.is_open(armature)
