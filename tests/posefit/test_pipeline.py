# SPDX-License-Identifier: Apache-2.0
"""The whole method on a made-up clip with exact truth: better where it can be, or unharmed."""

import numpy as np
import pytest
import synthetic_clip as made
import torch

from posefit.errors import RefinementError
from posefit.pipeline import Clip, Freedom, Hooks, refine
from posefit.views import view_of_sequence
from posefit_shared.sequence import SequenceError
from posefit_shared.settings import RefineSettings

FRAMES = 10
QUICK = RefineSettings(crop_size=128, solver_iterations=6)


@pytest.fixture(scope="module")
def scene(free_body):
    rng = np.random.default_rng(5)
    truth = made.true_sequence(free_body, FRAMES, rng)
    return truth, made.disturbed(truth, rng), made.filmed(free_body, truth)


@pytest.fixture(scope="module")
def refined(scene, free_body):
    _, start, footage = scene
    clip = Clip(start, [view_of_sequence(start, footage)])
    return refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=QUICK)


def test_the_body_moves_towards_the_truth(scene, refined, free_body):
    truth, start, _ = scene
    before = made.vertex_error_mm(free_body, start, truth).mean()
    after = made.vertex_error_mm(free_body, refined.sequence, truth).mean()
    assert before > 40
    assert after < 0.6 * before


def test_every_frame_gets_a_status_and_a_confidence(refined):
    sequence = refined.sequence
    assert set(sequence.status) == {"refined"}
    assert sequence.confidence.shape == (FRAMES, 24)
    assert (sequence.confidence > 0).all()
    assert (sequence.confidence <= 1).all()
    assert {"decode", "render and predict", "solve"} <= set(refined.timings_ms)


def test_one_shape_serves_all_frames(refined):
    assert refined.sequence.betas.shape == (10,)


def test_a_start_that_is_already_right_stays_right(scene, free_body):
    truth, _, footage = scene
    clip = Clip(truth, [view_of_sequence(truth, footage)])
    result = refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=QUICK)
    assert made.vertex_error_mm(free_body, result.sequence, truth).max() < 12


def test_influence_zero_gives_back_the_input(scene, free_body):
    _, start, footage = scene
    settings = RefineSettings(crop_size=128, influence=0.0, rounds=1, solver_iterations=2)
    clip = Clip(start, [view_of_sequence(start, footage)])
    result = refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=settings)
    np.testing.assert_allclose(result.sequence.poses, start.poses, atol=1e-5)
    np.testing.assert_allclose(result.sequence.betas, start.betas, atol=1e-6)


def test_pinned_frames_and_locked_joints_do_not_move(scene, free_body):
    _, start, footage = scene
    locked = torch.zeros(24, dtype=torch.bool)
    locked[[16, 18]] = True
    pinned = torch.zeros(FRAMES, dtype=torch.bool)
    pinned[3] = True
    clip = Clip(start, [view_of_sequence(start, footage)])
    result = refine(
        clip, body=free_body, estimator=made.ColorMatcher(), settings=QUICK,
        freedom=Freedom(locked=locked, pinned=pinned),
    )  # fmt: skip
    np.testing.assert_allclose(result.sequence.poses[3], start.poses[3], atol=1e-6)
    np.testing.assert_allclose(
        result.sequence.poses[:, [16, 18]], start.poses[:, [16, 18]], atol=1e-5
    )
    assert np.abs(result.sequence.poses[5, 17] - start.poses[5, 17]).max() > 0.01


@pytest.mark.slow
def test_windows_agree_with_the_whole(scene, refined, free_body):
    _, start, footage = scene
    settings = RefineSettings(crop_size=128, solver_iterations=6, window_frames=6, window_overlap=2)
    clip = Clip(start, [view_of_sequence(start, footage)])
    pieces = refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=settings)
    apart = made.vertex_error_mm(free_body, pieces.sequence, refined.sequence)
    assert apart.max() < 15


@pytest.mark.slow
def test_progress_rises_to_one_and_revisions_are_whole(scene, free_body):
    _, start, footage = scene
    told, published = [], []
    hooks = Hooks(progress=lambda fraction, stage: told.append(fraction), publish=published.append)
    settings = RefineSettings(
        crop_size=64, rounds=1, solver_iterations=1, window_frames=6, window_overlap=2
    )
    clip = Clip(start, [view_of_sequence(start, footage)])
    refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=settings, hooks=hooks)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert [len(sequence) for sequence in published] == [FRAMES] * len(published)
    assert len(published) == 1  # the second window's comes with the result


def test_cancelling_stops_between_batches(scene, free_body):
    _, start, footage = scene

    class StopError(Exception):
        pass

    def stop():
        raise StopError

    clip = Clip(start, [view_of_sequence(start, footage)])
    with pytest.raises(StopError):
        refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=QUICK,
               hooks=Hooks(check_cancelled=stop))  # fmt: skip


def test_a_body_out_of_every_picture_is_refused_in_words(scene, free_body):
    _, start, footage = scene
    away = start.replace(trans=start.trans + [30.0, 0, 0])
    clip = Clip(away, [view_of_sequence(away, footage)])
    with pytest.raises(RefinementError, match="wholly outside the picture in all 10 frames"):
        refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=QUICK)


def test_a_body_out_of_some_pictures_keeps_those_frames(scene, free_body):
    _, start, footage = scene
    trans = start.trans.copy()
    trans[7:] += [30.0, 0, 0]
    partly = start.replace(trans=trans)
    settings = RefineSettings(crop_size=128, smoothness=0.0, refine_shape=False)
    clip = Clip(partly, [view_of_sequence(partly, footage)])
    result = refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=settings)
    assert set(result.sequence.status[7:]) == {"no_person"}
    np.testing.assert_allclose(result.sequence.trans[7:], trans[7:], atol=1e-6)
    assert "refined" in result.sequence.status[:7]


def test_without_any_evidence_nothing_is_pretended(scene, free_body):
    _, start, footage = scene
    clip = Clip(start, [view_of_sequence(start, footage)])
    with pytest.raises(RefinementError, match="switch one of them on"):
        refine(clip, body=free_body, estimator=None)


def test_a_sequence_of_another_skeleton_is_refused_in_words(scene, free_body):
    _, start, footage = scene
    other = start.replace(poses=np.zeros((FRAMES, 52, 3)), model_type="smplh")
    clip = Clip(other, [view_of_sequence(other, footage)])
    with pytest.raises(RefinementError, match=r"52 joints \(smplh\), the body 'free' has 24"):
        refine(clip, body=free_body, estimator=made.ColorMatcher())


def test_footage_of_another_size_is_refused_in_words(scene):
    _, start, _ = scene
    small = made.ArrayFootage(np.zeros((FRAMES, 32, 32, 3), np.uint8))
    with pytest.raises(SequenceError, match="32 × 32 pixels, its camera is for 240 × 320"):
        view_of_sequence(start, small)


def test_footage_that_is_too_short_is_refused_in_words(scene):
    _, start, footage = scene
    short = made.ArrayFootage(footage.images[:4])
    with pytest.raises(SequenceError, match="names frame 9 of the footage, which has 4 frames"):
        view_of_sequence(start, short)
