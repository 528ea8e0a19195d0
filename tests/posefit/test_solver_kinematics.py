# SPDX-License-Identifier: Apache-2.0
"""The closed-form Jacobians, against finite differences in float64."""

import math
from functools import partial

import pytest
import torch

from posefit.body import PoseParameters, axis_angle_to_matrix, matrix_to_axis_angle, pose_body
from posefit.solver.kinematics import axis_points, bind_points, joint_points, pose_points, pull_back
from posefit.solver.landmarks import BLAZEPOSE, pose_landmarks
from posefit.solver.pose_prior import load_pose_prior
from posefit.solver.priors import (
    limit_term,
    local_rotations,
    pelvis_term,
    pose_prior_term,
    reference_term,
)
from posefit.solver.rotation_vectors import inverse_left_jacobian
from posefit.solver.skeleton import (
    SkeletonModel,
    State,
    parameters_from_state,
    pose_skeleton,
    retract,
    state_from_parameters,
)
from posefit.solver.terms import direction_term, pixel_term, position_term

JOINTS = 24
STEP = 1e-6


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


@pytest.fixture(scope="module")
def rigid_body(free_body):
    """The free body without pose correctives: those are left out of the Jacobian on purpose."""
    import dataclasses

    body = free_body.to(dtype=torch.float64)
    return dataclasses.replace(body, posedirs=torch.zeros_like(body.posedirs))


def random_state(generator, batch=1, angle=0.5):
    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rotvec = angle * normal(batch, JOINTS, 3)
    return State(axis_angle_to_matrix(rotvec), normal(batch, 3) + 3, 0.5 * normal(batch, 10))


def moved(model, state, step):
    """The state after a step of the solver's parameters (75 + 10)."""
    skeleton = pose_skeleton(model, state)
    turns = step[:, : 3 * JOINTS].unflatten(1, (JOINTS, 3))
    transl, betas = step[:, 3 * JOINTS : 3 * JOINTS + 3], step[:, 3 * JOINTS + 3 :]
    return retract(state, skeleton.parent_rotations, turns, transl, betas)


def repeated(state, count):
    return State(
        state.rotations.repeat(count, 1, 1, 1),
        state.transl.repeat(count, 1),
        state.betas.repeat(count, 1),
    )


def differences(model, state, value):
    """Central differences of `value(skeleton)` by every parameter, all in one batch."""
    parameters = 3 * JOINTS + 3 + state.betas.shape[1]
    steps, many = STEP * torch.eye(parameters, dtype=torch.float64), repeated(state, parameters)
    ahead = value(pose_skeleton(model, moved(model, many, steps)))
    behind = value(pose_skeleton(model, moved(model, many, -steps)))
    return (ahead - behind) / (2 * STEP)


def assert_derivative(model, state, value_and_jacobian):
    """Differences of `value(skeleton)` (batch row) match its Jacobian (batch parameter row)."""
    _, jacobian = value_and_jacobian(pose_skeleton(model, state))
    numeric = differences(model, state, lambda s: value_and_jacobian(s)[0])
    torch.testing.assert_close(jacobian[0], numeric, atol=2e-6, rtol=1e-5)


def coordinates(pose, skeleton):
    """x, y, z of points, and their Jacobian."""
    points = pose(skeleton)
    batch, _, count = points.positions.shape
    eye = torch.eye(3, dtype=torch.float64)[None, :, :, None].expand(batch, 3, 3, count)
    return points.positions.flatten(1), pull_back(points, eye).flatten(2)


@pytest.mark.parametrize("angle", [1e-9, 0.5, math.pi / 1.5])
def test_vertices_move_as_their_jacobian_says(rigid_body, generator, angle):
    model = SkeletonModel.from_body(rigid_body, 10, torch.float64)
    indices = torch.randint(0, rigid_body.num_vertices, (12,), generator=generator)
    pose = partial(pose_points, bind_points(rigid_body, model, indices))
    state = random_state(generator, angle=angle)
    assert_derivative(model, state, partial(coordinates, pose))


def test_joints_and_bone_axes_move_as_their_jacobian_says(rigid_body, generator):
    model = SkeletonModel.from_body(rigid_body, 10, torch.float64)
    state = random_state(generator)
    assert_derivative(model, state, partial(coordinates, joint_points))
    assert_derivative(model, state, partial(coordinates, lambda s: axis_points(s, 0.1)))


def test_landmarks_move_as_their_jacobian_says(rigid_body, generator):
    model = SkeletonModel.from_body(rigid_body, 10, torch.float64)
    bound = BLAZEPOSE.bind(rigid_body, torch.float64)
    pose = partial(pose_landmarks, bound.mixture, bound.point_set(rigid_body, model))
    assert_derivative(model, random_state(generator), partial(coordinates, pose))
    differences = bound.mixture[:, 1:] - bound.mixture[:, :-1]
    bones = partial(pose_landmarks, differences, bound.point_set(rigid_body, model))
    assert_derivative(model, random_state(generator), partial(coordinates, bones))


def test_posed_points_are_the_vertices_of_the_posed_body(free_body, generator):
    body = free_body.to(dtype=torch.float64)
    model = SkeletonModel.from_body(body, 10, torch.float64)
    state = random_state(generator, batch=2)
    indices = torch.randint(0, body.num_vertices, (2, 50), generator=generator)
    expected = pose_body(body, parameters_from_state(state))
    skeleton = pose_skeleton(model, state)
    for chosen in (indices, indices[0]):
        points = pose_points(bind_points(body, model, chosen), skeleton)
        rows = chosen.expand(2, -1)[..., None].expand(-1, -1, 3)
        torch.testing.assert_close(
            points.positions.transpose(1, 2), expected.vertices.gather(1, rows)
        )
    torch.testing.assert_close(skeleton.joints, expected.joints)
    torch.testing.assert_close(skeleton.global_rotations, expected.global_rotations)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-2, 1.0, math.pi - 1e-5])
def test_rotation_vectors_turn_as_the_left_jacobian_says(generator, angle):
    axis = torch.nn.functional.normalize(
        torch.randn(5, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    rotvec, inverse = angle * axis, inverse_left_jacobian(angle * axis)
    for column in range(3):
        delta = torch.zeros(3, dtype=torch.float64)
        delta[column] = STEP

        def turned(sign, delta=delta):
            return matrix_to_axis_angle(
                axis_angle_to_matrix(sign * delta) @ axis_angle_to_matrix(rotvec)
            )

        numeric = (turned(1) - turned(-1)) / (2 * STEP)
        torch.testing.assert_close(inverse[..., column], numeric, atol=1e-6, rtol=1e-5)


def as_many(skeleton, *fixed):
    """What does not depend on the state, one row for each of the batch."""
    return [values.expand(len(skeleton.joints), *values.shape[1:]) for values in fixed]


def assert_gradient_of_cost(model, state, term):
    """Half the cost's gradient is J r, also under the robust kernel, with its weights inside."""
    linear = term(pose_skeleton(model, state))
    gradient = 2 * (linear.jacobian @ linear.residual[..., None])[0, :, 0]
    numeric = differences(model, state, lambda s: term(s).cost)
    torch.testing.assert_close(gradient, numeric, atol=1e-5, rtol=1e-4)


def test_every_evidence_term_gives_the_gradient_of_its_cost(rigid_body, generator):
    model = SkeletonModel.from_body(rigid_body, 10, torch.float64)
    state = random_state(generator)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    projection = torch.tensor(
        [[200.0, 3, 128, 5], [0, 210, 120, -4], [0, 0, 1, 2]], dtype=torch.float64
    )[None]
    indices = torch.randint(0, rigid_body.num_vertices, (9,), generator=generator)
    points = bind_points(rigid_body, model, indices)
    turn = axis_angle_to_matrix(uniform(1, 3))
    ones = torch.ones(1, 9, dtype=torch.float64)
    target = pose_points(points, pose_skeleton(model, state)).positions + 0.1 * uniform(1, 3, 9)
    homogeneous = projection[:, :, :3] @ target + projection[:, :, 3:]
    pixels = homogeneous[:, :2] / homogeneous[:, 2:]

    def pixel(skeleton):
        fixed = as_many(skeleton, projection, pixels, weights, 9 * ones)
        return pixel_term(pose_points(points, skeleton), *fixed, 0.05)

    def position(skeleton):
        fixed = as_many(skeleton, turn, turn @ target, weights, 0.1 * ones)
        return position_term(pose_points(points, skeleton), *fixed)

    def direction(skeleton):
        fixed = as_many(skeleton, turn, unit, weights, 0.9 * ones)
        return direction_term(pose_points(points, skeleton), *fixed)

    weights = uniform(1, 9)
    unit = torch.nn.functional.normalize(uniform(1, 3, 9) - 0.5, dim=1)
    for term in (pixel, position, direction):
        assert_gradient_of_cost(model, state, term)


def test_every_prior_gives_the_gradient_of_its_cost(rigid_body, generator):
    model = SkeletonModel.from_body(rigid_body, 10, torch.float64)
    state, other = random_state(generator, angle=0.6), random_state(generator)
    prior = load_pose_prior(rigid_body.joint_names, "cpu", torch.float64)
    ones = torch.ones(1, JOINTS, dtype=torch.float64)
    parameters = 3 * JOINTS + 13
    box = torch.full((JOINTS, 3), 0.2, dtype=torch.float64)
    rows = torch.randn(1, 3, 3, generator=generator, dtype=torch.float64)

    def near(skeleton):
        return local_rotations(skeleton, *as_many(skeleton, other.rotations))[0]

    terms = (
        lambda s: reference_term(near(s), *as_many(s, 2.0 * ones), parameters),
        lambda s: limit_term(local_rotations(s, None)[0], -box, box, 3.0, parameters),
        lambda s: pose_prior_term(local_rotations(s, None)[0], prior, 0.3, parameters),
        lambda s: pelvis_term(s, *as_many(s, other.transl, rows), parameters),
    )
    for term in terms:
        assert_gradient_of_cost(model, state, term)


def test_parameters_survive_the_way_through_a_state(generator):
    parameters = PoseParameters(
        betas=torch.randn(3, 10, generator=generator),
        global_orient=torch.randn(3, 3, generator=generator),
        body_pose=torch.randn(3, 23, 3, generator=generator),
        transl=torch.randn(3, 3, generator=generator),
    )
    again = parameters_from_state(state_from_parameters(parameters))
    torch.testing.assert_close(
        axis_angle_to_matrix(again.body_pose), axis_angle_to_matrix(parameters.body_pose)
    )
    torch.testing.assert_close(again.transl, parameters.transl)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.3, 3.0])
def test_a_step_turns_a_joint_by_its_rotation_vector(generator, angle):
    state = random_state(generator, batch=2)
    turns = torch.randn(2, JOINTS, 3, generator=generator, dtype=torch.float64)
    turns = angle * torch.nn.functional.normalize(turns, dim=-1)
    identity = torch.eye(3, dtype=torch.float64).expand(2, JOINTS, 3, 3)
    zeros = torch.zeros(2, 10, dtype=torch.float64)
    after = retract(state, identity, turns, zeros[:, :3], zeros)
    expected = axis_angle_to_matrix(turns) @ state.rotations
    torch.testing.assert_close(after.rotations, expected)
