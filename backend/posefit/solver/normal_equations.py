# SPDX-License-Identifier: Apache-2.0
"""A problem's normal equations at a state: JᵀJ, Jᵀr and cost of every frame.

Per-frame parameters form the blocks of a banded matrix; betas shared by the sequence stay apart and
are eliminated by the solver (Schur complement).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        hessian, gradient, cost = _accumulate(terms, _part(skeleton, frames), state.frames(frames))
        hessians.append(hessian)
        gradients.append(gradient)
        costs.append(cost)
    hessian, gradient, cost = (torch.cat(parts) for parts in (hessians, gradients, costs))
    alone = hessian.diagonal(dim1=1, dim2=2).clone()
    band = _coupling(problem, skeleton)
    if band is not None:
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
    terms: Sequence[ChunkTerm], skeleton: Skeleton, state: State
) -> tuple[Tensor, Tensor, Tensor]:
    """JᵀJ, Jᵀr and cost of a chunk's terms."""
    batch = len(skeleton.joints)
    betas = skeleton.joint_shape_jacobian.shape[-1]
    parameters = 3 * skeleton.joints.shape[1] + 3 + betas
    hessian = skeleton.joints.new_zeros(batch, parameters, parameters)
    gradient = skeleton.joints.new_zeros(batch, parameters)
    cost = skeleton.joints.new_zeros(batch)
    # One product a term: stacking first would copy the largest Jacobian.
    for linear in (term(skeleton) for term in terms):
        hessian.baddbmm_(linear.jacobian, linear.jacobian.transpose(1, 2))
        gradient.unsqueeze(-1).baddbmm_(linear.jacobian, linear.residual[..., None])
        cost = cost + linear.cost
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
    """Takes shared betas out of the frames' blocks, adds the shape prior, fixes what is fixed."""
    free = problem.free
    own = free.shape[1]
    betas = skeleton.state.betas
    if problem.shape_is_free:
        prior = shape_term(betas, problem.shape_reference, problem.shape_sigma, gradient.shape[1])
        share = 1.0 / len(betas) if problem.shape_is_shared else 1.0
        added = share * prior.jacobian @ prior.jacobian.transpose(1, 2)
        hessian, alone = hessian + added, alone + added.diagonal(dim1=1, dim2=2)
        gradient = gradient + share * (prior.jacobian @ prior.residual[..., None])[..., 0]
        cost = cost + share * prior.cost
    shared = slice(own, None) if problem.shape_is_shared and problem.shape_is_free else slice(0)
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
