# SPDX-License-Identifier: Apache-2.0
"""Contacts: what touches is found, held, and let go of where it was none."""

import dataclasses
import math

import pytest
import torch

from posefit.body import PoseParameters, pose_body, pose_vertices
from posefit.refinement.contacts import contact_points, estimate_ground, find_contacts
from posefit.solver import LandmarkPositions, SolverConfig, joint_table, solve
from posefit.solver.contacts import bind_contacts, contact_band
from posefit.solver.skeleton import SkeletonModel, pose_skeleton, retract, state_from_parameters

FRAMES = 24
TIMES = torch.arange(FRAMES, dtype=torch.float64) / 30.0
LEFT, RIGHT = [0, 1, 2], [3, 4, 5]
GROUND = torch.tensor([0.0, 0.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def walker(free_body):
    """Stands on the left foot while the right one swings forward and up; z up, ground at 0."""
    pose = torch.zeros(FRAMES, 23, 3)
    swing = torch.sin(math.pi * torch.linspace(0, 1, FRAMES))
    pose[:, 1, 0] = -0.9 * swing  # right hip
    pose[:, 4, 0] = 1.2 * swing  # right knee
    upright = torch.tensor([[math.pi / 2, 0.0, 0.0]]).expand(FRAMES, 3)
    walker = PoseParameters(torch.zeros(FRAMES, 10), upright, pose, torch.zeros(FRAMES, 3))
    lowest = pose_body(free_body, walker[:1]).vertices[..., 2].min()
    return dataclasses.replace(
        walker, transl=-lowest * torch.tensor([[0.0, 0.0, 1.0]]).expand(FRAMES, 3)
    )


def soles(body, parameters, contacts):
    return pose_vertices(body, parameters, contacts.vertex_indices)


def test_soles_lie_under_the_feet_of_a_standing_body(free_body, walker):
    points = contact_points(free_body)
    heights = pose_vertices(free_body, walker, points.vertex_indices)[0, :, 2]
    level = points.clearance[points.is_sole]
    torch.testing.assert_close(heights[points.is_sole], level, atol=2e-3, rtol=0)
    assert (heights[points.is_sole] < 0.01).all()
    assert (heights[~points.is_sole] > 1.0).all()  # arms stretched out
    sides = free_body.v_template[points.vertex_indices, 0]
    assert (sides[LEFT] > 0).all()
    assert (sides[RIGHT] < 0).all()


@pytest.mark.parametrize("ground", [GROUND, None])
def test_the_standing_foot_is_found_and_the_swinging_one_is_not(free_body, walker, ground):
    contacts = find_contacts(free_body, walker, TIMES, ground=ground)
    assert (contacts.held[:, LEFT] == 1).all()
    assert (contacts.held[6:18, RIGHT] == 0).all()
    assert contacts.ground is ground


def test_a_foot_that_hovers_does_not_touch(free_body, walker):
    hovering = dataclasses.replace(walker, transl=walker.transl + torch.tensor([0.0, 0.0, 0.3]))
    assert not find_contacts(free_body, hovering, TIMES, ground=GROUND).held[:, LEFT].any()


def test_the_ground_is_where_slow_soles_are_and_stairs_have_none():
    generator = torch.Generator().manual_seed(0)
    soles = torch.randn(50, 6, 3, generator=generator, dtype=torch.float64) * 0.005
    soles[..., 2] += 0.4
    plane = estimate_ground(soles, torch.zeros(50, 6))
    assert plane is not None
    assert abs(float(plane[3]) + 0.4) < 0.02
    soles[25:, :, 2] += 0.6
    assert estimate_ground(soles, torch.zeros(50, 6)) is None


def noisy(walker, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drift = torch.randn(FRAMES, 3, generator=generator).cumsum(0) * 0.01
    return dataclasses.replace(walker, transl=walker.transl + drift)


def joints_seen(body, parameters, scale=0.05):
    joints = pose_body(body, parameters).joints
    table = joint_table(body.joint_names)
    return LandmarkPositions(
        table, joints, torch.ones(joints.shape[:2]), torch.full(joints.shape[:2], scale)
    )


def refined(body, start, evidence, contacts, **changes):
    config = SolverConfig(shape="fixed", smoothness=0.3, max_iterations=10, **changes)
    return solve(
        body, start, [evidence], config, reference=start, times=TIMES, contacts=contacts
    ).parameters


def test_held_feet_stop_sliding_and_the_body_follows(free_body, walker):
    wrong = noisy(walker)
    contacts = find_contacts(free_body, walker, TIMES, ground=GROUND)
    evidence = joints_seen(free_body, wrong)
    free = refined(free_body, wrong, evidence, None)
    held = refined(free_body, wrong, evidence, contacts)

    def slide(parameters):
        return soles(free_body, parameters, contacts)[:, LEFT].diff(dim=0).norm(dim=-1).mean()

    def error(parameters):
        found = pose_body(free_body, parameters).vertices
        return (found - pose_body(free_body, walker).vertices).norm(dim=-1).mean()

    assert slide(held) < 0.2 * slide(free)
    assert error(held) < error(free)


def test_a_wrong_contact_does_not_wreck_the_motion(free_body, walker):
    """The swinging foot is said to stand throughout; the evidence knows better."""
    contacts = find_contacts(free_body, walker, TIMES, ground=GROUND)
    wrong = dataclasses.replace(contacts, held=torch.ones_like(contacts.held))
    found = refined(free_body, walker, joints_seen(free_body, walker, 0.03), wrong)
    true = pose_body(free_body, walker).joints
    distance = (pose_body(free_body, found).joints - true).norm(dim=-1)
    foot = free_body.joint_names.index("R_Foot")
    lift = (true[:, foot] - true[:1, foot]).norm(dim=-1).max()
    assert distance[:, foot].max() < 0.4 * lift
    assert distance.mean() < 0.03


def test_soles_do_not_go_through_the_ground(free_body, walker):
    sunk = dataclasses.replace(walker, transl=walker.transl - torch.tensor([0.0, 0.0, 0.08]))
    contacts = find_contacts(free_body, walker, TIMES, ground=GROUND)
    contacts = dataclasses.replace(contacts, held=torch.zeros_like(contacts.held))
    found = refined(free_body, sunk, joints_seen(free_body, sunk, 0.5), contacts)
    low, before = (soles(free_body, p, contacts)[:, :6, 2].min() for p in (found, sunk))
    assert before < -0.07
    assert low > 0.4 * before


def test_frames_far_apart_are_hardly_coupled(free_body, walker):
    contacts = find_contacts(free_body, walker, TIMES)
    model = SkeletonModel.from_body(free_body, 10, torch.float32)
    near, far = (
        bind_contacts(contacts, free_body, model, TIMES * factor, SolverConfig())
        for factor in (1.0, 30.0)
    )
    torch.testing.assert_close(near.pair_precision, 900.0 * far.pair_precision)


def test_contacts_give_the_gradient_of_their_cost(free_body, walker):
    body = free_body.to(dtype=torch.float64)
    rigid = dataclasses.replace(body, posedirs=torch.zeros_like(body.posedirs))
    start = noisy(walker).to(dtype=torch.float64)[:5]
    state = state_from_parameters(start)
    contacts = find_contacts(body, walker.to(dtype=torch.float64), TIMES, ground=GROUND)
    contacts = dataclasses.replace(contacts, held=contacts.held[:5])
    model = SkeletonModel.from_body(rigid, 10, torch.float64)
    bound = bind_contacts(contacts, rigid, model, TIMES[:5], SolverConfig())
    skeleton = pose_skeleton(model, state)
    band = contact_band(bound, skeleton)
    generator = torch.Generator().manual_seed(0)
    step = 1e-6 * torch.randn(5, 24 * 3 + 3 + 10, generator=generator, dtype=torch.float64)

    def cost(sign):
        moved = retract(
            state,
            skeleton.parent_rotations,
            sign * step[:, :72].unflatten(1, (24, 3)),
            sign * step[:, 72:75],
            sign * step[:, 75:],
        )
        return contact_band(bound, pose_skeleton(model, moved)).cost.sum()

    slope = (cost(1.0) - cost(-1.0)) / 2.0
    torch.testing.assert_close(2.0 * (band.gradient * step).sum(), slope, rtol=1e-5, atol=1e-9)
