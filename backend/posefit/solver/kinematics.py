# SPDX-License-Identifier: Apache-2.0
"""Posed points and their closed-form Jacobian by joint rotations, translation and shape.

Step in the path: the solver's terms ask where points are and how they move; nothing here knows what
is observed. Pose correctives are evaluated at the current pose and left out of the Jacobian.

A joint is perturbed by a rotation ω in the *world* frame about the joint itself,
`G_j ← exp(ω_j) G_j`, carrying everything below it. Under linear blend skinning a point
`x = Σ_k w_k x_k` (`x_k`: where bone k alone would put it) then moves by

    dx = ω_j × A_j,   A_j = Σ_{k at or below j} w_k (x_k − P_j)

with `P_j` the joint's position: it turns about j by the part of its weights at or below j. `A_j` is
called the point's *arm* about joint j. Tensors hold points in the last dimension, which is what
the matrix products of the normal equations want.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..body import BodyModel, corrective_rows
from ..body_model import kept_with_body
from ..gpu.graphs import device_constant
from .skeleton import Skeleton, SkeletonModel, State

__all__ = [
    "ModelRows",
    "PointSet",
    "PosedPoints",
    "axis_points",
    "bind_points",
    "blend_corners",
    "join_points",
    "joint_points",
    "mix_points",
    "pose_points",
    "pull_back",
]


@dataclass(frozen=True)
class ModelRows:
    """The body model's rows of some vertices, in the solver's dtype."""

    v_template: Float[Tensor, "unique 3"]
    shapedirs: Float[Tensor, "unique 3 beta"]
    posedirs: Float[Tensor, "unique 3 feature"]


@device_constant
class WholeModel(ModelRows):
    """Every vertex' rows: the same object whenever a body is solved for."""


@dataclass(frozen=True)
class PointSet:
    """Vertices of the body gathered for a solve."""

    rows: ModelRows
    """Of the unique vertices."""
    index: Int[Tensor, "frames point"] | None
    """Which of the unique vertices each frame's points are; None where all frames use them all."""
    weights: Float[Tensor, "frames joint point"]
    """Skinning weights; a leading 1 where all frames share the points."""
    weights_below: Float[Tensor, "frames joint point"]
    """Part of each point's weights at or below each joint."""


@dataclass(frozen=True)
class PosedPoints:
    """Points in the world and how they move."""

    positions: Float[Tensor, "batch 3 point"]
    """Metres, world."""
    arms: Float[Tensor, "batch joint 3 point"]
    """Lever about each joint: a turn ω of joint j moves the point by ω × arm."""
    shape_jacobian: Float[Tensor, "batch 3 beta point"]
    """Derivative by betas."""
    follows: Float[Tensor, " point"] | None = None
    """Share of the root's translation that each point takes: 0 for differences of points; None
    means 1 for all."""


def bind_points(
    body: BodyModel,
    model: SkeletonModel,
    vertex_indices: Int[Tensor, " point"] | Int[Tensor, "frames point"],
) -> PointSet:
    """The rows of the body model that some vertices need.

    Args:
        body: the body model.
        model: its joints; decides dtype and number of shape coefficients.
        vertex_indices: (point,) shared by all frames, or (frame, point).

    Returns:
        The vertices' part of the model.
    """
    dtype, num_betas = model.joint_template.dtype, model.joint_shapedirs.shape[2]
    index, unique = None, vertex_indices
    if vertex_indices.ndim == 2 and len(vertex_indices) == 1:
        unique = vertex_indices[0]
    elif vertex_indices.ndim == 2 and _poses_all(body):
        unique, index = None, vertex_indices
    elif vertex_indices.ndim == 2:
        unique, index = torch.unique(vertex_indices, return_inverse=True)
    rows: ModelRows = _all_rows(body, dtype, num_betas)
    if unique is not None:
        rows = ModelRows(rows.v_template[unique], rows.shapedirs[unique], rows.posedirs[unique])
    weights = body.lbs_weights[vertex_indices].to(dtype).transpose(-1, -2)
    weights = weights[None] if weights.ndim == 2 else weights
    return PointSet(
        rows=rows,
        index=index,
        weights=weights.contiguous(),
        weights_below=model.is_below @ weights,
    )


def _poses_all(body: BodyModel) -> bool:
    """A GPU poses all vertices sooner than it finds the unique ones, whose number would also make
    each solve one of a kind (`gpu.graphs`)."""
    return body.device.type == "cuda"


@kept_with_body
def _all_rows(body: BodyModel, dtype: torch.dtype, num_betas: int) -> WholeModel:
    every = torch.arange(body.num_vertices, device=body.device)
    return WholeModel(
        v_template=body.v_template.to(dtype),
        shapedirs=body.shapedirs[..., :num_betas].to(dtype),
        posedirs=corrective_rows(body, every).to(dtype),
    )


def _rest_points(points: PointSet, state: State) -> Float[Tensor, "batch 3 point"]:
    """Shaped and pose-corrected rest positions."""
    rotations = state.rotations[:, 1:]
    identity = torch.eye(3, device=rotations.device, dtype=rotations.dtype)
    feature = (rotations - identity).flatten(1)
    flat = points.rows.v_template.flatten()[:, None]
    flat = torch.addmm(flat, points.rows.shapedirs.flatten(0, 1), state.betas.T)
    flat = torch.addmm(flat, points.rows.posedirs.flatten(0, 1), feature.T)
    rest = flat.unflatten(0, (-1, 3)).permute(2, 1, 0)
    if points.index is None:
        return rest.contiguous()
    return rest.gather(2, points.index[:, None].expand(-1, 3, -1))


def _point_shapedirs(points: PointSet) -> Float[Tensor, "frames 3 beta point"]:
    if points.index is None:
        return points.rows.shapedirs.permute(1, 2, 0)[None]
    return points.rows.shapedirs[points.index].permute(0, 2, 3, 1)


def pose_points(points: PointSet, skeleton: Skeleton) -> PosedPoints:
    """Skinned vertices with their arms about every joint.

    Args:
        points: which vertices.
        skeleton: the posed joints.

    Returns:
        Positions, arms and shape derivatives.
    """
    rest = _rest_points(points, skeleton.state)
    batch, joints = skeleton.joints.shape[:2]
    rotations = skeleton.global_rotations
    offsets = skeleton.joints - (rotations @ skeleton.rest_joints[..., None])[..., 0]
    by_bone = torch.baddbmm(offsets.reshape(batch, -1, 1), rotations.flatten(1, 2), rest)
    weighted = by_bone.unflatten(1, (joints, 3)) * points.weights[:, :, None]
    below = (skeleton.is_below @ weighted.flatten(2)).unflatten(2, (3, -1))
    positions = below[:, 0]
    arms = torch.addcmul(
        below, points.weights_below[:, :, None], skeleton.joints[..., None], value=-1.0
    )
    if not skeleton.joint_shape_jacobian.shape[-1]:
        empty = positions.new_zeros(batch, 3, 0, positions.shape[-1])
        return PosedPoints(positions, arms, empty)
    return PosedPoints(positions, arms, _shape_jacobian(points, skeleton))


def _shape_jacobian(points: PointSet, skeleton: Skeleton) -> Float[Tensor, "batch 3 beta point"]:
    """d position / d betas = (Σ w_k G_k) dv + Σ w_k (dP_k − G_k dJ_k)."""
    rotations = skeleton.global_rotations
    batch = len(rotations)
    weights = points.weights.expand(batch, -1, -1)
    blended = rotations.flatten(2).transpose(1, 2) @ weights
    blended = blended.unflatten(1, (3, 3))
    carried = skeleton.joint_shape_jacobian - rotations @ skeleton.rest_joint_shapedirs
    jacobian = (carried.flatten(2).transpose(1, 2) @ weights).unflatten(1, (3, -1))
    shapedirs = _point_shapedirs(points)
    for axis in range(3):
        jacobian = torch.addcmul(jacobian, blended[:, :, axis, None], shapedirs[:, axis, None])
    return jacobian


def joint_points(skeleton: Skeleton) -> PosedPoints:
    """The joints themselves as points: joint k turns about every joint above it."""
    positions = skeleton.joints.transpose(1, 2)
    lever = positions[:, None] - skeleton.joints[..., None]
    return PosedPoints(
        positions,
        lever * skeleton.is_below[:, None],
        skeleton.joint_shape_jacobian.permute(0, 2, 3, 1),
    )


def axis_points(skeleton: Skeleton, length: float) -> PosedPoints:
    """Three points a joint, `length` metres from it along its own axes: they show its rotation.

    Returns:
        Points ordered axis by axis: 3 · joint of them.
    """
    tips = skeleton.joints[..., None] + length * skeleton.global_rotations
    positions = tips.permute(0, 2, 3, 1).flatten(2)
    lever = positions[:, None] - skeleton.joints[..., None]
    shape = skeleton.joint_shape_jacobian.permute(0, 2, 3, 1).repeat(1, 1, 1, 3)
    return PosedPoints(positions, lever * skeleton.is_below.repeat(1, 3)[:, None], shape)


def mix_points(points: PosedPoints, mixture: Float[Tensor, "point mixed"]) -> PosedPoints:
    """Fixed linear combinations of points; a column that sums to 0 is a difference."""
    return PosedPoints(
        points.positions @ mixture,
        points.arms @ mixture,
        points.shape_jacobian @ mixture,
        follows=mixture.sum(0),
    )


def blend_corners(corners: PosedPoints, shares: Float[Tensor, "batch point corner"]) -> PosedPoints:
    """Points inside faces: each a blend of its own corners, which lie side by side in `corners`."""

    def blend(values: Tensor) -> Tensor:
        spread = shares.view(len(shares), *[1] * (values.ndim - 2), *shares.shape[1:])
        return (values.unflatten(-1, shares.shape[1:]) * spread).sum(-1)

    return PosedPoints(blend(corners.positions), blend(corners.arms), blend(corners.shape_jacobian))


def join_points(first: PosedPoints, second: PosedPoints) -> PosedPoints:
    """Both sets of points, `first` in front."""
    return PosedPoints(
        torch.cat([first.positions, second.positions], -1),
        torch.cat([first.arms, second.arms], -1),
        torch.cat([first.shape_jacobian, second.shape_jacobian], -1),
    )


def pull_back(
    points: PosedPoints,
    covectors: Float[Tensor, "batch row 3 point"],
    residual: Float[Tensor, "batch row point"] | None = None,
) -> Float[Tensor, "batch parameter row point"]:
    """Derivative by all parameters of `covector · position`.

    Since `g · (ω × A) = (A × g) · ω`, a joint's columns are the cross product of arm and covector.

    Args:
        points: posed points.
        covectors: what each row measures of each point, e.g. d pixel / d position.
        residual: of each row; put behind the parameters, as if it were one (`Term.of_rows`).

    Returns:
        Columns as the solver orders them: joint rotations (3 a joint, world), translation, betas.
    """
    batch, rows, _, count = covectors.shape
    joints, betas = points.arms.shape[1], points.shape_jacobian.shape[2]
    parameters = 3 * joints + 3 + betas
    jacobian = covectors.new_empty(batch, parameters + (residual is not None), rows, count)
    turns = jacobian[:, : 3 * joints].unflatten(1, (joints, 3))
    if covectors.is_cuda:  # one pass; on a CPU it is six times slower than the nine below
        arms, turning = points.arms[:, :, :, None], covectors.transpose(1, 2)[:, None]
        torch.linalg.cross(arms, turning, dim=2, out=turns)
    else:
        ax, ay, az = points.arms[:, :, :, None].unbind(2)
        gx, gy, gz = covectors[:, None].unbind(3)
        turns[:, :, 0] = ay * gz - az * gy
        turns[:, :, 1] = az * gx - ax * gz
        turns[:, :, 2] = ax * gy - ay * gx
    moved = covectors if points.follows is None else covectors * points.follows
    jacobian[:, 3 * joints : 3 * joints + 3] = moved.transpose(1, 2)
    if betas:
        shape = points.shape_jacobian[:, :, :, None]
        by_axis = covectors.transpose(1, 2)[:, :, None]
        jacobian[:, 3 * joints + 3 : parameters] = (shape * by_axis).sum(1)
    if residual is not None:
        jacobian[:, parameters] = residual
    return jacobian
