# SPDX-License-Identifier: Apache-2.0
"""A backend refines as this process does: the same numbers, by path and by upload."""

import subprocess
import sys
import time

import numpy as np
import pytest
import synthetic_clip as made
from PIL import Image

from posefit.cli import main
from posefit_shared.sequence import read_sequence, write_sequence

FRAMES = 3
HOW = ("--displacement", "net", "--no-keypoints", "--rounds", "1", "--crop-size", "128")


@pytest.fixture(scope="module")
def clip(free_body, tmp_path_factory):
    """A sequence and its frames in a folder of their own."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(2)
    truth = made.true_sequence(free_body, FRAMES, rng)
    footage = made.filmed(free_body, truth)
    (folder / "frames").mkdir()
    for k in range(FRAMES):
        Image.fromarray(footage.read(k)).save(folder / "frames" / f"{k:03d}.png")
    write_sequence(folder / "start.npz", made.disturbed(truth, rng, angle=0.05, shift_m=0.01))
    return folder


@pytest.fixture(scope="module")
def address(clip, tmp_path_factory):
    """A real backend that may open the clip's folder."""
    ready = tmp_path_factory.mktemp("backend") / "address"
    process = subprocess.Popen(
        [sys.executable, "-m", "posefit", "serve", "--bind", "tcp://127.0.0.1:0", "--media-root",
         str(clip), "--device", "cpu", "--ready-file", str(ready), "--exit-with-stdin",
         "--no-standby"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (ready.is_file() and ready.read_text().strip()):
        assert process.poll() is None, "the backend ended before it listened"
        assert time.monotonic() < deadline, "the backend did not listen within a minute"
        time.sleep(0.05)
    yield ready.read_text().strip()
    process.stdin.close()
    assert process.wait(30) is not None


def refined(clip, output, *more: str):
    words = ["refine", "--sequence", str(clip / "start.npz"), "--frames", str(clip / "frames"),
             "--output", str(output), *HOW, *more]  # fmt: skip
    assert main(words) == 0
    return read_sequence(output)


def test_a_backend_gives_the_same_numbers_as_this_process(clip, address, tmp_path):
    here = refined(clip, tmp_path / "here.npz", "--device", "cpu")
    there = refined(clip, tmp_path / "there.npz", "--server", address)
    start = read_sequence(clip / "start.npz")
    assert np.abs(here.poses - start.poses).max() > 1e-4
    np.testing.assert_allclose(there.poses, here.poses, atol=1e-5)
    np.testing.assert_allclose(there.trans, here.trans, atol=1e-5)
    np.testing.assert_allclose(there.confidence, here.confidence, atol=1e-4)
    assert there.status == here.status


def test_a_backend_sends_the_camera_that_it_found(clip, address, tmp_path):
    there = refined(clip, tmp_path / "c.npz", "--server", address, "--refine-focal", "clip")
    start = read_sequence(clip / "start.npz")
    if "refined" in there.status:
        assert there.intrinsics[0, 0] != start.intrinsics[0, 0]
        assert there.distortion.shape == (5,)
    np.testing.assert_array_equal(there.intrinsics[:2, 2], start.intrinsics[:2, 2])
