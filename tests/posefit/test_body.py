# SPDX-License-Identifier: Apache-2.0
"""Posing bodies: the same vertices as the reference implementation, in batches and in parts."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posefit.body import (
    BodyModel,
    PoseParameters,
    axis_angle_to_matrix,
    body_from_arrays,
    load_body,
    matrix_to_axis_angle,
    pose_body,
    pose_joints,
    pose_vertices,
    vertex_normals,
)
from posefit_shared import rotations as reference_rotations
from posefit_shared.body_files import read_body


def random_parameters(body: BodyModel, batch_size: int, seed: int = 0) -> PoseParameters:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(body.dtype)

    return PoseParameters(
        betas=1.5 * normal(batch_size, body.num_betas),
        global_orient=normal(batch_size, 3),
        body_pose=0.6 * normal(batch_size, body.num_joints - 1, 3),
        transl=normal(batch_size, 3),
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_vertices_and_joints_equal_those_of_smplx(dtype: torch.dtype, tolerance: float) -> None:
    smplx = pytest.importorskip("smplx", reason="the reference implementation is not installed")
    arrays = read_body("free")
    fields = {
        "v_template": arrays.v_template, "f": arrays.faces, "shapedirs": arrays.shapedirs,
        "posedirs": arrays.posedirs, "J_regressor": arrays.J_regressor,
        "weights": arrays.lbs_weights,
        "kintree_table": np.stack([arrays.parents, np.arange(24)]).astype(np.int64),
    }  # fmt: skip
    model = smplx.SMPL(
        "",
        data_struct=smplx.utils.Struct(**fields),
        vertex_ids=dict.fromkeys(smplx.vertex_ids.vertex_ids["smplh"], 0),
        dtype=dtype,
    )
    body = body_from_arrays(arrays, dtype=dtype)
    parameters = random_parameters(body, 12)
    with torch.no_grad():
        expected = model(
            betas=parameters.betas,
            global_orient=parameters.global_orient,
            body_pose=parameters.body_pose.flatten(1),
            transl=parameters.transl,
        )
    posed = pose_body(body, parameters)
    assert (posed.vertices - expected.vertices).abs().max() < tolerance
    assert (posed.joints - expected.joints[:, :24]).abs().max() < tolerance


def test_a_batch_equals_its_members_one_by_one(free_body: BodyModel) -> None:
    parameters = random_parameters(free_body, 3)
    together = pose_body(free_body, parameters)
    for index in range(3):
        alone = pose_body(free_body, parameters[index : index + 1])
        for field in dataclasses.fields(alone):
            torch.testing.assert_close(
                getattr(alone, field.name)[0],
                getattr(together, field.name)[index],
                atol=2e-6,
                rtol=1e-5,
            )


def test_chosen_vertices_equal_the_whole_bodys(free_body: BodyModel) -> None:
    parameters = random_parameters(free_body, 4)
    whole = pose_body(free_body, parameters).vertices
    shared = torch.randint(0, free_body.num_vertices, (200,))
    own = torch.randint(0, free_body.num_vertices, (4, 150))
    torch.testing.assert_close(
        pose_vertices(free_body, parameters, shared), whole[:, shared], atol=2e-6, rtol=0
    )
    torch.testing.assert_close(
        pose_vertices(free_body, parameters, own),
        whole.gather(1, own[..., None].expand(-1, -1, 3)),
        atol=2e-6,
        rtol=0,
    )


def test_joints_need_no_vertices(free_body: BodyModel) -> None:
    parameters = random_parameters(free_body, 3)
    torch.testing.assert_close(
        pose_joints(free_body, parameters), pose_body(free_body, parameters).joints
    )


def test_the_rest_pose_is_the_template(free_body: BodyModel) -> None:
    posed = pose_body(free_body, PoseParameters.rest(free_body, 2))
    torch.testing.assert_close(posed.vertices[1], free_body.v_template, atol=1e-6, rtol=0)
    torch.testing.assert_close(posed.joints[0], free_body.joint_template, atol=1e-6, rtol=0)


def test_transl_moves_everything_and_turns_nothing(free_body: BodyModel) -> None:
    parameters = random_parameters(free_body, 1)
    shift = torch.tensor([[0.3, -2.0, 5.0]])
    moved = dataclasses.replace(parameters, transl=parameters.transl + shift)
    before, after = pose_body(free_body, parameters), pose_body(free_body, moved)
    torch.testing.assert_close(after.vertices - before.vertices, shift.expand_as(before.vertices))
    torch.testing.assert_close(after.joint_matrices[..., :3, 3] - shift,
                               before.joint_matrices[..., :3, 3], atol=1e-5, rtol=0)  # fmt: skip
    torch.testing.assert_close(after.global_rotations, before.global_rotations)


def test_joint_matrices_carry_rest_joints_to_posed_joints(free_body: BodyModel) -> None:
    parameters = random_parameters(free_body, 2)
    posed = pose_body(free_body, parameters)
    rest = free_body.joint_template + torch.einsum(
        "jkn,bn->bjk", free_body.joint_shapedirs, parameters.betas
    )
    homogeneous = torch.cat([rest, torch.ones_like(rest[..., :1])], -1)
    carried = (posed.joint_matrices @ homogeneous[..., None])[..., :3, 0]
    torch.testing.assert_close(carried, posed.joints, atol=1e-5, rtol=0)


def test_turning_a_joint_moves_the_frames_of_its_descendants_only(free_body: BodyModel) -> None:
    rest = PoseParameters.rest(free_body)
    before = pose_body(free_body, rest).global_rotations[0]
    for joint in range(1, free_body.num_joints):
        body_pose = torch.zeros_like(rest.body_pose)
        body_pose[0, joint - 1] = torch.tensor([0.3, -0.2, 0.1])
        after = pose_body(free_body, dataclasses.replace(rest, body_pose=body_pose))
        has_turned = (after.global_rotations[0] - before).abs().amax((1, 2)) > 1e-4
        assert torch.equal(has_turned, free_body.is_descendant[joint])


def test_gradients_match_finite_differences() -> None:
    body = load_body("free", dtype=torch.float64)
    parameters = random_parameters(body, 2)
    chosen = torch.arange(0, body.num_vertices, 997)

    def posed(*values: torch.Tensor) -> torch.Tensor:
        return pose_vertices(body, PoseParameters(*values), chosen)

    values = [getattr(parameters, field.name) for field in dataclasses.fields(parameters)]
    values[2] = torch.where(torch.arange(23)[:, None] % 3 == 0, 0.0, values[2])
    inputs = tuple(value.clone().requires_grad_() for value in values)
    assert torch.autograd.gradcheck(posed, inputs, atol=1e-6, fast_mode=True)


def test_fewer_coefficients_mean_zeros_for_the_rest(free_body: BodyModel) -> None:
    parameters = random_parameters(free_body, 2)
    few = dataclasses.replace(parameters, betas=parameters.betas[:, :4])
    padded = torch.nn.functional.pad(few.betas, (0, 6))
    expected = pose_body(free_body, dataclasses.replace(parameters, betas=padded))
    torch.testing.assert_close(pose_body(free_body, few).vertices, expected.vertices)
    torch.testing.assert_close(
        pose_vertices(free_body, few, torch.arange(50)), expected.vertices[:, :50]
    )


def test_parameters_that_do_not_fit_are_refused_in_words(free_body: BodyModel) -> None:
    rest = PoseParameters.rest(free_body)
    with pytest.raises(ValueError, match="num_betas=16"):
        pose_body(free_body, dataclasses.replace(rest, betas=torch.zeros(1, 16)))
    with pytest.raises(ValueError, match="body_pose"):
        pose_body(free_body, dataclasses.replace(rest, body_pose=torch.zeros(1, 51, 3)))


def test_a_body_without_correctives_poses_like_one_with_zeros() -> None:
    arrays = read_body("free")
    bare = body_from_arrays(dataclasses.replace(arrays, posedirs=np.zeros_like(arrays.posedirs)))
    assert len(bare.corrective_vertices) == 0
    parameters = random_parameters(bare, 2)
    whole = pose_body(bare, parameters).vertices
    some = torch.tensor([5, 0, 700])
    torch.testing.assert_close(pose_vertices(bare, parameters, some), whole[:, some])


def test_normals_are_unit_and_point_outwards(free_body: BodyModel) -> None:
    vertices = free_body.v_template[None]
    normals = vertex_normals(vertices, free_body.faces)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(1, free_body.num_vertices))
    nose = free_body.landmarks["nose"]
    assert normals[0, nose, 2] > 0.5
    grown = vertices + 0.001 * normals

    def volume(points: torch.Tensor) -> float:
        a, b, c = points[0, free_body.faces].double().unbind(1)
        return float((a * torch.linalg.cross(b, c)).sum() / 6)

    assert volume(grown) > volume(vertices)


def test_normals_turn_with_the_body(free_body: BodyModel) -> None:
    turn = axis_angle_to_matrix(torch.tensor([[0.4, -1.1, 0.7]]))
    vertices = free_body.v_template[None]
    torch.testing.assert_close(
        vertex_normals(vertices @ turn.mT, free_body.faces),
        vertex_normals(vertices, free_body.faces) @ turn.mT,
        atol=1e-4,
        rtol=0,
    )


def test_moving_a_body_to_double_precision_keeps_indices_whole(free_body: BodyModel) -> None:
    body = free_body.to(dtype=torch.float64)
    assert body.dtype == torch.float64
    assert body.faces.dtype == torch.int64
    assert body.is_descendant.dtype == torch.bool
    assert body.content_hash == free_body.content_hash


# --- colours -------------------------------------------------------------------------------------


def test_every_surface_point_has_its_own_colour(free_body: BodyModel) -> None:
    colors = free_body.vertex_colors
    assert colors.min() >= 0
    assert colors.max() <= 1
    assert len(torch.unique(colors, dim=0)) > 0.999 * len(torch.unique(free_body.v_template, dim=0))


def test_the_same_place_has_nearly_the_same_colour_on_other_people(free_body: BodyModel) -> None:
    arrays = read_body("free")
    for component, amount in ((0, 2.0), (0, -2.0), (1, 2.0)):
        shape = np.zeros(10, dtype=np.float32)
        shape[component] = amount
        other = dataclasses.replace(arrays, v_template=arrays.v_template + arrays.shapedirs @ shape)
        difference = body_from_arrays(other).vertex_colors - free_body.vertex_colors
        assert difference.norm(dim=1).mean() < 0.03


# --- rotations -----------------------------------------------------------------------------------

axes = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: sum(x * x for x in axis) > 1e-3)
angles = st.one_of(
    st.floats(0, math.pi),
    st.floats(0, 1e-6),
    st.floats(math.pi - 1e-6, math.pi),
    st.sampled_from([0.0, 1e-12, 0.1414, 0.1415, 1.0, math.pi]),
)


@given(axis=axes, angle=angles)
@settings(max_examples=200, deadline=None)
def test_exponential_agrees_with_double_precision_reference(
    axis: tuple[float, float, float], angle: float
) -> None:
    vector = np.asarray(axis) / np.linalg.norm(axis) * angle
    expected = reference_rotations.rotvec_to_matrix(vector)
    got = axis_angle_to_matrix(torch.from_numpy(vector)).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-12)
    single = axis_angle_to_matrix(torch.from_numpy(vector).float()).double().numpy()
    np.testing.assert_allclose(single, expected, atol=1e-6)


@given(axis=axes, angle=angles)
@settings(max_examples=200, deadline=None)
def test_logarithm_undoes_the_exponential(axis: tuple[float, float, float], angle: float) -> None:
    vector = torch.tensor(axis, dtype=torch.float64)
    vector = vector / vector.norm() * angle
    back = matrix_to_axis_angle(axis_angle_to_matrix(vector))
    if angle > math.pi - 1e-7:
        back = back * torch.sign((back * vector).sum())
    torch.testing.assert_close(back, vector, atol=2e-8, rtol=0)
    single = matrix_to_axis_angle(axis_angle_to_matrix(vector.float())).double()
    again = axis_angle_to_matrix(single)
    torch.testing.assert_close(again, axis_angle_to_matrix(vector), atol=3e-6, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-3, 0.1413, 0.1415, 1.0, 3.0, math.pi - 1e-4])
def test_rotation_gradients_are_finite_and_right(angle: float) -> None:
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64)
    vector = (axis * angle).requires_grad_()
    assert torch.autograd.gradcheck(axis_angle_to_matrix, (vector,), eps=1e-6, atol=1e-7)

    def round_trip(value: torch.Tensor) -> torch.Tensor:
        return matrix_to_axis_angle(axis_angle_to_matrix(value))

    assert torch.autograd.gradcheck(round_trip, (vector,), eps=1e-7, atol=1e-5)


def test_gradients_at_exactly_half_a_turn_are_finite() -> None:
    vectors = (torch.eye(3) * math.pi).requires_grad_()
    matrix_to_axis_angle(axis_angle_to_matrix(vectors)).square().sum().backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()
