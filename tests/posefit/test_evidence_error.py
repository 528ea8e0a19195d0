# SPDX-License-Identifier: Apache-2.0
"""How wrong an input is, by what was seen of it."""

import dataclasses

import numpy as np
import pytest
import synthetic_clip as made
import torch

from posefit.body import pose_body
from posefit.parameters import parameters_of_sequence
from posefit.refinement.evidence_error import evidence_error_m
from posefit.refinement.pictures import project_points
from posefit.solver import BODY_25, BoneDirections, FacePoints, LandmarkPixels

FRAMES = 3


@pytest.fixture(scope="module")
def scene(free_body):
    truth = made.true_sequence(free_body, FRAMES, np.random.default_rng(3))
    intrinsics = torch.tensor(truth.intrinsics, dtype=torch.float32).expand(FRAMES, 3, 3)
    matrix = torch.tensor(truth.world_to_camera, dtype=torch.float32).expand(FRAMES, 4, 4)
    return parameters_of_sequence(truth, free_body), intrinsics, matrix


def dense(body, parameters, intrinsics, world_to_camera) -> FacePoints:
    """Middles of some faces, seen where they are."""
    corners = body.faces[::600].expand(FRAMES, -1, 3)
    points = pose_body(body, parameters).vertices[:, corners[0]].mean(2)
    pixels = project_points(points, world_to_camera, intrinsics)
    ones = torch.ones(pixels.shape[:2])
    shares = torch.full(corners.shape, 1 / 3)
    return FacePoints(corners, shares, pixels, ones, ones, intrinsics, world_to_camera)


def test_a_body_where_its_points_were_seen_is_right_and_a_shifted_one_is_off_by_the_shift(
    scene, free_body
):
    parameters, intrinsics, matrix = scene
    seen = dense(free_body, parameters, intrinsics, matrix)
    assert evidence_error_m(free_body, parameters, [seen]).max() < 1e-5
    right = matrix[0, 0, :3]  # across the view
    shifted = dataclasses.replace(parameters, transl=parameters.transl + 0.05 * right)
    error = evidence_error_m(free_body, shifted, [seen])
    torch.testing.assert_close(error, torch.full((FRAMES,), 0.05), atol=1e-3, rtol=0)


def test_unseen_points_say_nothing_and_other_evidence_is_not_asked(scene, free_body):
    parameters, intrinsics, matrix = scene
    seen = dense(free_body, parameters, intrinsics, matrix)
    unseen = dataclasses.replace(seen, weights=0 * seen.weights)
    assert evidence_error_m(free_body, parameters, [unseen]).isnan().all()
    count = len(BODY_25.names)
    bones = BoneDirections(
        BODY_25, (("Neck", "MidHip"),), torch.zeros(FRAMES, count, 3), torch.ones(FRAMES, count)
    )
    assert evidence_error_m(free_body, parameters, [bones]) is None


def test_landmarks_and_dense_points_count_by_their_weights(scene, free_body):
    parameters, intrinsics, matrix = scene
    seen = dense(free_body, parameters, intrinsics, matrix)
    far = dataclasses.replace(seen, targets=seen.targets + 1e4, weights=1e-6 * seen.weights)
    assert evidence_error_m(free_body, parameters, [seen, far]).max() < 1e-3
    count = len(BODY_25.names)
    nowhere = LandmarkPixels(
        BODY_25, torch.zeros(FRAMES, count, 2), torch.ones(FRAMES, count),
        torch.ones(FRAMES, count), intrinsics, matrix,
    )  # fmt: skip
    assert (evidence_error_m(free_body, parameters, [seen, nowhere]) > 0.1).all()
