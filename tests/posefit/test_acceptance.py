# SPDX-License-Identifier: Apache-2.0
"""Acceptance: what is not better stays as it came, and turning a frame down leaves no jump."""

import numpy as np
import pytest
import torch
from hypothesis import given as given_values
from hypothesis import strategies as st

from posefit.body import pose_joints
from posefit.parameters import parameters_of_sequence
from posefit.verdict.acceptance import (
    FADE_SECONDS,
    Verdict,
    apply_verdict,
    confidence_from_sigma,
    cost_ratio,
    slow_steps,
    steps_by_cost,
    verdict_of,
)
from posefit_shared.sequence import Sequence
from posefit_shared.settings import RefineSettings

FRAMES = 20
TIMES = np.arange(FRAMES) * FADE_SECONDS / 4
"""Frames so near each other that a step of 1 fades over four."""


@pytest.fixture
def sequences() -> tuple[Sequence, Sequence]:
    given = Sequence(poses=np.zeros((FRAMES, 24, 3)), trans=np.zeros((FRAMES, 3)))
    found = given.replace(
        poses=np.full((FRAMES, 24, 3), 0.1), trans=np.ones((FRAMES, 3)), betas=np.ones(10)
    )
    return given, found


def by_cost(ratio, pinned: torch.Tensor | None = None) -> Verdict:
    ratio = np.array(ratio)
    return verdict_of(steps_by_cost(ratio), ratio, TIMES, None, pinned)


def test_a_frame_that_explains_the_picture_worse_keeps_the_input(sequences):
    ratio = [0.2] * FRAMES
    ratio[10] = 1.8
    result = apply_verdict(*sequences, by_cost(ratio), RefineSettings())
    assert result.status[10] == "kept"
    assert np.abs(result.poses[10]).max() == 0
    assert result.status[0] == "refined"
    np.testing.assert_allclose(result.poses[0], 0.1, atol=1e-6)


def test_neighbours_of_a_kept_frame_lead_into_it_step_by_step(sequences):
    ratio = [0.2] * FRAMES
    ratio[10] = 1.8
    result = apply_verdict(*sequences, by_cost(ratio), RefineSettings())
    steps = np.abs(np.diff(result.trans[:, 0]))
    assert steps.max() <= 0.25 + 1e-6
    assert result.trans[14, 0] == 1.0


def test_frames_without_evidence_keep_the_input_and_say_so(sequences):
    ratio = [0.2] * FRAMES
    ratio[3] = float("nan")
    result = apply_verdict(*sequences, by_cost(ratio), RefineSettings())
    assert result.status[3] == "no_person"
    assert result.trans[3, 0] == 0


def test_a_clip_that_got_worse_everywhere_is_given_back_with_its_shape(sequences):
    given, found = sequences
    result = apply_verdict(given, found, by_cost([1.8] * FRAMES), RefineSettings())
    assert set(result.status) == {"kept"}
    np.testing.assert_array_equal(result.poses, given.poses)
    np.testing.assert_array_equal(result.betas, given.betas)


def test_a_step_of_a_half_takes_half_of_the_change_and_of_the_shape(sequences):
    verdict = verdict_of(np.full(FRAMES, 0.5), np.full(FRAMES, 0.4), TIMES, None)
    result = apply_verdict(*sequences, verdict, RefineSettings())
    np.testing.assert_allclose(result.trans, 0.5)
    np.testing.assert_allclose(result.poses, 0.05, atol=1e-6)
    np.testing.assert_allclose(result.betas, 0.5)


def test_a_kept_frame_wears_the_new_shape_with_its_pelvis_where_it_was(free_body):
    frames = 6
    given = Sequence(
        poses=np.zeros((frames, 24, 3)), trans=np.full((frames, 3), 0.3), betas=np.zeros(10)
    )
    found = given.replace(trans=np.full((frames, 3), 0.5), betas=np.full(10, 1.5))
    steps = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    verdict = verdict_of(steps, np.full(frames, 0.5), np.arange(frames) * 1.0, None)
    result = apply_verdict(given, found, verdict, RefineSettings(), free_body)
    assert 0.5 < result.betas[0] < 1.5
    before, after, taken = (
        pose_joints(free_body, parameters_of_sequence(one, free_body))[:, 0]
        for one in (given, result, found)
    )
    torch.testing.assert_close(after[5], before[5], atol=1e-5, rtol=0)
    torch.testing.assert_close(after[0], taken[0], atol=1e-5, rtol=0)


def test_pinned_frames_take_nothing(sequences):
    pinned = torch.zeros(FRAMES, dtype=torch.bool)
    pinned[4] = True
    verdict = by_cost([0.2] * FRAMES, pinned)
    assert verdict.step[4] == 0
    assert verdict.step[8] == 1


def test_kinds_of_evidence_speak_with_one_voice_and_unseen_ones_are_silent():
    costs = [
        (torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.5, 3.0, 0.0])),
        (torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.4, 0.4, 0.0])),
    ]
    ratio = cost_ratio(costs)
    assert ratio[0] < 1 < ratio[1]
    assert np.isnan(ratio[2])


def test_a_frame_that_was_turned_all_the_same_is_not_called_kept(sequences):
    given, found = sequences
    poses = given.poses.copy()
    poses[3, 5, 1] = 0.4
    verdict = by_cost([1.8] * FRAMES)
    result = apply_verdict(
        given, found, verdict, RefineSettings(influence=0.5), turned=given.replace(poses=poses)
    )
    assert result.status[3] == "refined"
    assert result.status[4] == "kept"
    assert result.poses[3, 5, 1] == pytest.approx(0.2)
    np.testing.assert_array_equal(result.poses[4], given.poses[4])
    np.testing.assert_array_equal(result.trans, given.trans)


def test_influence_blends_a_turn_once(sequences):
    given, found = sequences
    turned = given.replace(poses=found.poses)
    verdict = by_cost([0.2] * FRAMES)
    result = apply_verdict(given, found, verdict, RefineSettings(influence=0.5), turned=turned)
    np.testing.assert_allclose(result.poses, 0.05, atol=1e-6)


def test_influence_takes_the_share_that_was_asked_for(sequences):
    result = apply_verdict(*sequences, by_cost([0.2] * FRAMES), RefineSettings(influence=0.25))
    np.testing.assert_allclose(result.trans, 0.25)
    np.testing.assert_allclose(result.poses, 0.025, atol=1e-6)
    np.testing.assert_allclose(result.betas, 0.25)


@given_values(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), st.floats(0.001, 1.0), st.randoms()
)
def test_slowed_steps_never_exceed_what_was_allowed_nor_change_faster(steps, gap, random):
    steps = np.array(steps)
    times = np.cumsum([gap * (0.5 + random.random()) for _ in steps])
    slowed = slow_steps(steps, times)
    assert (slowed <= steps + 1e-12).all()
    assert (slowed >= steps.min() - 1e-12).all()
    assert (np.abs(np.diff(slowed)) <= np.diff(times) / FADE_SECONDS + 1e-9).all()


def test_steps_far_apart_are_left_alone():
    steps = np.array([1.0, 0.0, 1.0])
    np.testing.assert_array_equal(slow_steps(steps, np.array([0.0, 1.0, 2.0])), steps)


def test_confidence_falls_with_the_spread_and_is_zero_for_the_unknown():
    confidence = confidence_from_sigma(torch.tensor([[0.0, 0.15, 1.5, torch.inf]]))
    np.testing.assert_allclose(confidence, [[1.0, 0.5, 1 / 101, 0.0]], atol=1e-6)
