# SPDX-License-Identifier: Apache-2.0
"""Landmarks as evidence: mapping tables, the first root, and poses estimated from scratch."""

import dataclasses
import math

import pytest
import torch

from posefit.body import (
    PoseParameters,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    pose_body,
)
from posefit.solver import (
    BLAZEPOSE,
    BLAZEPOSE_BONES,
    BODY_25,
    COCO_17,
    BoneDirections,
    LandmarkPixels,
    LandmarkPositions,
    LandmarkTable,
    SolverConfig,
    initial_root,
    joint_table,
    solve,
)
from posefit.solver.landmarks import pose_landmarks
from posefit.solver.pose_prior import load_pose_prior
from posefit.solver.skeleton import SkeletonModel, pose_skeleton, state_from_parameters

BATCH = 4


def landmarks_of(body, table, parameters):
    """World positions (batch, landmark, 3), and which ones the body knows."""
    model = SkeletonModel.from_body(body, 10, torch.float32)
    bound = table.bind(body, torch.float32)
    skeleton = pose_skeleton(model, state_from_parameters(parameters))
    points = pose_landmarks(bound.mixture, bound.point_set(body, model), skeleton)
    return points.positions.transpose(1, 2), bound.known


@dataclasses.dataclass
class View:
    """A person who stands in a z-up world, seen by a camera 4 m away."""

    true: PoseParameters
    pixels: torch.Tensor
    camera_landmarks: torch.Tensor
    weights: torch.Tensor
    intrinsics: torch.Tensor
    world_to_camera: torch.Tensor


@pytest.fixture
def view(free_body):
    generator = torch.Generator().manual_seed(3)
    prior = load_pose_prior(free_body.joint_names, "cpu", torch.float32)
    pose = torch.zeros(BATCH, 23, 3)
    pose[:, : prior.joint_count] = prior.means[:BATCH].unflatten(1, (-1, 3))
    # Stands upright (y up to z up), turned about z by a random angle.
    up = axis_angle_to_matrix(torch.tensor([math.pi / 2, 0, 0]))
    yaw = torch.zeros(BATCH, 3)
    yaw[:, 2] = 2 * math.pi * torch.rand(BATCH, generator=generator) - math.pi
    true = PoseParameters(
        betas=torch.zeros(BATCH, 10),
        global_orient=matrix_to_axis_angle(axis_angle_to_matrix(yaw) @ up),
        body_pose=pose,
        transl=torch.tensor([0.3, 0.2, 1.2]).expand(BATCH, 3).clone(),
    )
    # Looks along world y from 4 m away at 1 m height, rolled a little.
    axes = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    axes = axis_angle_to_matrix(torch.tensor([0.1, 0.05, 0.1])) @ axes
    matrix = torch.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = -axes @ torch.tensor([0.0, -4.0, 1.0])
    world_to_camera = matrix.expand(BATCH, 4, 4)
    intrinsics = torch.tensor([[900.0, 0, 320], [0, 900, 240], [0, 0, 1]]).expand(BATCH, 3, 3)
    positions, _ = landmarks_of(free_body, BLAZEPOSE, true)
    camera = positions @ axes.T + matrix[:3, 3]
    image = camera @ intrinsics.transpose(1, 2)
    noise = torch.randn(BATCH, 33, 5, generator=generator)
    hips = camera[:, 23:25].mean(1, keepdim=True)
    return View(
        true=true,
        pixels=image[..., :2] / image[..., 2:] + 2.0 * noise[..., :2],
        camera_landmarks=0.9 * (camera - hips) + 0.01 * noise[..., 2:],
        weights=torch.ones(BATCH, 33),
        intrinsics=intrinsics,
        world_to_camera=world_to_camera,
    )


def root_of(free_body, view, **changes):
    view = dataclasses.replace(view, **changes)
    return initial_root(
        free_body,
        BLAZEPOSE,
        view.pixels,
        view.camera_landmarks,
        view.weights,
        view.intrinsics,
        view.world_to_camera,
    )


def pelvis_error(body, first, second):
    return (pose_body(body, first).joints - pose_body(body, second).joints)[:, 0].norm(dim=-1)


def turn_degrees(first, second):
    relative = axis_angle_to_matrix(first.global_orient).transpose(1, 2) @ axis_angle_to_matrix(
        second.global_orient
    )
    cosine = (relative.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def test_the_first_root_stands_where_the_person_does(free_body, view):
    root = root_of(free_body, view)
    assert (pelvis_error(free_body, root, view.true) < 0.3).all()
    assert (turn_degrees(root, view.true) < 30).all()


def test_the_first_root_shrugs_off_wild_and_missing_landmarks(free_body, view):
    pixels, weights = view.pixels.clone(), view.weights.clone()
    pixels[:, 15] += 300.0
    pixels[:, 27] = torch.nan
    weights[:, 28] = 0.0
    root = root_of(free_body, view, pixels=pixels, weights=weights)
    assert (pelvis_error(free_body, root, view.true) < 0.35).all()


def test_a_frame_without_landmarks_gets_a_finite_root_before_the_camera(free_body, view):
    root = root_of(free_body, view, weights=torch.zeros(BATCH, 33))
    assert root.transl.isfinite().all()
    assert root.global_orient.isfinite().all()
    pelvis = pose_body(free_body, root).joints[:, :1]
    rotation, offset = view.world_to_camera[:, :3, :3], view.world_to_camera[:, None, :3, 3]
    assert ((pelvis @ rotation.transpose(1, 2) + offset)[..., 2] > 1.0).all()


def test_without_3d_landmarks_the_person_is_taken_to_face_the_camera(free_body, view):
    root = root_of(free_body, view, camera_landmarks=None)
    facing = view.world_to_camera[:, :3, :3] @ axis_angle_to_matrix(root.global_orient)
    expected = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(BATCH, 3, 3)
    torch.testing.assert_close(facing, expected, atol=1e-5, rtol=0)
    assert (pelvis_error(free_body, root, view.true) < 1.2).all()


def test_a_pose_is_estimated_from_landmarks_in_stages(free_body, view):
    evidence = [
        LandmarkPixels(
            BLAZEPOSE,
            view.pixels,
            view.weights,
            torch.full((BATCH, 33), 4.0),
            view.intrinsics,
            view.world_to_camera,
        ),
        BoneDirections(
            BLAZEPOSE,
            BLAZEPOSE_BONES,
            view.camera_landmarks,
            view.weights,
            world_to_camera=view.world_to_camera,
        ),
    ]
    far = SolverConfig(robust_widening=10.0, pose_prior_weight=0.5, shape="fixed")
    start = root_of(free_body, view)
    posed = solve(free_body, start, evidence, far)
    near = SolverConfig(pose_prior_weight=0.5, shape="fixed", max_iterations=15)
    final = solve(free_body, posed.parameters, evidence, near)
    found = pose_body(free_body, final.parameters)
    true = pose_body(free_body, view.true)
    aligned = found.vertices - found.joints[:, :1] - true.vertices + true.joints[:, :1]
    assert (1e3 * aligned.norm(dim=-1).mean(1) < 40).all()
    assert final.converged.all()


def test_a_stage_may_place_the_root_alone(free_body, view):
    start = root_of(free_body, view)
    evidence = LandmarkPixels(
        BLAZEPOSE,
        view.pixels,
        view.weights,
        torch.full((BATCH, 33), 4.0),
        view.intrinsics,
        view.world_to_camera,
    )
    config = SolverConfig(robust_widening=10.0, shape="fixed")
    placed = solve(free_body, start, [evidence], config, locked=torch.arange(24) != 0)
    assert torch.equal(placed.parameters.body_pose, start.body_pose)
    assert (placed.cost_after < placed.cost_before).all()


def test_absolute_joints_bring_the_body_back(free_body, view):
    generator = torch.Generator().manual_seed(0)
    table = joint_table(free_body.joint_names)
    targets, _ = landmarks_of(free_body, table, view.true)
    evidence = LandmarkPositions(
        table, targets, torch.ones(BATCH, 24), torch.full((BATCH, 24), 0.01)
    )
    start = dataclasses.replace(
        view.true,
        body_pose=view.true.body_pose + 0.15 * torch.randn(BATCH, 23, 3, generator=generator),
        transl=view.true.transl + 0.2,
    )
    config = SolverConfig(shape="fixed", limit_weight=0.0, max_iterations=20, robust_widening=10.0)
    found = solve(free_body, start, [evidence], config, reference=start).parameters
    distance = pose_body(free_body, found).joints - targets
    assert distance.norm(dim=-1).mean() < 0.01


def test_relative_landmarks_say_nothing_about_where_the_body_is(free_body, view):
    evidence = LandmarkPositions(
        BLAZEPOSE,
        view.camera_landmarks,
        view.weights,
        torch.full((BATCH, 33), 0.05),
        world_to_camera=view.world_to_camera,
        relative_to=("left_hip", "right_hip"),
    )
    far = dataclasses.replace(view.true, transl=view.true.transl + 5.0)
    config = SolverConfig(shape="fixed")
    here, there = (solve(free_body, s, [evidence], config) for s in (view.true, far))
    torch.testing.assert_close(here.cost_before, there.cost_before, atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(there.parameters.transl, far.transl, atol=1e-3, rtol=0)


def test_bone_directions_do_not_care_for_size_or_place(free_body, view):
    def cost(positions):
        evidence = BoneDirections(
            BLAZEPOSE,
            BLAZEPOSE_BONES,
            positions,
            view.weights,
            world_to_camera=view.world_to_camera,
        )
        config = SolverConfig(shape="fixed", limit_weight=0.0, max_iterations=0)
        return solve(free_body, view.true, [evidence], config).cost_before

    moved = 1.3 * view.camera_landmarks + torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(cost(moved), cost(view.camera_landmarks), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("table", [BLAZEPOSE, COCO_17, BODY_25])
def test_left_landmarks_are_on_the_left(free_body, table):
    positions, known = landmarks_of(free_body, table, PoseParameters.rest(free_body))
    for index, name in enumerate(table.names):
        assert known[index], name
        if name.startswith(("left_", "right_")):
            side = 1.0 if name.startswith("left_") else -1.0
            assert side * float(positions[0, index, 0]) > 0.01, name


def test_landmarks_lie_in_the_order_of_a_standing_body(free_body):
    positions, _ = landmarks_of(free_body, BLAZEPOSE, PoseParameters.rest(free_body))
    height = {name: float(positions[0, i, 1]) for i, name in enumerate(BLAZEPOSE.names)}
    order = ("nose", "left_shoulder", "left_hip", "left_knee", "left_ankle", "left_heel")
    heights = [height[name] for name in order]
    assert heights == sorted(heights, reverse=True)


def test_a_landmark_that_the_body_lacks_pulls_nothing(free_body, view):
    table = LandmarkTable(("nose", "tail"), (({"nose": 1.0},), ({"tail_tip": 1.0},)))
    bound = table.bind(free_body, torch.float32)
    assert bound.known.tolist() == [True, False]
    evidence = LandmarkPixels(
        table,
        torch.zeros(BATCH, 2, 2),
        torch.tensor([0.0, 1.0]).expand(BATCH, 2),
        torch.ones(BATCH, 2),
        view.intrinsics,
        view.world_to_camera,
    )
    solution = solve(free_body, view.true, [evidence], SolverConfig(shape="fixed"))
    assert torch.equal(solution.parameters.body_pose, view.true.body_pose)


def test_a_table_with_a_missing_combination_is_refused():
    with pytest.raises(ValueError, match="2 names and 1"):
        LandmarkTable(("a", "b"), ((),))


def test_a_body_without_knuckles_takes_the_next_best_point(free_body):
    bare = {name: v for name, v in free_body.landmarks.items() if "knuckle" not in name}
    positions = []
    for landmarks in (free_body.landmarks, bare):
        body = dataclasses.replace(free_body, landmarks=landmarks)
        found, known = landmarks_of(body, BLAZEPOSE, PoseParameters.rest(body))
        assert known.all()
        positions.append(found[0, BLAZEPOSE.index("left_index")])
    assert 0.0 < (positions[0] - positions[1]).norm() < 0.05
