# SPDX-License-Identifier: Apache-2.0
"""Everything one solve minimises, put together once, and its normal equations at a state.

Frames are linearised in chunks of bounded memory. Per-frame parameters form the blocks of a banded
matrix; betas shared by the sequence stay apart and are eliminated by the solver (Schur complement).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..body import BodyModel
from .banded import BandedMatrix
from .config import SolverConfig
from .evidence import Evidence
from .kinematics import Skeleton, SkeletonModel, State, pose_skeleton
from .pose_prior import load_pose_prior
from .priors import (
    LocalRotations,
    limit_term,
    local_rotations,
    pelvis_term,
    pose_prior_term,
    reference_sigmas,
    reference_term,
    shape_term,
)
from .smoothness import Band, motion_points, second_differences, smoothness_band
from .terms import Term, stack_terms

__all__ = ["Freedom", "Linearisation", "Problem", "build_problem", "linearise"]

ChunkTerm = Callable[[Skeleton], Term]


@dataclass(frozen=True)
class Freedom:
    """What may change, and when each frame was."""

    locked: Bool[Tensor, "batch joint"]
    """Joints that keep their rotation."""
    pinned: Bool[Tensor, " batch"]
    """Frames that keep everything, and hold their neighbours through smoothness."""
    stiffness: Float[Tensor, "batch joint"]
    """Multiplies the precision of the pull to the reference."""
    times: Float[Tensor, " batch"]
    """Seconds, increasing."""


@dataclass(frozen=True)
class Problem:
    """A solve's fixed part: what is minimised, over which parameters."""

    model: SkeletonModel
    config: SolverConfig
    chunks: tuple[tuple[slice, tuple[ChunkTerm, ...]], ...]
    """Terms of each chunk of frames; at least one chunk, terms may be none."""
    free: Float[Tensor, "batch parameter"]
    """1 for per-frame parameters that may change."""
    shape_is_shared: bool
    """One betas for all frames, outside the frames' blocks."""
    shape_is_free: bool
    """Betas are solved for, shared or per frame."""
    shape_reference: Float[Tensor, "batch beta"]
    shape_sigma: float
    differences: Float[Tensor, "batch 3"] | None
    """Acceleration coefficients; None without smoothness."""
    has_evidence: Bool[Tensor, " batch"]
    """Frames that something was observed in."""
    dropped: int
    """Targets that were not finite."""

    @property
    def is_coupled(self) -> bool:
        """Frames share betas or smoothness, so steps are accepted for all of them together."""
        return self.differences is not None or (self.shape_is_shared and self.shape_is_free)


@dataclass(frozen=True)
class Linearisation:
    """Normal equations at a state; `gradient` is half the cost's."""

    matrix: BandedMatrix
    """Gauss–Newton Hessian of the per-frame parameters, fixed ones replaced by identity."""
    gradient: Float[Tensor, "batch parameter"]
    cross: Float[Tensor, "batch parameter shared"]
    shared: Float[Tensor, "shared shared"]
    shared_gradient: Float[Tensor, " shared"]
    cost: Float[Tensor, " batch"]
    parent_rotations: Float[Tensor, "batch joint 3 3"]

    def choose(self, other: Linearisation, take_other: Bool[Tensor, " batch"]) -> Linearisation:
        """`other` in the frames where `take_other`; coupled problems take all frames or none."""

        def pick(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
            if mine is None or theirs is None:
                return None
            return torch.where(take_other.view(-1, *[1] * (mine.ndim - 1)), theirs, mine)

        any_taken = take_other.any()
        names = [field.name for field in dataclasses.fields(BandedMatrix)]
        blocks = {n: pick(getattr(self.matrix, n), getattr(other.matrix, n)) for n in names}
        rows = ("gradient", "cross", "cost", "parent_rotations")
        return Linearisation(
            matrix=BandedMatrix(**blocks),
            **{n: pick(getattr(self, n), getattr(other, n)) for n in rows},
            shared=torch.where(any_taken, other.shared, self.shared),
            shared_gradient=torch.where(any_taken, other.shared_gradient, self.shared_gradient),
        )


def build_problem(
    body: BodyModel,
    start: State,
    evidence: Sequence[Evidence],
    config: SolverConfig,
    *,
    reference: State | None,
    freedom: Freedom,
) -> Problem:
    """Binds evidence and priors to the body and the frames.

    Args:
        body: the body model.
        start: the first state; decides dtype and batch.
        evidence: what was observed, one entry a kind and view.
        config: settings.
        reference: the original input to stay near; None for estimates from scratch.
        freedom: what may change.

    Returns:
        The problem.
    """
    batch, joints = start.rotations.shape[:2]
    model = SkeletonModel.from_body(body, start.betas.shape[1], start.transl.dtype)
    prior_terms = _bind_priors(body, model, start, evidence, config, reference, freedom)
    chunks, usable, dropped = [], [], 0
    chunk = config.chunk_frames or (512 if start.transl.is_cuda else 64)
    for first in range(0, batch, chunk):
        frames = slice(first, min(first + chunk, batch))
        bound = [entry.bind(body, model, frames, config) for entry in evidence]
        terms = [entry.term for entry in bound] + [bind(frames) for bind in prior_terms]
        chunks.append((frames, tuple(terms)))
        zero = start.transl.new_zeros(frames.stop - first)
        usable.append(sum((entry.usable for entry in bound), zero))
        dropped += sum(entry.dropped for entry in bound)
    has_evidence = torch.cat(usable) > 0
    is_smooth = config.smoothness > 0 and batch > 2
    # Shape belongs to the person, so a frame that must not change holds a shared shape.
    is_shared = config.shape == "sequence"
    shape_is_free = config.shape != "fixed" and not (is_shared and bool(freedom.pinned.any()))
    frozen = freedom.pinned if is_smooth else freedom.pinned | ~has_evidence
    free = _free_parameters(freedom.locked, frozen, config, start, not is_shared and shape_is_free)
    return Problem(
        model=model,
        config=config,
        chunks=tuple(chunks),
        free=free,
        shape_is_shared=is_shared,
        shape_is_free=shape_is_free,
        shape_reference=torch.zeros_like(start.betas) if reference is None else reference.betas,
        shape_sigma=config.shape_sigma if reference is None else config.shape_reference_sigma,
        differences=second_differences(freedom.times).to(start.transl) if is_smooth else None,
        has_evidence=has_evidence,
        dropped=dropped,
    )


def _free_parameters(
    locked: Bool[Tensor, "batch joint"],
    frozen: Bool[Tensor, " batch"],
    config: SolverConfig,
    start: State,
    with_shape: bool,
) -> Float[Tensor, "batch parameter"]:
    batch = len(locked)
    turns = (~locked).repeat_interleave(3, 1)
    others = 3 + (start.betas.shape[1] if with_shape else 0)
    rest = torch.ones(batch, others, dtype=torch.bool, device=locked.device)
    rest[:, :3] = config.solve_translation
    return (torch.cat([turns, rest], 1) & ~frozen[:, None]).to(start.transl.dtype)


def _bind_priors(
    body: BodyModel,
    model: SkeletonModel,
    start: State,
    evidence: Sequence[Evidence],
    config: SolverConfig,
    reference: State | None,
    freedom: Freedom,
) -> list[Callable[[slice], ChunkTerm]]:
    """Functions from a chunk of frames to its prior terms."""
    joints = start.rotations.shape[1]
    betas = start.betas.shape[1] if config.shape != "fixed" else 0
    parameters = 3 * joints + 3 + betas
    has_reference = reference is not None and config.reference_weight > 0
    from_rest, from_reference = _rotation_priors(body, joints, config, parameters, start, freedom)

    def bind_rotations(frames: slice) -> ChunkTerm:
        anchor = reference.rotations[frames] if has_reference else None

        def term(skeleton: Skeleton) -> Term:
            rest, *near = local_rotations(skeleton, *([None, anchor] if has_reference else [None]))
            terms = [prior(rest) for prior in from_rest]
            return stack_terms(terms + [from_reference(frames)(entry) for entry in near])

        return term

    binders = [bind_rotations] if from_rest or has_reference else []
    if has_reference:
        pelvis = pose_skeleton(model, reference, with_shape=False).joints[:, 0]
        rows = _pelvis_precision(pelvis, evidence, config)
        binders.append(
            lambda f: partial(
                pelvis_term, reference=pelvis[f], precision_root=rows[f], parameters=parameters
            )
        )
    return binders


RotationPrior = Callable[[LocalRotations], Term]


def _rotation_priors(
    body: BodyModel,
    joints: int,
    config: SolverConfig,
    parameters: int,
    start: State,
    freedom: Freedom,
) -> tuple[list[RotationPrior], Callable[[slice], RotationPrior]]:
    """Priors on rotations from the rest pose, and on those from the reference."""
    device, dtype = start.transl.device, start.transl.dtype
    sigmas = torch.tensor(reference_sigmas(body.joint_names), device=device, dtype=dtype)
    precision = config.reference_weight * freedom.stiffness / sigmas.square()
    root = precision.sqrt() / config.reference_sigma_scale
    learned: list[RotationPrior] = []
    if config.limit_weight > 0:
        prior = load_pose_prior(body.joint_names, device, dtype)
        unlimited = torch.full((joints, 3), torch.inf, device=device, dtype=dtype)
        limited = slice(1, 1 + prior.joint_count)
        lower, upper = -unlimited, unlimited.clone()
        lower[limited], upper[limited] = prior.lower, prior.upper
        strength = config.limit_weight**0.5 / config.limit_sigma
        learned.append(lambda rest: limit_term(rest, lower, upper, strength, parameters))
    if config.pose_prior_weight > 0:
        mixture = load_pose_prior(body.joint_names, device, dtype)
        weight_root = config.pose_prior_weight**0.5
        learned.append(lambda rest: pose_prior_term(rest, mixture, weight_root, parameters))
    return learned, lambda frames: lambda near: reference_term(near, root[frames], parameters)


def _pelvis_precision(
    pelvis: Float[Tensor, "batch 3"], evidence: Sequence[Evidence], config: SolverConfig
) -> Float[Tensor, "batch 3 3"]:
    """Rows that measure a pelvis offset in σ: across the first camera's view, and along it."""
    identity = torch.eye(3, device=pelvis.device, dtype=pelvis.dtype)
    cameras = [getattr(entry, "world_to_camera", None) for entry in evidence]
    matrix = next((camera for camera in cameras if camera is not None), None)
    scale = config.reference_weight**0.5
    if matrix is None:
        return (scale * identity / config.translation_sigma_m).expand(len(pelvis), 3, 3)
    matrix = matrix.to(pelvis.dtype)
    position = (matrix[:, :3, :3] @ pelvis[..., None])[..., 0] + matrix[:, :3, 3]
    distance = position.norm(dim=-1).clamp_min(0.2)
    ray = torch.nn.functional.normalize(position, dim=-1)
    along = ray[:, :, None] * ray[:, None]
    rows = (identity - along) / config.lateral_sigma_fraction + along / config.depth_sigma_fraction
    return scale * (rows / distance[:, None, None]) @ matrix[:, :3, :3]


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
    band = None
    if problem.differences is not None:
        rows, jacobian = motion_points(skeleton, config.bone_axis_length_m)
        band = smoothness_band(
            rows,
            jacobian,
            problem.differences,
            weight=config.smoothness,
            sigma=config.acceleration_sigma,
            robust_factor=config.acceleration_robust_factor,
        )
        hessian = hessian + band.diagonal
        gradient, cost = gradient + band.gradient, cost + band.cost
    return _split(problem, skeleton, hessian, gradient, cost, band)


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
        hessian = hessian + share * prior.jacobian @ prior.jacobian.transpose(1, 2)
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
