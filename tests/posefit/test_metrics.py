# SPDX-License-Identifier: Apache-2.0
"""Metrics on figures worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posefit import metrics
from posefit_shared.rotations import rotvec_to_matrix

finite = st.floats(-2, 2)


@given(st.tuples(finite, finite, finite), st.floats(0.2, 4), st.integers(0, 1000))
def test_alignment_removes_any_turn_size_and_place(turn, scale, seed) -> None:
    target = np.random.default_rng(seed).normal(size=(2, 8, 3))
    moved = scale * target @ rotvec_to_matrix(np.array(turn)).T + 3.0
    np.testing.assert_allclose(metrics.align_similarity(moved, target), target, atol=1e-7)


def test_alignment_does_not_mirror() -> None:
    target = np.random.default_rng(0).normal(size=(1, 8, 3))
    mirrored = target * [-1, 1, 1]
    aligned = metrics.align_similarity(mirrored, target)
    assert metrics.mean_distance(aligned, target)[0] > 0.3


def test_the_acceleration_of_a_throw_is_gravity() -> None:
    times = np.array([0.0, 0.1, 0.25, 0.3, 0.5])
    height = 2.0 + 3.0 * times - 4.905 * times**2
    points = np.stack([0 * times, 0 * times, height], -1)[:, None]
    np.testing.assert_allclose(metrics.second_difference(points, times)[:, 0, 2], -9.81)


def test_a_jitter_of_one_frame_counts_as_four_times_its_size_per_frame_squared() -> None:
    times = np.arange(5) / 10
    still = np.zeros((5, 1, 3))
    jittered = still.copy()
    jittered[2, 0, 0] = 0.01
    error = metrics.acceleration_error(jittered, still, times)
    np.testing.assert_allclose(error, [1.0, 2.0, 1.0])


def test_only_a_standing_foot_can_slide() -> None:
    feet = np.zeros((4, 2, 3))
    feet[:, 0, 0] = [0, 0.01, 0.01, 0.01]
    feet[:, 1, 1] = [0, 1, 2, 3]
    feet[:, 1, 2] = 5.0
    standing = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)
    speed = metrics.slide_speed(feet, standing, np.arange(4) / 10)
    np.testing.assert_allclose(speed, [0.1, 0.0, np.nan])


def test_lifting_a_foot_is_no_slide() -> None:
    feet = np.zeros((2, 1, 3))
    feet[1, 0, 2] = 0.3
    assert metrics.slide_speed(feet, np.ones((2, 1), bool), [0, 0.1])[0] == 0


def test_overlap_of_two_half_covered_masks_is_a_third() -> None:
    first, second = np.zeros((2, 4, 6), bool)
    first[:, :4] = second[:, 2:] = True
    assert metrics.intersection_over_union(first, second) == pytest.approx(1 / 3)
    assert metrics.intersection_over_union(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0


def test_blocks_that_agree_inside_and_differ_between_give_a_wide_interval() -> None:
    frames = np.arange(40)
    between = np.repeat([0.0, 10.0, 0.0, 10.0], 10)
    inside = np.tile([0.0, 10.0], 20)
    wide = metrics.block_bootstrap(between, frames, block=10)
    narrow = metrics.block_bootstrap(inside, frames, block=10)
    assert (wide.mean, wide.blocks) == (5.0, 4)
    assert wide.low == 0
    assert wide.high == 10
    assert (narrow.low, narrow.high) == (5.0, 5.0)


def test_nothing_to_draw_from_gives_no_number() -> None:
    empty = metrics.block_bootstrap([np.nan], [0])
    assert np.isnan(empty.mean)
    assert empty.blocks == 0
