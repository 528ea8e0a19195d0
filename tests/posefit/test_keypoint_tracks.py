# SPDX-License-Identifier: Apache-2.0
"""Tracks of landmarks: sides hold still, and leaps are doubted."""

import dataclasses

import numpy as np
import pytest

from posefit.keypoints.blazepose import LANDMARK_NAMES
from posefit.keypoints.sides import mend_sides
from posefit.keypoints.steadiness import doubt_jumps
from posefit.keypoints.tracks import Keypoints

FRAMES = 30


def walking(rng: np.random.Generator) -> Keypoints:
    """Landmarks that sway by a few pixels a frame, left ones apart from right ones."""
    sides = np.array(
        [1.0 if "left" in n else -1.0 if "right" in n else 0.0 for n in LANDMARK_NAMES]
    )
    pixels = rng.uniform(0, 300, (33, 2))[None] + np.zeros((FRAMES, 1, 1))
    pixels[..., 0] += 60 * sides
    pixels += 20 * np.sin(np.arange(FRAMES) / 5)[:, None, None]
    world = rng.normal(size=(FRAMES, 33, 3)) * 0.3
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    return Keypoints(
        frame_indices=np.arange(FRAMES),
        pixels=pixels.astype(np.float32),
        confidence=np.full((FRAMES, 33), 0.9, np.float32),
        world=world.astype(np.float32),
        person_box=np.concatenate([low, high], axis=1).astype(np.float32),
        found=np.ones(FRAMES, bool),
    )


def mirrored(keypoints: Keypoints, frames: slice) -> Keypoints:
    """As a detector sees it that takes front for back: sides traded, depth inside out."""
    partner = [
        LANDMARK_NAMES.index(n.replace("left", "?").replace("right", "left").replace("?", "right"))
        for n in LANDMARK_NAMES
    ]
    pixels, world = keypoints.pixels.copy(), keypoints.world.copy()
    pixels[frames] = pixels[frames][:, partner]
    world[frames] = world[frames][:, partner] * [1, 1, -1]
    return dataclasses.replace(keypoints, pixels=pixels, world=world.astype(np.float32))


def test_sides_that_trade_places_for_a_while_are_traded_back(rng) -> None:
    truth = walking(rng)
    mended = mend_sides(mirrored(truth, slice(8, 19)))
    np.testing.assert_array_equal(mended.pixels, truth.pixels)
    np.testing.assert_allclose(mended.world, truth.world)


def test_the_reading_of_most_frames_stands(rng) -> None:
    truth = walking(rng)
    wrong = mirrored(truth, slice(0, 22))
    np.testing.assert_array_equal(mend_sides(wrong).pixels, mirrored(truth, slice(0, 30)).pixels)


def test_sides_that_hold_still_are_left_alone(rng) -> None:
    truth = walking(rng)
    np.testing.assert_array_equal(mend_sides(truth).pixels, truth.pixels)


def test_a_cut_in_the_footage_trades_no_sides(rng) -> None:
    truth = walking(rng)
    pixels = truth.pixels.copy()
    pixels[15:, :, 0] = 900 - pixels[15:, :, 0]
    cut = dataclasses.replace(truth, pixels=pixels)
    np.testing.assert_array_equal(mend_sides(cut).pixels, pixels)


def test_frames_without_the_person_are_skipped(rng) -> None:
    truth = walking(rng)
    found = truth.found.copy()
    found[9:12] = False
    wrong = dataclasses.replace(mirrored(truth, slice(12, 16)), found=found)
    mended = mend_sides(wrong)
    np.testing.assert_array_equal(mended.pixels[12:16], truth.pixels[12:16])
    nobody = dataclasses.replace(truth, found=np.zeros(FRAMES, bool))
    assert mend_sides(nobody) is nobody


def test_a_landmark_that_leaps_is_doubted_about_that_time_and_no_other(rng) -> None:
    truth = walking(rng)
    pixels = truth.pixels.copy()
    pixels[15, 28] += 150
    doubted = doubt_jumps(
        dataclasses.replace(truth, pixels=pixels), np.arange(FRAMES) / 60
    ).confidence
    assert (doubted[13:18, 28] < 0.05).all()
    assert (doubted[:8, 28] > 0.85).all()
    assert (np.delete(doubted, 28, axis=1) > 0.85).all()


def test_a_fast_pan_of_the_camera_doubts_nothing(rng) -> None:
    truth = walking(rng)
    pixels = truth.pixels + 80 * np.arange(FRAMES)[:, None, None]
    moved = dataclasses.replace(truth, pixels=pixels.astype(np.float32))
    assert doubt_jumps(moved, np.arange(FRAMES) / 60).confidence.min() > 0.85


def test_doubt_depends_on_speed_and_not_on_the_rate(rng) -> None:
    truth = walking(rng)
    fast = doubt_jumps(truth, np.arange(FRAMES) / 1000).confidence
    slow = doubt_jumps(truth, np.arange(FRAMES) / 25).confidence
    assert fast.mean() <= slow.mean()
    assert slow.mean() == pytest.approx(0.9, abs=0.01)
