# SPDX-License-Identifier: GPL-3.0-or-later
"""Motions moved rigidly: the posed surface goes where the transform takes it."""

import numpy as np
import pytest
from blender_addon.sequences.sequence_placing import moved, seen_from
from scene_makers import camera_fields, random_sequence, skin

from posefit_shared import frames, rotations
from posefit_shared.sequence import SequenceError


@pytest.fixture
def rest_pelvis(body):
    return (body.J_regressor @ body.v_template)[0].astype(float)


def test_the_surface_goes_along(rng, body, rest_pelvis):
    motion = random_sequence(rng, count=2)
    turns = np.tile(np.eye(4), (2, 1, 1))
    turns[:, :3, :3] = rotations.rotvec_to_matrix(rng.normal(size=(2, 3)))
    turns[:, :3, 3] = rng.normal(size=(2, 3))
    there = moved(motion, turns, rest_pelvis)
    for t in range(2):
        before = skin(body, motion.betas, motion.poses[t], motion.trans[t])
        after = skin(body, there.betas, there.poses[t], there.trans[t])
        assert np.abs(after - frames.apply(turns[t], before)).max() < 1e-5


def test_another_camera_sees_the_same(rng, body, rest_pelvis):
    motion = random_sequence(rng, count=3, **camera_fields(rng))
    other = camera_fields(rng, 3, moving=True)["world_to_camera"]
    there = seen_from(motion, other, rest_pelvis)
    for t in range(3):
        before = skin(body, motion.betas, motion.poses[t], motion.trans[t])
        after = skin(body, there.betas, there.poses[t], there.trans[t])
        seen = frames.apply(motion.world_to_camera, before)
        assert np.abs(frames.apply(other[t], after) - seen).max() < 1e-5
    with pytest.raises(SequenceError, match="without a camera"):
        seen_from(random_sequence(rng, count=3), other, rest_pelvis)
