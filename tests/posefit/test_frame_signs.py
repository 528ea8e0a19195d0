# SPDX-License-Identifier: Apache-2.0
"""Signs: they say what they are called, and what judges was never told to the solver."""

import dataclasses

import numpy as np
import pytest
import synthetic_clip as made
import torch

from posefit.body import PoseParameters, pose_body
from posefit.parameters import parameters_of_sequence
from posefit.pipeline import Clip, refine
from posefit.refinement.evidence_error import points_error_m
from posefit.refinement.observation import Observer, withheld_patches
from posefit.refinement.pictures import load_pictures, project_points
from posefit.solver import SurfacePoints
from posefit.verdict.signs import change_signs, unusualness
from posefit.views import view_of_sequence
from posefit_shared.settings import RefineSettings

FRAMES = 6


@pytest.fixture(scope="module")
def scene(free_body):
    rng = np.random.default_rng(11)
    truth = made.true_sequence(free_body, FRAMES, rng)
    return truth, made.disturbed(truth, rng), made.filmed(free_body, truth)


def camera_of(sequence) -> tuple[torch.Tensor, torch.Tensor]:
    intrinsics = torch.tensor(sequence.intrinsics, dtype=torch.float32).expand(FRAMES, 3, 3)
    matrix = torch.tensor(sequence.world_to_camera, dtype=torch.float32).expand(FRAMES, 4, 4)
    return intrinsics, matrix


def turned_about(parameters: PoseParameters, joint: int, axis: int, angle: float) -> PoseParameters:
    pose = parameters.body_pose.clone()
    pose[:, joint - 1, axis] += angle
    return dataclasses.replace(parameters, body_pose=pose)


def test_about_a_quarter_of_every_limb_is_withheld(free_body):
    withheld = withheld_patches(free_body)
    assert 0.15 < withheld.float().mean() < 0.35
    strongest = free_body.lbs_weights.argmax(1)
    for joint in (1, 2, 4, 5, 16, 17, 18, 19):
        assert 0.05 < withheld[strongest == joint].float().mean() < 0.6


def test_the_solver_is_never_told_of_what_judges_it(scene, free_body):
    _, start, footage = scene
    view = view_of_sequence(start, footage)
    parameters = parameters_of_sequence(start, free_body)
    vertices = pose_body(free_body, parameters).vertices
    pictures = load_pictures(view, range(FRAMES), vertices)
    observer = Observer(free_body, made.ColorMatcher(), crop_size=128)
    look = observer.look(pictures, list(range(FRAMES)), parameters, lambda frames: None)
    withheld = withheld_patches(free_body)
    for points, expected in ((look.points, False), (look.withheld, True)):
        used = points.vertex_indices[points.weights > 0]
        assert len(used) > 50
        assert (withheld[used] == expected).all()


def test_points_are_as_far_off_as_they_were_moved(scene, free_body):
    truth, *_ = scene
    parameters = parameters_of_sequence(truth, free_body)
    intrinsics, world_to_camera = camera_of(truth)
    index = torch.arange(0, free_body.num_vertices, 97).expand(FRAMES, -1)
    vertices = pose_body(free_body, parameters).vertices[:, index[0]]
    pixels = project_points(vertices, world_to_camera, intrinsics)
    ones = torch.ones(pixels.shape[:2])
    points = SurfacePoints(index, pixels, ones, ones, intrinsics, world_to_camera)
    assert points_error_m(free_body, parameters, [points]).max() < 1e-5
    depth = vertices @ world_to_camera[0, 2, :3] + world_to_camera[0, 2, 3]
    shift = 0.03 * intrinsics[0, 0, 0] / depth
    moved = dataclasses.replace(points, targets=pixels + torch.stack([shift, 0 * shift], -1))
    error = points_error_m(free_body, parameters, [moved, points])
    torch.testing.assert_close(error, torch.full((FRAMES,), 0.015), atol=1e-4, rtol=0)
    unseen = dataclasses.replace(points, weights=0 * ones)
    assert points_error_m(free_body, parameters, [unseen]).isnan().all()


def test_a_turn_in_the_picture_and_one_into_it_are_told_apart(scene, free_body):
    truth, *_ = scene
    given = parameters_of_sequence(truth, free_body)
    _, world_to_camera = camera_of(truth)
    across = turned_about(given, 2, 2, 0.3)  # the right leg sideways
    into = turned_about(given, 2, 0, 0.3)  # the same leg forwards
    (_, in_picture), (size, along) = (
        change_signs(free_body, given, one, [world_to_camera]) for one in (across, into)
    )
    assert in_picture.max() < 0.35
    assert along.min() > 0.65
    assert (size > 0.02).all()


def test_what_a_second_camera_sees_is_no_longer_hidden(scene, free_body):
    truth, *_ = scene
    given = parameters_of_sequence(truth, free_body)
    into = turned_about(given, 2, 0, 0.3)
    cameras = [
        torch.tensor(made.camera(yaw)[1], dtype=torch.float32).expand(FRAMES, 4, 4)
        for yaw in (0.0, np.pi / 2)
    ]
    _, one = change_signs(free_body, given, into, cameras[:1])
    _, both = change_signs(free_body, given, into, cameras)
    assert (both < 0.5 * one).all()


def test_a_knee_bent_forwards_is_unusual(scene, free_body):
    truth, *_ = scene
    given = parameters_of_sequence(truth, free_body)
    broken = turned_about(given, 4, 0, -1.2)
    assert (unusualness(free_body, broken) > 1.3 * unusualness(free_body, given)).all()


def test_a_refinement_has_signs_for_every_frame(scene, free_body):
    """An estimator called a net is judged by the net's gate: held-out points have come nearer."""
    _, start, footage = scene
    matcher = made.ColorMatcher()
    matcher.name = "net"
    clip = Clip(start, [view_of_sequence(start, footage)])
    settings = RefineSettings(crop_size=128, solver_iterations=6)
    signs = refine(clip, body=free_body, estimator=matcher, settings=settings).signs
    assert signs is not None
    for name, values in vars(signs).items():
        assert values.shape == (FRAMES,), name
        assert values.isfinite().all(), name
    assert (signs.withheld_after_m < 0.7 * signs.withheld_before_m).all()
    assert (signs.error_after_m < 0.7 * signs.error_before_m).all()
