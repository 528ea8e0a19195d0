# SPDX-License-Identifier: Apache-2.0
"""Joints posed in the world: the solver's state, its steps, and where they put the skeleton.

A joint is perturbed by a rotation ω in the *world* frame about the joint itself,
`G_j ← exp(ω_j) G_j`, carrying everything below it. What hangs on the joints is `kinematics`' part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..body import BodyModel, PoseParameters, axis_angle_to_matrix, matrix_to_axis_angle
from ..body_model import kept_with_body
from ..gpu.choice import takes_kernels
from ..gpu.graphs import device_constant
from ..rotations import cross_matrix
from ..skinning import ancestors_of

__all__ = [
    "Skeleton",
    "SkeletonModel",
    "State",
    "parameters_from_state",
    "pose_skeleton",
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
    camera: Float[Tensor, "batch 2"] | None = None
    """Focal length and lens beside the given ones (`lens`); None where they are no unknowns."""

    def choose(self, other: State, take_other: Bool[Tensor, " batch"]) -> State:
        """`other` in the frames where `take_other`, this state elsewhere."""
        pick = take_other[:, None]
        return State(
            torch.where(pick[..., None, None], other.rotations, self.rotations),
            torch.where(pick, other.transl, self.transl),
            torch.where(pick, other.betas, self.betas),
            None
            if self.camera is None or other.camera is None
            else torch.where(pick, other.camera, self.camera),
        )

    def frames(self, frames: slice) -> State:
        """The state of some frames."""
        camera = None if self.camera is None else self.camera[frames]
        return State(self.rotations[frames], self.transl[frames], self.betas[frames], camera)


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


@device_constant
@dataclass(frozen=True)
class SkeletonModel:
    """The joints' part of a body model in the solver's dtype, made once a body."""

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

    @staticmethod
    def from_body(body: BodyModel, num_betas: int, dtype: torch.dtype) -> SkeletonModel:
        """The joints of `body` with its first shape coefficients, in `dtype`."""
        return _skeleton_model(body, num_betas, dtype)


@kept_with_body
def _skeleton_model(body: BodyModel, num_betas: int, dtype: torch.dtype) -> SkeletonModel:
    device = body.device
    template = body.joint_template.to(dtype)
    dirs = body.joint_shapedirs[..., :num_betas].to(dtype)
    joints = torch.cat([dirs, template[..., None]], -1)
    upper = torch.tensor([max(p, 0) for p in body.parents], device=device)
    has_parent = torch.tensor([float(p >= 0) for p in body.parents], device=device).to(dtype)
    offsets = joints - joints[upper] * has_parent[:, None, None]
    ancestors = ancestors_of(body.parents, device)
    return SkeletonModel(
        parent_index=ancestors[0][:-1],
        ancestors=ancestors,
        joint_template=template,
        joint_shapedirs=dirs,
        bones=torch.cat([joints, offsets]).flatten(0, 1),
        is_below=body.is_descendant.to(dtype),
    )


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


def retract(
    state: State,
    parent_rotations: Float[Tensor, "batch joint 3 3"],
    turns: Float[Tensor, "batch joint 3"],
    transl_step: Float[Tensor, "batch 3"],
    betas_step: Float[Tensor, "batch beta"],
    camera_step: Float[Tensor, "batch 2"] | None = None,
) -> State:
    """The state after a step: each joint turned in the world about itself.

    Args:
        state: where the step was computed.
        parent_rotations: world rotations of the joints' parents there.
        turns: rotation vectors in the world frame, radians.
        transl_step: metres, world.
        betas_step: change of the shape coefficients.
        camera_step: change of the camera's unknowns; None where there are none.

    Returns:
        The new state.
    """
    local = (parent_rotations.transpose(-1, -2) @ turns[..., None])[..., 0]
    rotations = _turns(local) @ state.rotations
    camera = state.camera
    if camera is not None and camera_step is not None:
        camera = camera + camera_step
    return State(rotations, state.transl + transl_step, state.betas + betas_step, camera)


def _turns(rotvec: Float[Tensor, "batch joint 3"]) -> Float[Tensor, "batch joint 3 3"]:
    """Rotation matrices of steps: Rodrigues' formula by sinc, with a third of the operations of
    `axis_angle_to_matrix`, whose gradient nobody needs here."""
    if takes_kernels(rotvec):
        return axis_angle_to_matrix(rotvec)
    angle = rotvec.norm(dim=-1)[..., None, None]
    cross = cross_matrix(rotvec)
    sine = torch.sinc(angle / torch.pi)
    half = torch.sinc(angle / (2.0 * torch.pi))
    identity = torch.eye(3, device=rotvec.device, dtype=rotvec.dtype)
    return identity + sine * cross + 0.5 * half.square() * (cross @ cross)
