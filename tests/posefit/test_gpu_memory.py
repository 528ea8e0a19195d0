# SPDX-License-Identifier: Apache-2.0
"""A GPU's memory: a limit that is one, smaller batches where it runs out, and giving it back."""

import queue
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import synthetic_clip as made
import torch

from posefit.gpu import memory as gpu_memory
from posefit.gpu.memory import LIMIT_VARIABLE, GpuMemoryError, limit_gpu_memory
from posefit.parameters import parameters_of_sequence
from posefit.refinement.observation import Observer
from posefit.refinement.pictures import load_pictures
from posefit.worker import process as worker

GPU = torch.device("cuda:0")


@pytest.mark.parametrize("words", ["lots", "0", "-2", "nan", "inf"])
def test_a_limit_that_is_none_is_refused_in_words(words, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, words)
    with pytest.raises(GpuMemoryError, match="expected how many GiB"):
        limit_gpu_memory(GPU)
    limit_gpu_memory(torch.device("cpu"))


def test_a_limit_is_a_share_of_the_memory_that_there_is(monkeypatch):
    told = []
    properties = SimpleNamespace(total_memory=8 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *said: told.append(said)
    )
    for words in ("2", "100", ""):
        monkeypatch.setenv(LIMIT_VARIABLE, words)
        limit_gpu_memory(GPU)
    assert told == [(0.25, GPU), (1.0, GPU)]


@dataclass
class Narrow(made.ColorMatcher):
    """An estimator whose memory holds two frames."""

    asked: list[int] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def predict(self, images, modalities):
        self.asked.append(len(images))
        if len(images) > 2:
            raise torch.cuda.OutOfMemoryError("made up")
        return super().predict(images, modalities)


def test_where_memory_runs_out_fewer_frames_are_looked_at_at_once(free_body):
    start, view = made.filmed_clip(free_body, seed=3, frames=5)
    parameters = parameters_of_sequence(start, free_body)
    pictures = load_pictures(view, range(5), made.pose_body(free_body, parameters).vertices)
    narrow = Narrow()

    def look(estimator, at_once):
        observer = Observer(free_body, estimator, crop_size=64, batch_frames=at_once)
        return observer.look(pictures, range(5), parameters, lambda frames: None)

    found, expected = look(narrow, 16), look(made.ColorMatcher(), 2)
    assert narrow.asked == [5, 2, 2, 1]
    torch.testing.assert_close(found.points.targets, expected.points.targets)


def test_a_worker_without_work_rests_once(monkeypatch):
    monkeypatch.setattr(worker, "REST_AFTER_S", 0.01)
    jobs, rests = queue.Queue(), []

    def rest():
        rests.append(1)
        jobs.put(None)

    lone = worker._Worker.__new__(worker._Worker)
    lone._line, lone._rest = SimpleNamespace(jobs=jobs), rest
    assert lone._next_order() is None
    assert rests == [1]


def test_giving_back_without_a_gpu_does_nothing():
    gpu_memory.give_back()
