# SPDX-License-Identifier: Apache-2.0
"""A problem's normal equations at a state: JᵀJ, Jᵀr and cost of every frame.

Per-frame parameters form the blocks of a banded matrix; betas shared by the sequence stay apart and
are eliminated by the solver (Schur complement).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .banded import BandedMatrix
from .bound_priors import ChunkTerm
from .contacts import contact_band
from .priors import shape_term
from .problem import Problem
from .skeleton import Skeleton, State, pose_skeleton
from .smoothness import Band, motion_points, smoothness_band
from .terms import Term

__all__ = ["Linearisation", "linearise"]


@dataclass(frozen=True)
class Linearisation:
    """Normal equations at a state; `gradient` is half the cost's."""

    matrix: BandedMatrix
    """Gauss–Newton Hessian of the per-frame parameters, fixed ones replaced by identity."""
    scaling: Float[Tensor, "batch parameter"]
    """Diagonal without what couples frames: Marquardt's damping measures steps by it. Stiff
    coupling would otherwise damp the motion that neighbours share and that it doesn't resist."""
    gradient: Float[Tensor, "batch parameter"]
    cross: Float[Tensor, "batch parameter shared"]
    shared: Float[Tensor, "shared shared"]
    shared_gradient: Float[Tensor, " shared"]
    cost: Float[Tensor, " batch"]
    parent_rotations: Float[Tensor, "batch joint 3 3"]

    def choose(self, other: Linearisation, take_other: Bool[Tensor, " batch"]) -> Linearisation:
        """`other` in the frames where `take_other`; coupled problems take all frames or none."""

        def pick(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(take_other.view(-1, *[1] * (mine.ndim - 1)), theirs, mine)

        def pick_blocks(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
            return None if mine is None or theirs is None else pick(mine, theirs)

        matrix, others, any_taken = self.matrix, other.matrix, take_other.any()
        return Linearisation(
            matrix=BandedMatrix(
                pick(matrix.diagonal, others.diagonal),
                pick_blocks(matrix.next_frame, others.next_frame),
                pick_blocks(matrix.second_frame, others.second_frame),
            ),
            scaling=pick(self.scaling, other.scaling),
            gradient=pick(self.gradient, other.gradient),
            cross=pick(self.cross, other.cross),
            shared=torch.where(any_taken, other.shared, self.shared),
            shared_gradient=torch.where(any_taken, other.shared_gradient, self.shared_gradient),
            cost=pick(self.cost, other.cost),
            parent_rotations=pick(self.parent_rotations, other.parent_rotations),
        )


def linearise(problem: Problem, state: State) -> Linearisation:
    """Normal equations and cost of every frame at a state.

    Args:
        problem: what is minimised.
        state: where.

    Returns:
        The linearisation; its cost is not finite where the state is not.
    """
    config = problem.config
    skeleton = pose_skeleton(problem.model, state, with_shape=config.shape != "fixed")
    hessians, gradients, costs = [], [], []
    for frames, terms in problem.chunks:
        part = _part(skeleton, frames)
        hessian, gradient, cost = _accumulate(terms, part, config.camera_columns)
        hessians.append(hessian)
        gradients.append(gradient)
        costs.append(cost)
    hessian, gradient, cost = (torch.cat(parts) for parts in (hessians, gradients, costs))
    alone = hessian.diagonal(dim1=1, dim2=2).clone()
    band = _coupling(problem, skeleton)
    if band is not None:
        band = band.padded(len(config.camera_unknowns))
        hessian = hessian + band.diagonal
        gradient, cost = gradient + band.gradient, cost + band.cost
    return _split(problem, skeleton, hessian, alone, gradient, cost, band)


def _coupling(problem: Problem, skeleton: Skeleton) -> Band | None:
    """What ties frames to the next ones: smoothness and contacts; None where nothing does."""
    config, band = problem.config, None
    if problem.differences is not None and problem.acceleration_sigma is not None:
        rows, jacobian = motion_points(skeleton, config.bone_axis_length_m)
        band = smoothness_band(
            rows,
            jacobian,
            problem.differences,
            weight=config.smoothness,
            sigma=problem.acceleration_sigma,
            robust_factor=config.acceleration_robust_factor,
        )
    if problem.contacts is not None:
        held = contact_band(problem.contacts, skeleton)
        band = held if band is None else band.plus(held)
    return band


def _part(skeleton: Skeleton, frames: slice) -> Skeleton:
    if frames == slice(0, len(skeleton.joints)):
        return skeleton
    return Skeleton(
        state=skeleton.state.frames(frames),
        parent_rotations=skeleton.parent_rotations[frames],
        global_rotations=skeleton.global_rotations[frames],
        joints=skeleton.joints[frames],
        rest_joints=skeleton.rest_joints[frames],
        joint_shape_jacobian=skeleton.joint_shape_jacobian[frames],
        rest_joint_shapedirs=skeleton.rest_joint_shapedirs,
        is_below=skeleton.is_below,
    )


def _accumulate(
    terms: Sequence[ChunkTerm], skeleton: Skeleton, unknowns: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """JᵀJ, Jᵀr and cost of a chunk's terms; the camera's unknowns come last."""
    batch = len(skeleton.joints)
    betas = skeleton.joint_shape_jacobian.shape[-1]
    inner = 3 * skeleton.joints.shape[1] + 3 + betas
    parameters = inner + (unknowns.stop - (unknowns.start or 0))
    hessian = skeleton.joints.new_zeros(batch, parameters, parameters)
    gradient = skeleton.joints.new_zeros(batch, parameters)
    cost = skeleton.joints.new_zeros(batch)
    # One product a term: stacking first would copy the largest Jacobian.
    for linear in (term(skeleton) for term in terms):
        jacobian, residual = linear.jacobian, linear.residual[..., None]
        if linear.rows is not None:
            squared = linear.rows @ linear.rows.transpose(1, 2)
            hessian[:, :inner, :inner] += squared[:, :inner, :inner]
            gradient[:, :inner] += squared[:, :inner, inner]
        else:
            hessian[:, :inner, :inner].baddbmm_(jacobian, jacobian.transpose(1, 2))
            gradient[:, :inner].unsqueeze(-1).baddbmm_(jacobian, residual)
        cost = cost + linear.cost
        if parameters > inner and linear.camera is not None:
            camera = linear.camera[:, unknowns]
            mixed = jacobian @ camera.transpose(1, 2)
            hessian[:, :inner, inner:] += mixed
            hessian[:, inner:, :inner] += mixed.transpose(1, 2)
            hessian[:, inner:, inner:] += camera @ camera.transpose(1, 2)
            gradient[:, inner:] += (camera @ residual)[..., 0]
    return hessian, gradient, cost


def _split(
    problem: Problem,
    skeleton: Skeleton,
    hessian: Float[Tensor, "batch parameter parameter"],
    alone: Float[Tensor, "batch parameter"],
    gradient: Float[Tensor, "batch parameter"],
    cost: Float[Tensor, " batch"],
    band: Band | None,
) -> Linearisation:
    """Takes what frames share out of their blocks, adds its priors, fixes what is fixed."""
    free = problem.free
    own, parameters = free.shape[1], gradient.shape[1]
    for prior, share in _shared_priors(problem, skeleton.state, parameters):
        added = share * prior.jacobian @ prior.jacobian.transpose(1, 2)
        hessian, alone = hessian + added, alone + added.diagonal(dim1=1, dim2=2)
        gradient = gradient + share * (prior.jacobian @ prior.residual[..., None])[..., 0]
        cost = cost + share * prior.cost
    count = problem.shared_betas + problem.shared_camera
    shared = slice(parameters - count, parameters)
    coupled = hessian if band is None else _row_sums(hessian, band)
    matrix = BandedMatrix(
        _fix(hessian[:, :own, :own], free, 0) + torch.diag_embed(1.0 - free),
        None if band is None else _fix(band.next_frame[:, :own, :own], free, 1),
        None if band is None else _fix(band.second_frame[:, :own, :own], free, 2),
    )
    return Linearisation(
        matrix=matrix,
        scaling=alone[:, :own] * free + (1.0 - free),
        gradient=gradient[:, :own] * free,
        cross=coupled[:, :own, shared] * free[..., None],
        shared=coupled[:, shared, shared].sum(0),
        shared_gradient=gradient[:, shared].sum(0),
        cost=cost,
        parent_rotations=skeleton.parent_rotations,
    )


def _shared_priors(problem: Problem, state: State, parameters: int) -> list[tuple[Term, float]]:
    """Priors of shape and camera, and the share of each that a frame has."""
    config, frames, unknowns = problem.config, len(state.betas), problem.config.camera_unknowns
    priors = []
    if problem.shape_is_free:
        inner = parameters - len(unknowns)
        prior = shape_term(state.betas, problem.shape_reference, problem.shape_sigma, inner)
        jacobian = torch.nn.functional.pad(prior.jacobian, (0, 0, 0, len(unknowns)))
        share = 1.0 / frames if problem.shape_is_shared else 1.0
        priors.append((replace(prior, jacobian=jacobian), share))
    if unknowns and state.camera is not None:
        focal = config.focal_frame_sigma if config.focal == "frame" else config.focal_sigma
        sigma = torch.cat(
            [state.camera.new_full((1,), one) for one in (focal, config.distortion_sigma)]
        )[config.camera_columns]
        values = state.camera[:, config.camera_columns] / sigma
        prior = shape_term(values, torch.zeros_like(values), 1.0, parameters)
        share = 1.0 / frames if config.camera_is_shared else 1.0
        priors.append((replace(prior, jacobian=prior.jacobian / sigma), share))
    return priors


def _fix(
    blocks: Float[Tensor, "batch parameter parameter"],
    free: Float[Tensor, "batch parameter"],
    ahead: int,
) -> Float[Tensor, "batch parameter parameter"]:
    """Zero rows and columns for what may not change; columns belong to frame t + ahead."""
    columns = torch.nn.functional.pad(free[ahead:], (0, 0, 0, ahead))[: len(free)]
    return blocks * free[:, :, None] * columns[:, None]


def _row_sums(hessian: Tensor, band: Band) -> Float[Tensor, "batch parameter parameter"]:
    """Sum over each block row: how a change common to all frames meets each frame."""
    total = hessian.clone()
    for by, blocks in ((1, band.next_frame), (2, band.second_frame)):
        total = total + blocks
        total[by:] += blocks[:-by].transpose(1, 2)
    return total
