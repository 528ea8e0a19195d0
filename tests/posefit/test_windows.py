# SPDX-License-Identifier: Apache-2.0
"""Windows: every frame is covered, and joining pieces of one motion gives that motion back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posefit.refinement.windows import Window, blend_poses, join_windows, split_windows


@given(st.integers(1, 700), st.integers(5, 200), st.integers(0, 4))
def test_windows_cover_every_frame_and_share_what_was_asked(frames, window, overlap):
    windows = split_windows(frames, window, overlap)
    assert windows[0].start == 0
    assert windows[-1].stop == frames
    for before, after in zip(windows, windows[1:], strict=False):
        assert before.stop - after.start == overlap
        assert overlap < len(after) <= window


def test_a_short_clip_is_one_window():
    assert split_windows(100, 128, 16) == [Window(0, 100)]


def test_pieces_of_one_motion_join_to_that_motion():
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(300, 24, 3)).astype(np.float32) * 0.5
    trans = rng.normal(size=(300, 3)).astype(np.float32)
    windows = split_windows(300, 128, 16)
    joined = join_windows(windows, [(poses[w.start : w.stop], trans[w.start : w.stop])
                                    for w in windows])  # fmt: skip
    np.testing.assert_allclose(joined[0], poses, atol=1e-5)
    np.testing.assert_allclose(joined[1], trans, atol=1e-6)


def test_pieces_that_disagree_are_crossed_over_without_a_jump():
    windows = split_windows(40, 25, 10)
    still = np.zeros((25, 24, 3), np.float32)
    turned = still.copy()
    turned[:, 3, 2] = 1.0
    poses, trans = join_windows(
        windows, [(still, np.zeros((25, 3), np.float32)), (turned, np.ones((25, 3), np.float32))]
    )
    assert len(poses) == 40
    steps = np.diff(poses[:, 3, 2])
    assert steps.max() == pytest.approx(1 / 11, abs=1e-4)
    assert (steps >= -1e-6).all()
    assert trans[14, 0] == 0
    assert trans[25, 0] == 1


def test_half_way_between_two_poses_is_half_the_turn():
    half = blend_poses([0.0, 0, 0], [0, 0, 1.0], 0.5)
    np.testing.assert_allclose(half, [0, 0, 0.5], atol=1e-6)
