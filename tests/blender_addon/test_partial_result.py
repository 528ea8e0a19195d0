# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frames a provisional revision has solved, and those frames alone."""

import numpy as np
from blender_addon.jobs.partial_result import finished_rows, only_rows
from scene_makers import random_sequence

from posefit_shared.messages import RefineResult


def revision(motion, **changes):
    count = len(motion)
    fields = {
        "frame_indices": motion.frame_indices,
        "poses": motion.poses.copy(),
        "trans": motion.trans.copy(),
        "betas": motion.betas,
        "confidence": np.arange(count * 24, dtype=np.float32).reshape(count, 24) / 1000,
        "status": ("kept",) * count,
    }
    return RefineResult(**(fields | changes))


def test_frames_that_came_back_as_they_were_sent_are_not_done(rng):
    motion = random_sequence(rng, count=5)
    poses, trans = motion.poses.copy(), motion.trans.copy()
    poses[1, 7, 2] += 0.01
    trans[3, 0] += 0.01
    found = revision(motion, poses=poses, trans=trans)
    rows = finished_rows(motion, found)
    assert rows.tolist() == [1, 3]
    part = only_rows(motion, found, rows)
    assert part.frame_indices.tolist() == [1, 3]
    assert np.array_equal(part.poses, poses[[1, 3]])
    assert np.array_equal(part.trans, trans[[1, 3]])
    assert np.array_equal(part.confidence, found.confidence[[1, 3]])
    assert part.status == ("refined", "refined")


def test_a_revision_may_hold_a_part_of_the_frames(rng):
    motion = random_sequence(rng, count=5, frame_indices=np.arange(10, 15))
    part = motion.slice(2, 4)
    found = revision(part, poses=part.poses + np.float32(0.1))
    rows = finished_rows(motion, found)
    assert rows.tolist() == [2, 3]
    assert only_rows(motion, found, rows).frame_indices.tolist() == [12, 13]


def test_a_revision_for_other_frames_holds_nothing(rng):
    motion = random_sequence(rng, count=3)
    moved = motion.poses + np.float32(0.1)
    other = revision(motion, poses=moved, frame_indices=motion.frame_indices + 1)
    assert not len(finished_rows(motion, other))
    backwards = revision(motion, poses=moved, frame_indices=motion.frame_indices[::-1].copy())
    assert not len(finished_rows(motion, backwards))


def test_one_picture_shown_at_several_frames_is_told_apart_by_its_place(rng):
    motion = random_sequence(rng, count=3, frame_indices=np.zeros(3, int))
    found = revision(motion, poses=motion.poses + np.float32([0, 0.1, 0])[:, None, None])
    rows = finished_rows(motion, found)
    assert rows.tolist() == [1]
    assert len(only_rows(motion, found, rows).poses) == 1
