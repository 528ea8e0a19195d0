# SPDX-License-Identifier: Apache-2.0
"""Two threads at a GPU's work: in order, bounded, ended by the first error, and nothing else."""

import threading

import numpy as np
import pytest
import synthetic_clip as made
import torch

from posefit.gpu.lanes import LaneStopped, in_lanes, lanes_of
from posefit.pipeline import Clip, Hooks, refine
from posefit_shared.settings import RefineSettings

CPU = torch.device("cpu")


def wanted():
    pass


def test_a_cpu_has_one_lane():
    assert lanes_of(CPU) == 1


def test_results_come_in_order_and_both_threads_work_at_once():
    both = threading.Barrier(2, timeout=30)

    def work(item, stop):
        if item < 2:
            both.wait()  # neither goes on without the other
        return item * item

    assert list(in_lanes(range(7), work, CPU, 2, wanted)) == [k * k for k in range(7)]


def test_items_are_taken_no_further_ahead_than_needed():
    taken, may_end = [], threading.Event()

    def items():
        for k in range(10):
            taken.append(k)
            yield k

    def work(item, stop):
        assert may_end.wait(30)
        return item

    results = in_lanes(items(), work, CPU, 2, lambda: may_end.set())
    assert next(results) == 0
    assert taken == [0, 1, 2]
    assert list(results) == list(range(1, 10))


def test_the_first_error_ends_the_others():
    ended = []

    def work(item, stop):
        if item == 1:
            raise ValueError("broken")
        try:
            while item > 1:
                stop.check()
        except LaneStopped:
            ended.append(item)
            raise
        return item

    results = in_lanes(range(5), work, CPU, 2, wanted)
    assert next(results) == 0
    with pytest.raises(ValueError, match="broken"):
        list(results)
    assert ended == [2]  # under way; the rest was not begun


def test_nobody_works_on_for_whoever_stopped_asking():
    class UnwantedError(Exception):
        pass

    def refuse():
        raise UnwantedError

    def work(item, stop):
        while True:
            stop.check()

    with pytest.raises(UnwantedError):
        list(in_lanes(range(3), work, CPU, 2, refuse))


def test_a_clip_in_two_lanes_is_the_clip_window_by_window(free_body, monkeypatch):
    start, view = made.filmed_clip(free_body, 3, 14)
    settings = RefineSettings(
        crop_size=64, rounds=1, solver_iterations=2, window_frames=5, window_overlap=2
    )

    def refined():
        shown, hooks = [], None
        hooks = Hooks(publish=lambda sequence: shown.append(sequence.poses))
        result = refine(
            Clip(start, [view]), body=free_body, estimator=made.ColorMatcher(),
            settings=settings, hooks=hooks,
        )  # fmt: skip
        return result.sequence, shown

    expected, shown = refined()
    monkeypatch.setattr("posefit.pipeline.lanes_of", lambda device: 2)
    found, again = refined()
    assert np.array_equal(found.poses, expected.poses)
    assert np.array_equal(found.trans, expected.trans)
    assert len(again) == len(shown) > 1
    assert all(map(np.array_equal, again, shown))
