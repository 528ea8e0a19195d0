# SPDX-License-Identifier: Apache-2.0
"""Joint limits hold, whatever the evidence says."""

import dataclasses
import math

import pytest
import torch

from posefit.body import PoseParameters, pose_body
from posefit.solver import LandmarkPositions, SolverConfig, joint_table, solve
from posefit.solver.pose_prior import load_pose_prior

POSES = 12


def excess_degrees(prior, body_pose):
    """How far each pose is beyond its joints' limits."""
    judged = body_pose[:, : prior.joint_count]
    inside = torch.minimum(torch.maximum(judged, prior.lower), prior.upper)
    return (judged - inside).abs().amax((1, 2)) * 180.0 / math.pi


@pytest.mark.parametrize(
    ("scale_m", "robust_factor", "most_degrees"), [(0.02, 4.0, 4.0), (0.02, 40.0, 8.0)]
)
def test_wrong_targets_do_not_bend_joints_beyond_their_limits(
    free_body, scale_m, robust_factor, most_degrees
):
    generator = torch.Generator().manual_seed(0)
    prior = load_pose_prior(free_body.joint_names, "cpu", torch.float32)
    start = PoseParameters(
        torch.zeros(POSES, 10),
        torch.zeros(POSES, 3),
        prior.mean_pose.expand(POSES, 23, 3).contiguous(),
        torch.zeros(POSES, 3),
    )
    impossible = start.body_pose + 0.9 * torch.randn(POSES, 23, 3, generator=generator)
    impossible[::3, 3, 0] = -1.2  # a knee that bends forwards
    joints = pose_body(free_body, dataclasses.replace(start, body_pose=impossible)).joints
    assert excess_degrees(prior, impossible).min() > 20
    evidence = LandmarkPositions(
        joint_table(free_body.joint_names),
        joints,
        torch.ones(POSES, 24),
        torch.full((POSES, 24), scale_m),
        robust_factor=robust_factor,
    )
    config = SolverConfig(shape="fixed", max_iterations=25)
    found = solve(free_body, start, [evidence], config).parameters
    assert excess_degrees(prior, found.body_pose).max() < most_degrees
