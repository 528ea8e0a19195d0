# SPDX-License-Identifier: Apache-2.0
"""A GPU's memory: a limit that is one, smaller batches where it runs out, and giving it back."""

import gc
import logging
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import synthetic_clip as made
import torch

from posefit.body import pose_body
from posefit.displacement import load_estimator
from posefit.errors import is_out_of_memory
from posefit.gpu import memory as gpu_memory
from posefit.gpu.memory import (
    LIMIT_VARIABLE,
    GpuMemoryError,
    limit_gpu_memory,
    usable_memory,
)
from posefit.parameters import parameters_of_sequence
from posefit.pipeline import Clip, refine
from posefit.refinement import pictures as pictures_module
from posefit.refinement.observation import Observer
from posefit.refinement.pictures import load_pictures
from posefit_shared.settings import RefineSettings

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


@pytest.mark.parametrize(("words", "gib"), [("2", 2), ("100", 8), ("", 8)])
def test_pictures_on_a_gpu_take_a_share_of_the_limit_and_not_of_the_card(words, gib, monkeypatch):
    properties = SimpleNamespace(total_memory=8 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setenv(LIMIT_VARIABLE, words)
    assert pictures_module._room(GPU) == gib * 2**30 // pictures_module._MEMORY_SHARE


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
    pictures = load_pictures(view, range(5), pose_body(free_body, parameters).vertices)
    narrow = Narrow()

    def look(estimator, at_once):
        observer = Observer(free_body, estimator, crop_size=64, batch_frames=at_once)
        return observer.look(pictures, range(5), parameters, lambda frames: None)

    found, expected = look(narrow, 16), look(made.ColorMatcher(), 2)
    assert narrow.asked == [5, 2, 2, 1]
    torch.testing.assert_close(found.points.targets, expected.points.targets)


def test_giving_back_without_a_gpu_does_nothing():
    gpu_memory.give_back()


# On a real GPU

FRAMES = 8
FRAME_BYTES = 256 * 2**20
"""What `Hungry` takes for a frame: all else that these refinements take is little beside it."""
QUICK = RefineSettings(crop_size=64, solver_iterations=3, rounds=2)


class Hungry(made.SoftMatcher):
    """An estimator that takes so much of a GPU for each frame."""

    def __init__(self, frame_bytes: int = FRAME_BYTES):
        self.frame_bytes = frame_bytes
        self.asked: list[int] = []
        self.answered: list[int] = []

    def predict(self, images, modalities):
        self.asked.append(len(images))
        taken = torch.empty((len(images), self.frame_bytes), dtype=torch.uint8, device="cuda")
        field_of = super().predict(images, modalities)
        self.answered.append(len(taken))
        return field_of


@pytest.fixture
def gpu_body(free_body):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    gpu_memory.give_back()
    yield free_body.to("cuda")
    torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    gc.collect()
    gpu_memory.give_back()


def leave(monkeypatch, room: int) -> None:
    """Let this process take so many more bytes of the GPU than it has."""
    gc.collect()
    gpu_memory.give_back()
    limit = torch.cuda.memory_reserved(GPU) + room
    monkeypatch.setenv(LIMIT_VARIABLE, repr(limit / 2**30))
    limit_gpu_memory(GPU)


def refined(body, estimator, clip):
    start, view = clip
    return refine(Clip(start, [view]), body=body, estimator=estimator, settings=QUICK).found


@pytest.mark.gpu
def test_a_refinement_under_a_small_limit_halves_its_looks_and_finds_the_same(
    free_body, gpu_body, monkeypatch, caplog
):
    clip = made.filmed_clip(free_body, 3, FRAMES)
    roomy, narrow = Hungry(), Hungry()
    expected = refined(gpu_body, roomy, clip)
    assert set(roomy.answered) == {FRAMES}
    leave(monkeypatch, FRAME_BYTES * FRAMES * 3 // 4)
    with caplog.at_level(logging.WARNING):
        found = refined(gpu_body, narrow, clip)
    assert FRAMES in narrow.asked
    assert max(narrow.answered) < FRAMES
    assert sum(narrow.answered) == sum(roomy.answered)  # each frame is looked at as often
    assert "does not hold so many frames: 4 at once" in caplog.text
    away = made.vertex_error_mm(free_body, found, expected).mean()
    moved = made.vertex_error_mm(free_body, expected, clip[0]).mean()
    print(f"apart {away:.3g} mm, moved {moved:.3g} mm")  # noqa: T201
    assert away < 0.1 * moved


@pytest.mark.gpu
def test_one_frame_that_cannot_fit_is_a_sentence_and_the_next_refinement_runs(
    free_body, gpu_body, monkeypatch
):
    clip = made.filmed_clip(free_body, 3, FRAMES)
    huge = Hungry(4 * FRAME_BYTES)
    leave(monkeypatch, 3 * FRAME_BYTES)
    with pytest.raises(torch.cuda.OutOfMemoryError) as refused:
        refined(gpu_body, huge, clip)
    assert is_out_of_memory(refused.value)
    assert huge.asked == [8, 4, 2, 1]
    assert huge.answered == []
    del refused
    small = Hungry(FRAME_BYTES // 4)
    assert len(refined(gpu_body, small, clip)) == FRAMES  # under the same limit
    assert sum(small.answered) % FRAMES == 0  # by halves, where recordings take the rest


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["net-large", "net-fast"])
def test_a_network_under_a_limit_that_it_breaks_looks_at_fewer_frames(
    free_body, gpu_body, monkeypatch, caplog, name
):
    """Without an artificial appetite: half of what the real network takes for 32 frames."""
    frames = range(32)
    start, view = made.filmed_clip(free_body, 3, len(frames))
    parameters = parameters_of_sequence(start, gpu_body)
    pictures = load_pictures(view, frames, pose_body(gpu_body, parameters).vertices)
    observer = Observer(gpu_body, load_estimator(name, "cuda"), crop_size=256)

    def figures():
        with torch.no_grad():
            return observer.look(pictures, frames, parameters, lambda frames: None).figures

    gpu_memory.give_back()
    before = torch.cuda.memory_allocated(GPU)
    torch.cuda.reset_peak_memory_stats(GPU)
    expected = figures()
    taken = torch.cuda.max_memory_allocated(GPU) - before
    print(f"{name}: {taken / 2**20:.0f} MiB for {len(frames)} frames")  # noqa: T201
    leave(monkeypatch, taken // 2)
    with caplog.at_level(logging.WARNING):
        found = figures()
    assert "does not hold so many frames: 16 at once" in caplog.text
    for one in ("error_m", "seen_share"):
        torch.testing.assert_close(
            getattr(found, one), getattr(expected, one), atol=0.002, rtol=0.05
        )


@pytest.mark.gpu
def test_a_limit_is_never_passed_whatever_is_asked_for(gpu_body, monkeypatch):
    leave(monkeypatch, 2**30)
    limit = usable_memory(GPU)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(2 * 2**30, dtype=torch.uint8, device=GPU)
    kept = [torch.empty(2**28, dtype=torch.uint8, device=GPU) for _ in range(3)]
    assert torch.cuda.memory_reserved(GPU) <= limit
    del kept


@pytest.mark.gpu
def test_what_recordings_keep_is_given_back_each_time(free_body, gpu_body):
    clip = made.filmed_clip(free_body, 3, FRAMES)
    after = []
    for _ in range(3):
        for _ in range(3):  # the second one records, the third replays
            refined(gpu_body, made.SoftMatcher(), clip)
        gc.collect()
        kept, free = torch.cuda.memory_reserved(GPU), torch.cuda.mem_get_info(GPU)[0]
        gpu_memory.give_back()
        after.append(torch.cuda.memory_reserved(GPU))
        freed = torch.cuda.mem_get_info(GPU)[0] - free
        print(f"{kept >> 20} MiB kept, {after[-1] >> 20} after, {freed >> 20} freed")  # noqa: T201
        assert after[-1] < kept
        assert freed > 0
    assert after[2] - after[1] <= 2 * 2**20  # one block of torch's
