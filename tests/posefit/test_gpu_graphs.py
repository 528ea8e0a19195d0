# SPDX-License-Identifier: Apache-2.0
"""Recordings: a stand-in for CUDA graphs runs on the CPU what a graph would run on a GPU."""

import contextlib
from dataclasses import dataclass
from functools import partial

import pytest
import synthetic_clip as made
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from posefit.gpu.graphs import (
    Recorder,
    device_constant,
    recording,
    replayed,
    replayed_loop,
)
from posefit.rasterizer.warp_backend import accumulate_warp


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


class Strict(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: values that the host reads, or brings along."""

    FORBIDDEN = ("lift_fresh", "_local_scalar_dense", "nonzero", "unique", "is_nonzero")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if any(word in name for word in self.FORBIDDEN):
            raise RuntimeError(f"{name} waits for the device or copies from the host")
        return function(*args, **(kwargs or {}))


class Asked(TorchDispatchMode):
    """Counts what a GPU would be asked for one by one, and what the host would wait to read."""

    paused = 0
    VIEWS = ("view", "expand", "permute", "transpose", "slice", "select", "squeeze", "detach",
             "alias", "aten.t.", "unbind", "split", "as_strided", "diagonal")  # fmt: skip
    READS = ("_local_scalar_dense", "nonzero", "unique")

    def __init__(self):
        super().__init__()
        self.operations = self.reads = 0

    @classmethod
    @contextlib.contextmanager
    def nothing(cls):
        cls.paused += 1
        try:
            yield
        finally:
            cls.paused -= 1

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if not Asked.paused and not any(word in name for word in self.VIEWS):
            self.operations += 1
            self.reads += any(word in name for word in self.READS)
        return function(*args, **(kwargs or {}))


def run_again(run):
    """Records by running again into the same tensors, with the plain values of the first time."""
    with Strict():
        shape, first = run()
    results = [one.clone() for one in first]

    def replay():
        with Asked.nothing():
            for target, source in zip(results, run()[1], strict=True):
                target.copy_(source)

    return replay, shape, results


@pytest.fixture
def recorder():
    return Recorder(run_again, "cpu")


@device_constant
@dataclass(frozen=True)
class Model:
    weight: torch.Tensor


@dataclass(frozen=True)
class Pair:
    first: torch.Tensor
    second: torch.Tensor | None
    scale: float


def combined(model, pair, terms):
    total = model.weight * pair.first * pair.scale
    return {"total": sum((term(total) for term in terms), total), "pair": pair}


def test_a_replay_gives_what_the_call_would_have_given(recorder):
    model, calls = Model(torch.tensor(3.0)), []

    def function(*arguments):
        calls.append(1)
        return combined(*arguments)

    def arguments(value):
        terms = [partial(torch.mul, torch.tensor(value))]
        return model, Pair(torch.full((2,), value), None, 0.5), terms

    with recording(recorder=recorder):
        results = [replayed(function, *arguments(float(k))) for k in range(4)]
    for k, result in enumerate(results):
        expected = combined(*arguments(float(k)))
        torch.testing.assert_close(result["total"], expected["total"], rtol=0, atol=0)
        torch.testing.assert_close(result["pair"].first, expected["pair"].first)
        assert result["pair"].second is None
    assert recorder.replays == 3  # the first call is run as it is


def test_other_shapes_values_and_constants_are_other_recordings(recorder):
    model = Model(torch.tensor(3.0))
    kinds = [
        (model, Pair(torch.ones(2), None, 0.5), []),
        (model, Pair(torch.ones(3), None, 0.5), []),
        (model, Pair(torch.ones(2), None, 0.25), []),
        (Model(torch.tensor(4.0)), Pair(torch.ones(2), None, 0.5), []),
    ]
    with recording(recorder=recorder):
        for _ in range(3):
            totals = [replayed(combined, *kind)["total"] for kind in kinds]
    assert [float(total[0]) for total in totals] == [1.5, 1.5, 0.75, 2.0]
    assert recorder.replays == 8


@dataclass(frozen=True)
class Halving:
    value: torch.Tensor
    is_done: torch.Tensor


def begin(value):
    return Halving(value, value.amax() < 1.0)


def halve(start, state):
    return begin(state.value / 2 + 0 * start)


def test_a_loop_stops_where_its_state_is_done(recorder):
    with recording(recorder=recorder):
        for start, steps in ((8.0, 4), (4.0, 3), (1000.0, 6), (0.5, 0)):
            value = torch.tensor([start, 0.25])
            state, taken = replayed_loop(begin, halve, (value,), most=6)
            assert taken == steps
            torch.testing.assert_close(state.value, value / 2**steps)
            assert value[0] == start  # arguments stay
    assert recorder.replays == 3


def test_what_cannot_be_recorded_is_called(caplog):
    def refuse(run):
        raise RuntimeError("it waits for the device")

    with recording(recorder=Recorder(refuse, "cpu")):
        for k in range(3):
            assert replayed(torch.add, torch.ones(1), torch.tensor([k])) == k + 1
    assert caplog.text.count("could not be recorded") == 1


def test_nothing_is_recorded_outside_or_under_gradients(recorder):
    with recording(recorder=recorder), torch.enable_grad():
        for _ in range(3):
            replayed(torch.add, torch.ones(1), torch.ones(1))
    for _ in range(3):
        replayed(torch.add, torch.ones(1), torch.ones(1))
    assert recorder.replays == 0


def test_a_refinement_by_replays_is_the_refinement(free_body, recorder, monkeypatch, caplog):
    """Whatever differs from clip to clip must reach a recording as a tensor."""
    monkeypatch.setattr("posefit.solver.kinematics._poses_all", lambda body: True)
    monkeypatch.setattr("posefit.vertex_targets.accumulate", accumulate_warp)
    plain = [made.refined_clip(free_body, seed) for seed in range(3)]
    with recording(recorder=recorder):
        again = [made.refined_clip(free_body, seed) for seed in range(3)]
    for one, other in zip(plain, again, strict=True):
        assert (one.poses == other.poses).all()
        assert (one.trans == other.trans).all()
    expected = {"_begin", "posed_problem", "_posed", "_rendered", "_look_of", "_search"}
    assert expected <= recorder.recorded
    assert "could not be recorded" not in caplog.text


def test_a_refinement_asks_little_one_by_one(free_body, recorder, monkeypatch):
    """What stands between a GPU and its work: counted, so that no clock has to be read.

    Without recordings it is 13 700 operations, and 45 reads either way.
    """
    monkeypatch.setattr("posefit.solver.kinematics._poses_all", lambda body: True)
    monkeypatch.setattr("posefit.vertex_targets.accumulate", accumulate_warp)
    predict = made.ColorMatcher.predict

    def unasked(self, *arguments):
        with Asked.nothing():
            return predict(self, *arguments)

    monkeypatch.setattr(made.ColorMatcher, "predict", unasked)
    with recording(recorder=recorder):
        for seed in range(2):
            made.refined_clip(free_body, seed)
        start, view = made.filmed_clip(free_body, 2, 3)
        with Asked() as asked:
            made.refined(free_body, start, view)
    assert asked.operations < 1400
    assert asked.reads < 60
