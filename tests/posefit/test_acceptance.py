# SPDX-License-Identifier: Apache-2.0
"""Acceptance: what is not better stays as it came, and turning a frame down leaves no jump."""

import numpy as np
import torch

from posefit.acceptance import accept, apply_verdict, confidence_from_sigma, ramp
from posefit_shared.sequence import Sequence
from posefit_shared.settings import RefineSettings


def sequences(frames: int = 20) -> tuple[Sequence, Sequence]:
    given = Sequence(poses=np.zeros((frames, 24, 3)), trans=np.zeros((frames, 3)))
    found = given.replace(
        poses=np.full((frames, 24, 3), 0.1), trans=np.ones((frames, 3)), betas=np.ones(10)
    )
    return given, found


def verdict_of(after: list[float]):
    before = torch.full((len(after),), 0.5)
    return accept(before, torch.tensor(after), [], None)


def test_a_frame_that_explains_the_picture_worse_keeps_the_input():
    after = [0.1] * 20
    after[10] = 0.9
    given, found = sequences()
    result = apply_verdict(given, found, verdict_of(after), RefineSettings())
    assert result.status[10] == "kept"
    assert np.abs(result.poses[10]).max() == 0
    assert result.status[0] == "refined"
    np.testing.assert_allclose(result.poses[0], 0.1, atol=1e-6)


def test_neighbours_of_a_kept_frame_lead_into_it_step_by_step():
    after = [0.1] * 20
    after[10] = 0.9
    given, found = sequences()
    result = apply_verdict(given, found, verdict_of(after), RefineSettings())
    steps = np.abs(np.diff(result.trans[:, 0]))
    assert steps.max() <= 0.25 + 1e-6
    assert result.trans[14, 0] == 1.0


def test_frames_without_evidence_keep_the_input_and_say_so():
    after = [0.1] * 20
    after[3] = float("nan")
    given, found = sequences()
    result = apply_verdict(given, found, verdict_of(after), RefineSettings())
    assert result.status[3] == "no_person"
    assert result.trans[3, 0] == 0


def test_a_clip_that_mostly_got_worse_is_given_back_with_its_shape():
    given, found = sequences()
    result = apply_verdict(given, found, verdict_of([0.1] * 5 + [0.9] * 15), RefineSettings())
    assert set(result.status) == {"kept"}
    np.testing.assert_array_equal(result.poses, given.poses)
    np.testing.assert_array_equal(result.betas, given.betas)


def test_keypoints_and_rendering_speak_with_one_voice():
    before, after = torch.tensor([0.5, 0.5]), torch.tensor([0.4, 0.4])
    costs = [(torch.tensor([1.0, 1.0]), torch.tensor([0.5, 3.0]))]
    verdict = accept(before, after, costs, None, torch.tensor([False, True]))
    assert verdict.refined.tolist() == [True, False]
    assert verdict.ratio[1] > 1 > verdict.ratio[0]


def test_influence_takes_the_share_that_was_asked_for():
    given, found = sequences()
    result = apply_verdict(given, found, verdict_of([0.1] * 20), RefineSettings(influence=0.25))
    np.testing.assert_allclose(result.trans, 0.25)
    np.testing.assert_allclose(result.poses, 0.025, atol=1e-6)
    np.testing.assert_allclose(result.betas, 0.25)


def test_the_ramp_is_whole_where_nothing_was_turned_down():
    assert ramp(np.ones(5, bool)).tolist() == [1.0] * 5
    assert ramp(np.array([True, False, True])).tolist() == [0.25, 0.0, 0.25]


def test_confidence_falls_with_the_spread_and_is_zero_for_the_unknown():
    confidence = confidence_from_sigma(torch.tensor([[0.0, 0.15, 1.5, torch.inf]]))
    np.testing.assert_allclose(confidence, [[1.0, 0.5, 1 / 101, 0.0]], atol=1e-6)
