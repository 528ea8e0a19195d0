# SPDX-License-Identifier: Apache-2.0
"""What was done of a refinement is not done again, and the numbers are the same to the bit."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic_clip as made

from posefit.batch.chunks import Chunk, chunks_of_windows
from posefit.pipeline import Clip, Hooks, refine, refine_windows
from posefit.records import RecordFolder
from posefit.refinement.checkpoint import Checkpoint
from posefit.refinement.windows import split_windows
from posefit.views import view_of_sequence
from posefit_shared.settings import RefineSettings

FRAMES = 12
SETTINGS = RefineSettings(
    crop_size=64, rounds=1, solver_iterations=2, window_frames=6, window_overlap=2
)


class StopError(Exception):
    """As if the process had been killed."""


@pytest.fixture(scope="module")
def scene(free_body):
    rng = np.random.default_rng(3)
    truth = made.true_sequence(free_body, FRAMES, rng)
    return made.disturbed(truth, rng), made.filmed(free_body, truth)


@pytest.fixture
def options(free_body):
    return {"body": free_body, "estimator": made.ColorMatcher(), "settings": SETTINGS}


@pytest.fixture(scope="module")
def whole(scene, free_body):
    clip = Clip(scene[0], [view_of_sequence(*scene)])
    return refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=SETTINGS)


def assert_same(found, expected):
    for name in ("poses", "trans", "betas", "confidence"):
        values = getattr(expected.sequence, name)
        np.testing.assert_array_equal(getattr(found.sequence, name), values, err_msg=name)
    assert found.sequence.status == expected.sequence.status


def reads_of(clip, monkeypatch):
    """Frames that are decoded from now on."""
    read, frames = clip.views[0].footage.read, []
    monkeypatch.setattr(
        clip.views[0].footage, "read", lambda frame: frames.append(frame) or read(frame)
    )
    return frames


def test_a_refinement_that_was_broken_off_goes_on_after_its_last_window(
    scene, whole, options, tmp_path, monkeypatch
):
    clip = Clip(scene[0], [view_of_sequence(*scene)])

    def stop(fraction, stage):
        if fraction > 0.5:
            raise StopError

    with pytest.raises(StopError):
        refine(
            clip, **options, hooks=Hooks(progress=stop), checkpoint=Checkpoint(
                RecordFolder(tmp_path / "kept"))
        )  # fmt: skip
    kept = RecordFolder(tmp_path / "kept")
    assert sorted(kept) == ["shared", "window-0", "window-1"]
    frames = reads_of(clip, monkeypatch)
    assert_same(refine(clip, **options, checkpoint=Checkpoint(kept)), whole)
    assert set(frames) == {8, 9, 10, 11}


def test_windows_may_be_done_in_any_order_by_different_hands(scene, whole, options, monkeypatch):
    clip = Clip(scene[0], [view_of_sequence(*scene)])
    shared: dict = {}
    refine_windows(clip, (), Checkpoint(shared), **options)
    assert sorted(shared) == ["shared"]
    parts = []
    for windows in ((2, 1), (0,)):
        mine = dict(shared)
        refine_windows(clip, windows, Checkpoint(mine), **options)
        parts.append(mine)
    frames = reads_of(clip, monkeypatch)
    assert_same(refine(clip, **options, checkpoint=Checkpoint({**parts[0], **parts[1]})), whole)
    assert frames == []


def test_a_record_that_is_broken_is_made_again(scene, whole, options, tmp_path):
    clip = Clip(scene[0], [view_of_sequence(*scene)])
    refine_windows(clip, (0, 2), Checkpoint(RecordFolder(tmp_path)), **options)
    file = tmp_path / "window-2.npz"
    file.write_bytes(file.read_bytes()[:300])
    kept = RecordFolder(tmp_path)
    assert "window-2" not in kept
    assert "window-0" in kept
    assert_same(refine(clip, **options, checkpoint=Checkpoint(kept)), whole)


def test_one_window_finds_the_clips_shape_and_its_record_says_so(scene, options, free_body):
    settings = replace(SETTINGS, window_frames=32)
    options = {**options, "settings": settings}
    clip = Clip(scene[0], [view_of_sequence(*scene)])
    kept: dict = {}
    first = refine(clip, **options, checkpoint=Checkpoint(kept))
    assert np.abs(first.sequence.betas - scene[0].betas).max() > 1e-4
    assert_same(refine(clip, **options, checkpoint=Checkpoint(kept)), first)


def test_parts_are_even_and_cover_all_windows():
    windows = split_windows(1000, 128, 16)
    assert len(windows) == 9
    parts = [chunk.windows for chunk in chunks_of_windows(1, windows, 300)]
    assert parts == [(0, 1), (2, 3), (4,), (5, 6), (7, 8)]
    assert chunks_of_windows(1, windows, 500)[0] == Chunk(1, (0, 1, 2))
    assert len(chunks_of_windows(0, windows, 2000)) == 1
    assert len(chunks_of_windows(0, windows, 1)) == 9
