# SPDX-License-Identifier: Apache-2.0
"""The gate: it takes what its signs let it expect, and takes nothing where they are missing."""

import dataclasses
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch

from posefit.verdict.gate import Gate, SourceName, features, load_gates
from posefit.verdict.judge import evidence_source
from posefit.verdict.signs import FrameSigns


def signs(frames: int = 3, **changes: object) -> FrameSigns:
    """Signs of a change that looks right: the error is gone, most of it across the view."""

    def all_of(value: float) -> torch.Tensor:
        return torch.full((frames,), value, dtype=torch.float64)

    values = {
        "error_before_m": all_of(0.06), "error_after_m": all_of(0.01), "change_m": all_of(0.07),
        "depth_share": all_of(0.3), "input_scale": all_of(1.0), "joint_sigma": all_of(0.1),
        "unusual_before": all_of(1.0), "unusual_after": all_of(1.0),
        "withheld_before_m": all_of(0.06), "withheld_after_m": all_of(0.012),
        "doubt_m": all_of(0.01), "seen_share": all_of(0.9),
    }  # fmt: skip
    return FrameSigns(**{**values, **changes})


def gate(**changes: object) -> Gate:
    plain = Gate(("one", "agreement"), (0.2, -0.5), 0.1, 1.0, 0.2)
    return dataclasses.replace(plain, **changes)


def test_a_step_is_what_is_expected_less_the_margin():
    expected = 0.2 - 0.5 * np.log(0.013 / 0.063)
    np.testing.assert_allclose(gate().right_share(signs()), expected)
    np.testing.assert_allclose(gate().steps(signs()), min(expected - 0.1, 1.0))


def test_small_steps_are_not_taken_and_none_exceeds_the_change():
    assert gate(weights=(0.25, 0.0)).steps(signs()).tolist() == [0.0] * 3
    assert gate(weights=(9.0, 0.0)).steps(signs()).tolist() == [1.0] * 3
    assert gate(weights=(-3.0, 0.0)).steps(signs()).tolist() == [0.0] * 3


def test_frames_without_signs_take_nothing():
    unseen = torch.tensor([0.01, torch.nan, 0.01], dtype=torch.float64)
    steps = gate().steps(signs(error_after_m=unseen))
    assert steps[1] == 0
    assert (steps[[0, 2]] > 0).all()


def test_where_nothing_was_withheld_the_look_speaks():
    nothing = torch.full((3,), torch.nan, dtype=torch.float64)
    found = features(signs(withheld_after_m=nothing))
    np.testing.assert_array_equal(found["withheld"], found["agreement"])


@pytest.mark.parametrize("source", get_args(SourceName))
def test_every_source_has_a_gate_that_believes_what_looks_right(source):
    shipped = load_gates()[source]
    # medians of typical starts on the development set
    fits = {name: torch.full((3,), 0.003, dtype=torch.float64)
            for name in ("error_after_m", "withheld_after_m")}  # fmt: skip
    misses = {name: torch.full((3,), 0.09, dtype=torch.float64) for name in fits}
    good, worse = shipped.steps(signs(**fits)), shipped.steps(signs(**misses))
    assert (good > 0.3).all()
    assert (worse < good).all()
    assert set(shipped.names) <= set(features(signs()))


def run_with(estimator: str | None, views: int = 1, landmarks=(), evidence=()) -> SimpleNamespace:
    observer = None if estimator is None else SimpleNamespace(
        estimator=SimpleNamespace(name=estimator)
    )  # fmt: skip
    clip = SimpleNamespace(views=[None] * views, landmarks=landmarks, evidence=evidence)
    return SimpleNamespace(observer=observer, clip=clip)


def test_only_what_a_gate_was_fitted_to_is_judged_by_it():
    assert evidence_source(run_with("net", landmarks=["seen"])) == "net"
    assert evidence_source(run_with("flow", landmarks=["seen"])) is None
    assert evidence_source(run_with(None, landmarks=["seen"])) == "keypoints"
    assert evidence_source(run_with(None, views=2, landmarks=["seen", "seen"])) is None
    assert evidence_source(run_with(None, evidence=["maps"])) is None
    assert evidence_source(run_with(None, landmarks=["seen"], evidence=["maps"])) is None
