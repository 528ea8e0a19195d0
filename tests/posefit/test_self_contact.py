# SPDX-License-Identifier: Apache-2.0
"""Capsules around bones: limbs do not go deeper into the body than they did."""

import dataclasses
import math

import pytest
import torch

from posefit.body import PoseParameters, pose_body
from posefit.solver import LandmarkPositions, SolverConfig, joint_table, solve
from posefit.solver.self_contact import body_capsules, overlaps, self_penetration_term
from posefit.solver.skeleton import SkeletonModel, pose_skeleton, retract, state_from_parameters


def posed(arm=0.0, elbow=0.0, frames=2, dtype=torch.float32):
    """A body whose right arm hangs (negative `arm` presses it through the trunk)."""
    pose = torch.zeros(frames, 23, 3, dtype=dtype)
    pose[:, 15, 2] = -1.2
    pose[:, 16, 2] = 1.2 + arm
    pose[:, 18, 1] = elbow
    zero = torch.zeros(frames, 3, dtype=dtype)
    return PoseParameters(torch.zeros(frames, 10, dtype=dtype), zero, pose, zero)


def deepest(body, parameters):
    return overlaps(body_capsules(body), pose_body(body, parameters).joints).amax(1)


def test_capsules_are_as_thick_as_limbs(free_body):
    radii = body_capsules(free_body).radii
    assert ((radii > 0.015) & (radii < 0.2)).all()
    assert radii[0] > 2 * radii[4]  # trunk and forearm


def test_a_standing_body_hardly_overlaps_and_an_arm_in_the_trunk_does(free_body):
    assert deepest(free_body, posed()).max() < 0.01
    assert deepest(free_body, posed(arm=0.7)).min() > 0.05


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_target_inside_the_trunk_is_not_followed(free_body, weight):
    start, wrong = posed(), posed(arm=0.7)
    joints = pose_body(free_body, wrong).joints
    scales = torch.full(joints.shape[:2], 0.03)
    evidence = LandmarkPositions(
        joint_table(free_body.joint_names), joints, torch.ones_like(scales), scales,
        robust_factor=20.0,
    )  # fmt: skip
    config = SolverConfig(
        shape="fixed", limit_weight=0.0, self_penetration_weight=weight, max_iterations=20
    )
    found = solve(free_body, start, [evidence], config, reference=start).parameters
    depth = deepest(free_body, found).max()
    assert (depth < 0.02) if weight else (depth > 0.04)


def test_an_overlap_of_the_reference_may_stay(free_body):
    start = posed(arm=0.7)
    config = SolverConfig(shape="fixed", limit_weight=0.0)
    evidence = LandmarkPositions(
        joint_table(free_body.joint_names),
        pose_body(free_body, start).joints,
        torch.ones(2, 24),
        torch.full((2, 24), 0.03),
    )
    found = solve(free_body, start, [evidence], config, reference=start).parameters
    torch.testing.assert_close(found.body_pose, start.body_pose, atol=1e-4, rtol=0)


def test_self_penetration_gives_the_gradient_of_its_cost(free_body):
    body = free_body.to(dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    start = posed(arm=0.6, elbow=0.3, dtype=torch.float64)
    jitter = 0.1 * torch.randn(2, 23, 3, generator=generator, dtype=torch.float64)
    state = state_from_parameters(dataclasses.replace(start, body_pose=start.body_pose + jitter))
    model = SkeletonModel.from_body(body, 10, torch.float64)
    capsules = body_capsules(body)
    allowed = torch.zeros(2, len(capsules.pairs), dtype=torch.float64)
    skeleton = pose_skeleton(model, state)
    term = self_penetration_term(skeleton, capsules, allowed, 100.0)
    assert (term.residual > 0).any()
    step = 1e-6 * torch.randn(2, 85, generator=generator, dtype=torch.float64)

    def cost(sign):
        turns, place, betas = step[:, :72].unflatten(1, (24, 3)), step[:, 72:75], step[:, 75:]
        moved = retract(state, skeleton.parent_rotations, sign * turns, sign * place, sign * betas)
        there = pose_skeleton(model, moved)
        return self_penetration_term(there, capsules, allowed, 100.0).cost.sum()

    slope = 2.0 * torch.einsum("bpr,br,bp->", term.jacobian, term.residual, step)
    torch.testing.assert_close(slope, (cost(1.0) - cost(-1.0)) / 2, rtol=1e-4, atol=1e-10)
    assert math.isfinite(float(slope))
