# SPDX-License-Identifier: Apache-2.0
"""A motion that was not shot with the footage is brought over the person: when, turned, where."""

import numpy as np
import pytest

from posefit.alignment import AlignmentError, SeenLandmarks, align_motion
from posefit_shared import frames, rotations

FIRST = 40
"""Scene frame of the motion's first row."""
OFFSET = 23
TURN, SHIFT = np.radians(140.0), np.array([1.7, -2.4, 0.3])


def walk(rng, count=200, landmarks=20):
    """(T, L, 3) a cloud of points as tall as a person that walks a curve and waves."""
    rest = rng.normal(size=(landmarks, 3)) * (0.15, 0.15, 0.45) + (0, 0, 1.0)
    time = np.arange(count)[:, None] / 30
    speeds = rng.uniform(0.2, 1.4, size=(landmarks, 3))
    waves = 0.2 * np.sin(time[..., None] * speeds * 3 + rng.uniform(0, 6, size=(landmarks, 3)))
    path = np.stack([np.sin(time[:, 0] * 0.4), 0.3 * time[:, 0], 0 * time[:, 0]], -1)
    return rest + waves + path[:, None]


def seen_by_camera(points, scene_frames, rng, noise=0.0, wrong=0.0) -> SeenLandmarks:
    """What a detector sees of placed points through a camera that pans."""
    turns = rotations.rotvec_to_matrix(np.linspace(0, 0.2, len(points))[:, None] * (0.0, 1.0, 0.0))
    level = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    world_to_camera = np.tile(np.eye(4), (len(points), 1, 1))
    world_to_camera[:, :3, :3] = turns @ level
    world_to_camera[:, :3, 3] = (0.2, 1.2, 6.0)
    placed = np.stack([frames.apply(m, p) for m, p in zip(world_to_camera, points, strict=True)])
    rays = placed[..., :2] / placed[..., 2:]
    heights = np.ptp(rays[..., 1], axis=1)
    rays = rays + rng.normal(size=rays.shape) * noise * heights[:, None, None]
    is_wrong = rng.random(rays.shape[:2]) < wrong
    rays[is_wrong] += 0.3
    return SeenLandmarks(scene_frames, rays, np.ones(rays.shape[:2]), heights, world_to_camera)


@pytest.fixture
def scene():
    """A motion, and what pictures show of it elsewhere, later and turned."""
    rng = np.random.default_rng(5)
    points = walk(rng)
    true = np.eye(4)
    true[:3, :3] = rotations.rotvec_to_matrix([0, 0, TURN])
    true[:3, 3] = SHIFT
    scene_frames = np.arange(90, 230, 3)
    rows = scene_frames - OFFSET - FIRST
    return points, true, frames.apply(true, points[rows]), scene_frames, rng


def test_offset_turn_and_place_come_back_from_what_a_poor_detector_sees(scene) -> None:
    points, true, placed, scene_frames, rng = scene
    seen = seen_by_camera(placed, scene_frames, rng, noise=0.02, wrong=0.1)
    found = align_motion(points, FIRST, seen, search=60)
    assert found.offset == OFFSET
    assert found.is_offset_clear
    assert found.turn_deg == pytest.approx(np.degrees(TURN), abs=1.0)
    error = frames.apply(found.transform, points[60]) - frames.apply(true, points[60])
    assert np.linalg.norm(error, axis=-1).max() < 0.06
    assert found.misfit < 0.04


def test_without_noise_it_is_exact_and_an_offset_that_is_given_is_kept(scene) -> None:
    points, true, placed, scene_frames, rng = scene
    seen = seen_by_camera(placed, scene_frames, rng)
    found = align_motion(points, FIRST, seen, offset=OFFSET)
    assert found.transform == pytest.approx(true, abs=1e-4)
    other = align_motion(points, FIRST, seen, offset=OFFSET + 2)
    assert other.offset == OFFSET + 2


def test_a_person_who_stands_still_leaves_the_offset_open(scene) -> None:
    points, true, _, scene_frames, rng = scene
    still = np.repeat(points[:1], len(points), axis=0)
    placed = frames.apply(true, still[: len(scene_frames)])
    found = align_motion(still, FIRST, seen_by_camera(placed, scene_frames, rng), search=30)
    assert not found.is_offset_clear
    assert found.offset == 0


def test_another_motion_and_another_time_are_refused_in_words(scene) -> None:
    points, _, placed, scene_frames, rng = scene
    seen = seen_by_camera(placed, scene_frames, rng)
    with pytest.raises(AlignmentError, match="search further in time"):
        align_motion(points, FIRST + 5000, seen, search=10)
    scattered = rng.normal(size=points.shape)
    with pytest.raises(AlignmentError, match="nothing fits"):
        align_motion(scattered, FIRST, seen)
