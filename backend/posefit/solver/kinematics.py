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
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..body import (
    BodyModel,
    PoseParameters,
    axis_angle_to_matrix,
    corrective_rows,
    matrix_to_axis_angle,
)

__all__ = [
    "PointSet",
    "PosedPoints",
    "Skeleton",
    "SkeletonModel",
    "State",
    "axis_points",
    "bind_points",
    "join_points",
    "joint_points",
    "mix_points",
    "parameters_from_state",
    "pose_points",
    "pose_skeleton",
    "pull_back",
    "retract",
    "state_from_parameters",
]


@dataclass(frozen=True)
class State:
    """Where the solver is: PoseParameters with rotations as matrices."""

    rotations: Float[Tensor, "batch joint 3 3"]
    """Local rotations, root first."""
    transl: Float[Tensor, "batch 3"]
    """Root translation, metres, world."""
    betas: Float[Tensor, "batch beta"]
    """Shape coefficients, one row a frame also when the sequence shares them."""

    def choose(self, other: State, take_other: Bool[Tensor, " batch"]) -> State:
        """`other` in the frames where `take_other`, this state elsewhere."""
        pick = take_other[:, None]
        return State(
            torch.where(pick[..., None, None], other.rotations, self.rotations),
            torch.where(pick, other.transl, self.transl),
            torch.where(pick, other.betas, self.betas),
        )

    def frames(self, frames: slice) -> State:
        """The state of some frames."""
        return State(self.rotations[frames], self.transl[frames], self.betas[frames])


@dataclass(frozen=True)
class Skeleton:
    """Joints posed in the world, and what points need to follow them."""

    state: State
    """What was posed."""
    parent_rotations: Float[Tensor, "batch joint 3 3"]
    """World rotation of each joint's parent; identity above the root."""
    global_rotations: Float[Tensor, "batch joint 3 3"]
    """World rotation of each joint."""
    joints: Float[Tensor, "batch joint 3"]
    """Joint positions, metres, world."""
    rest_joints: Float[Tensor, "batch joint 3"]
    """Joint positions in the rest pose of this shape, metres."""
    joint_shape_jacobian: Float[Tensor, "batch joint 3 beta"]
    """Derivative of `joints` by betas."""
    rest_joint_shapedirs: Float[Tensor, "joint 3 beta"]
    """Derivative of `rest_joints` by betas."""
    is_below: Float[Tensor, "joint joint"]
    """`is_below[j, k]` is 1 where joint k is j or hangs below it."""


@dataclass(frozen=True)
class PointSet:
    """Vertices of the body gathered for a solve: only their rows of the model are kept."""

    v_template: Float[Tensor, "unique 3"]
    shapedirs: Float[Tensor, "unique 3 beta"]
    posedirs: Float[Tensor, "unique 3 feature"]
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


def state_from_parameters(parameters: PoseParameters) -> State:
    """The state that poses like `parameters`."""
    rotvec = torch.cat([parameters.global_orient[:, None], parameters.body_pose], 1)
    return State(axis_angle_to_matrix(rotvec), parameters.transl, parameters.betas)


def parameters_from_state(state: State) -> PoseParameters:
    """PoseParameters that pose like `state`."""
    rotvec = matrix_to_axis_angle(state.rotations)
    return PoseParameters(
        betas=state.betas,
        global_orient=rotvec[:, 0],
        body_pose=rotvec[:, 1:],
        transl=state.transl,
    )


@dataclass(frozen=True)
class SkeletonModel:
    """The joints' part of a body model in the solver's dtype, made once a solve."""

    parent_index: Int[Tensor, " joint"]
    """Parents, the root's replaced by `joint count`: an extra joint that never turns."""
    ancestors: tuple[Int[Tensor, " joint_and_world"], ...]
    """Ancestors 1, 2, 4, … levels up, until all are that extra joint."""
    joint_template: Float[Tensor, "joint 3"]
    joint_shapedirs: Float[Tensor, "joint 3 beta"]
    bones: Float[Tensor, "both beta_and_mean"]
    """Rest joints, then their offsets from their parents (the root's: its position), flattened;
    by betas, and in the last column the mean body's."""
    is_below: Float[Tensor, "joint joint"]
    """`is_below[j, k]` is 1 where joint k is j or hangs below it."""

    @classmethod
    def from_body(cls, body: BodyModel, num_betas: int, dtype: torch.dtype) -> SkeletonModel:
        """The joints of `body` with its first shape coefficients, in `dtype`."""
        device = body.device
        template = body.joint_template.to(dtype)
        dirs = body.joint_shapedirs[..., :num_betas].to(dtype)
        joints = torch.cat([dirs, template[..., None]], -1)
        upper = torch.tensor([max(p, 0) for p in body.parents], device=device)
        has_parent = torch.tensor([float(p >= 0) for p in body.parents], device=device).to(dtype)
        offsets = joints - joints[upper] * has_parent[:, None, None]
        ancestors = [torch.tensor(row, device=device) for row in _ancestors(body.parents)]
        return cls(
            parent_index=ancestors[0][:-1],
            ancestors=tuple(ancestors),
            joint_template=template,
            joint_shapedirs=dirs,
            bones=torch.cat([joints, offsets]).flatten(0, 1),
            is_below=body.is_descendant.to(dtype),
        )


def _ancestors(parents: tuple[int, ...]) -> list[list[int]]:
    """Ancestors 1, 2, 4, … levels up; `joint count` stands for the world, above the root."""
    world = len(parents)
    level = [parent if parent >= 0 else world for parent in parents] + [world]
    levels = []
    while any(joint != world for joint in level) or not levels:
        levels.append(level)
        level = [level[joint] for joint in level]
    return levels


def _global_rotations(
    model: SkeletonModel, rotations: Float[Tensor, "batch joint 3 3"]
) -> Float[Tensor, "batch joint_and_world 3 3"]:
    """World rotations by pointer doubling: log2(depth) products instead of one a joint."""
    identity = torch.eye(3, device=rotations.device, dtype=rotations.dtype)
    chain = torch.cat([rotations, identity.expand(len(rotations), 1, 3, 3)], 1)
    for upper in model.ancestors:
        chain = chain[:, upper] @ chain
    return chain


def pose_skeleton(model: SkeletonModel, state: State, with_shape: bool = True) -> Skeleton:
    """Joints, world rotations and shape derivatives of a state.

    Args:
        model: the body's joints.
        state: rotations, translation and shape of each frame.
        with_shape: also give derivatives by betas; otherwise they have no columns, and neither
            has any Jacobian that is made from this skeleton.

    Returns:
        The posed skeleton.
    """
    chain = _global_rotations(model, state.rotations)
    parent_rotations = chain[:, model.parent_index]
    both = torch.addmm(model.bones[:, -1], state.betas, model.bones[:, :-1].T)
    rest, bones = both.unflatten(1, (2, -1, 3)).unbind(1)
    above = model.is_below.T
    joints = above @ (parent_rotations @ bones[..., None])[..., 0] + state.transl[:, None]
    shapedirs = model.joint_shapedirs[..., : None if with_shape else 0]
    jacobian = shapedirs.expand(len(joints), *shapedirs.shape)
    if with_shape:
        by_bone = model.bones[:, :-1].unflatten(0, (2, -1, 3))[1]
        jacobian = (above @ (parent_rotations @ by_bone).flatten(2)).unflatten(2, (3, -1))
    return Skeleton(
        state=state,
        parent_rotations=parent_rotations,
        global_rotations=chain[:, :-1],
        joints=joints,
        rest_joints=rest,
        joint_shape_jacobian=jacobian,
        rest_joint_shapedirs=shapedirs,
        is_below=model.is_below,
    )


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
    elif vertex_indices.ndim == 2:
        unique, index = torch.unique(vertex_indices, return_inverse=True)
    weights = body.lbs_weights[vertex_indices].to(dtype).transpose(-1, -2)
    weights = weights[None] if weights.ndim == 2 else weights
    return PointSet(
        v_template=body.v_template[unique].to(dtype),
        shapedirs=body.shapedirs[unique][..., :num_betas].to(dtype),
        posedirs=corrective_rows(body, unique).to(dtype),
        index=index,
        weights=weights.contiguous(),
        weights_below=model.is_below @ weights,
    )


def _rest_points(points: PointSet, state: State) -> Float[Tensor, "batch 3 point"]:
    """Shaped and pose-corrected rest positions."""
    rotations = state.rotations[:, 1:]
    identity = torch.eye(3, device=rotations.device, dtype=rotations.dtype)
    feature = (rotations - identity).flatten(1)
    flat = points.v_template.flatten()[:, None]
    flat = torch.addmm(flat, points.shapedirs.flatten(0, 1), state.betas.T)
    flat = torch.addmm(flat, points.posedirs.flatten(0, 1), feature.T)
    rest = flat.unflatten(0, (-1, 3)).permute(2, 1, 0)
    if points.index is None:
        return rest.contiguous()
    return rest.gather(2, points.index[:, None].expand(-1, 3, -1))


def _point_shapedirs(points: PointSet) -> Float[Tensor, "frames 3 beta point"]:
    if points.index is None:
        return points.shapedirs.permute(1, 2, 0)[None]
    return points.shapedirs[points.index].permute(0, 2, 3, 1)


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


def join_points(first: PosedPoints, second: PosedPoints) -> PosedPoints:
    """Both sets of points, `first` in front."""
    return PosedPoints(
        torch.cat([first.positions, second.positions], -1),
        torch.cat([first.arms, second.arms], -1),
        torch.cat([first.shape_jacobian, second.shape_jacobian], -1),
    )


def pull_back(
    points: PosedPoints, covectors: Float[Tensor, "batch row 3 point"]
) -> Float[Tensor, "batch parameter row point"]:
    """Derivative by all parameters of `covector · position`.

    Since `g · (ω × A) = (A × g) · ω`, a joint's columns are the cross product of arm and covector.

    Args:
        points: posed points.
        covectors: what each row measures of each point, e.g. d pixel / d position.

    Returns:
        Columns as the solver orders them: joint rotations (3 a joint, world), translation, betas.
    """
    batch, rows, _, count = covectors.shape
    joints, betas = points.arms.shape[1], points.shape_jacobian.shape[2]
    jacobian = covectors.new_empty(batch, 3 * joints + 3 + betas, rows, count)
    turns = jacobian[:, : 3 * joints].unflatten(1, (joints, 3))
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
        jacobian[:, 3 * joints + 3 :] = (shape * by_axis).sum(1)
    return jacobian


def retract(
    state: State,
    parent_rotations: Float[Tensor, "batch joint 3 3"],
    turns: Float[Tensor, "batch joint 3"],
    transl_step: Float[Tensor, "batch 3"],
    betas_step: Float[Tensor, "batch beta"],
) -> State:
    """The state after a step: each joint turned in the world about itself.

    Args:
        state: where the step was computed.
        parent_rotations: world rotations of the joints' parents there.
        turns: rotation vectors in the world frame, radians.
        transl_step: metres, world.
        betas_step: change of the shape coefficients.

    Returns:
        The new state.
    """
    local = (parent_rotations.transpose(-1, -2) @ turns[..., None])[..., 0]
    rotations = axis_angle_to_matrix(local) @ state.rotations
    return State(rotations, state.transl + transl_step, state.betas + betas_step)
