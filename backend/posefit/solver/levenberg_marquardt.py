# SPDX-License-Identifier: Apache-2.0
"""Levenberg–Marquardt over all frames at once: damped steps, kept only where the cost falls.

Independent frames have their own damping and their own verdict on each step; frames coupled by a
shared shape or by smoothness share both. A singular or non-finite system is damped until it is
neither, or the frame keeps its state: nothing here raises for what the data did.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ..body import BodyModel, PoseParameters
from ..gpu.graphs import replayed, replayed_loop
from .banded import BandedMatrix, multiply, solve_banded
from .config import SolverConfig, Strengths
from .contacts import Contacts
from .evidence import Evidence
from .normal_equations import Linearisation, linearise
from .problem import Problem, freedom_of, posed_problem
from .skeleton import State, parameters_from_state, retract

__all__ = ["Solution", "solve"]

logger = logging.getLogger(__name__)

_SMALLEST_DAMPING = 1e-7
_LARGEST_DAMPING = 1e7


@dataclass(frozen=True)
class Solution:
    """Where the solver ended, and how far to trust it."""

    parameters: PoseParameters
    """Refined parameters; exactly the start's wherever nothing moved."""
    converged: Bool[Tensor, " batch"]
    """The frame was observed, and its cost stopped falling before the iterations ran out."""
    cost_before: Float[Tensor, " batch"]
    """Robust cost of the start."""
    cost_after: Float[Tensor, " batch"]
    """Robust cost of the result; its sum never exceeds that of `cost_before`, and frame by frame
    not either unless frames are coupled."""
    iterations: int
    """Steps tried."""
    dropped_targets: int
    """Targets that were not finite and pulled nothing."""
    camera: Float[Tensor, "batch 2"] | None = None
    """Logarithm of the focal length by the given one, and radial coefficient beside the given
    lens; None where they were no unknowns."""
    joint_sigma: Float[Tensor, "batch joint"] | None = None
    """Posterior standard deviation of each joint's rotation, radians per axis, given its
    neighbours in time and the shape; infinite for joints that were not solved for."""


@dataclass(frozen=True)
class _Step:
    frames: Float[Tensor, "batch parameter"]
    shared: Float[Tensor, " shared"]
    is_valid: Bool[Tensor, " batch"]


@dataclass(frozen=True)
class _Damping:
    """Marquardt factor of each frame and how fast it grows at the next failure."""

    factor: Float[Tensor, " batch"]
    growth: Float[Tensor, " batch"]

    def after(self, accepted: Bool[Tensor, " batch"], gain: Tensor) -> _Damping:
        """Nielsen's rule: smoothly smaller after good steps, ever larger after bad ones.

        Source: Madsen, Nielsen and Tingleff, Methods for non-linear least squares problems, 2004,
        equation 2.21.
        """
        shrink = (1.0 - (2.0 * gain.clamp(0.0, 1.0) - 1.0) ** 3).clamp_min(0.1)
        factor = self.factor * torch.where(accepted, shrink, self.growth)
        return _Damping(
            factor.clamp(_SMALLEST_DAMPING, _LARGEST_DAMPING),
            torch.where(accepted, torch.full_like(self.growth, 4.0), self.growth * 2.0),
        )


@torch.no_grad()
def solve(
    body: BodyModel,
    start: PoseParameters,
    evidence: Sequence[Evidence],
    config: SolverConfig | None = None,
    *,
    reference: PoseParameters | None = None,
    locked: Bool[Tensor, "*locked_frames joint"] | None = None,
    stiffness: Float[Tensor, "*stiff_frames joint"] | None = None,
    pinned: Bool[Tensor, " batch"] | None = None,
    times: Float[Tensor, " batch"] | None = None,
    contacts: Contacts | None = None,
    camera: Float[Tensor, "batch 2"] | None = None,
) -> Solution:
    """Pose parameters that explain the evidence, starting from `start`.

    Estimating from scratch takes stages, each starting where the last one ended:

        start = initial_root(body, BLAZEPOSE, pixels, world, weights, intrinsics, world_to_camera)
        keypoints = [LandmarkPixels(BLAZEPOSE, …), BoneDirections(BLAZEPOSE, BLAZEPOSE_BONES, …)]
        far = SolverConfig(robust_widening=10.0, pose_prior_weight=0.3, shape="fixed")
        posed = solve(body, start, keypoints, far)
        near = SolverConfig(pose_prior_weight=0.3, smoothness=1.0)
        final = solve(body, posed.parameters, keypoints, near, times=times)

    A stage for the root alone (`locked=torch.arange(24) != 0`) helps where `initial_root` had no
    3D landmarks; give it shoulders and hips only, for limbs in another pose turn the body away.

    A refinement passes the original input as `reference`, in every round.

    Args:
        body: the body model, on the device of everything else.
        start: first guess, one row a frame; its dtype (float32 or float64) is the solver's.
            Where the shape is per sequence, the mean of its betas is where the shape starts.
        evidence: what was observed; several views are several entries.
        config: settings; the defaults refine a near pose.
        reference: the original input that results stay near; None switches that prior off.
        locked: joints that keep their rotation, (joint,) or (batch, joint).
        stiffness: multiplies how hard each joint holds to the reference, same shapes.
        pinned: frames that never change and hold their neighbours through smoothness. They
            also hold a shape that is shared by the sequence.
        times: seconds of each frame, increasing; 1/30 apart by default.
        contacts: points of the body that touch something and hold still in the world.
        camera: the camera's unknowns (`lens`) where `config` solves for them, their start, and
            otherwise what they are: logarithm of the focal length by the evidence's, and radial
            coefficient beside its lens.

    Returns:
        The solution. Frames without usable evidence come back as they were, unless smoothness
        carries them; a diverging or singular frame comes back as it was with `converged` false.

    Raises:
        ValueError: shapes or times that do not fit together.
    """
    config = config or SolverConfig()
    if reference is not None and reference.body_pose.shape != start.body_pose.shape:
        raise ValueError(
            f"reference has {tuple(reference.body_pose.shape[:2])} frames and joints behind the "
            f"root, start has {tuple(start.body_pose.shape[:2])}; expected the same"
        )
    freedom = freedom_of(start, locked, stiffness, pinned, times)
    problem, first = replayed(
        posed_problem, body, start, list(evidence), config.without_strengths(),
        Strengths.of(config, start.transl), reference, freedom, contacts, camera,
    )  # fmt: skip
    solution = _minimise(problem, first, start)
    if solution.dropped_targets:
        logger.warning("%d targets were not finite and were ignored", solution.dropped_targets)
    return solution


@dataclass(frozen=True)
class _Search:
    """How far a solve has come."""

    state: State
    current: Linearisation
    damping: _Damping
    cost_before: Float[Tensor, " batch"]
    moved: Bool[Tensor, " batch"]
    converged: Bool[Tensor, " batch"]
    is_done: Bool[Tensor, ""]
    """All frames have converged."""


def _minimise(problem: Problem, state: State, start: PoseParameters) -> Solution:
    search, iterations = replayed_loop(
        _begin, _advance, (problem, state), most=problem.config.max_iterations
    )
    logger.debug("%d frames, %d iterations", len(search.moved), iterations)
    parameters, converged, joint_sigma = replayed(_finish, problem, search, start)
    return Solution(
        parameters=parameters,
        converged=converged,
        cost_before=search.cost_before,
        cost_after=search.current.cost,
        iterations=iterations,
        dropped_targets=int(problem.dropped),
        camera=search.state.camera,
        joint_sigma=joint_sigma,
    )


def _begin(problem: Problem, state: State) -> _Search:
    current = linearise(problem, state)
    cost = current.cost
    moved = torch.zeros(len(cost), dtype=torch.bool, device=cost.device)
    initial = torch.full_like(cost, problem.config.initial_damping)
    return _Search(
        state=state,
        current=current,
        damping=_Damping(initial, torch.full_like(cost, 4.0)),
        cost_before=cost,
        moved=moved,
        converged=torch.zeros_like(moved),
        is_done=torch.zeros((), dtype=torch.bool, device=cost.device),
    )


def _advance(problem: Problem, start: State, search: _Search) -> _Search:
    """One step tried."""
    current, state = search.current, search.state
    step = _limit(problem, _solve_step(current, search.damping.factor))
    trial_state = _take(problem, state, current, step)
    trial = linearise(problem, trial_state)
    accepted, gain, change = _judge(problem, current, trial, step)
    # What has converged stays, so that a frame's result does not hang on who else is in the batch.
    accepted = accepted & ~search.converged
    damping = search.damping.after(accepted, gain)
    settled = _has_settled(accepted, change, damping, problem.config.tolerance)
    converged = search.converged | settled
    return _Search(
        state=state.choose(trial_state, accepted),
        current=current.choose(trial, accepted),
        damping=damping,
        cost_before=search.cost_before,
        moved=search.moved | accepted,
        converged=converged,
        is_done=converged.all(),
    )


def _finish(
    problem: Problem, search: _Search, start: PoseParameters
) -> tuple[PoseParameters, Bool[Tensor, " batch"], Float[Tensor, "batch joint"] | None]:
    current = search.current
    sigma = _joint_sigma(problem, current) if problem.config.posterior else None
    converged = search.converged & problem.has_evidence & current.cost.isfinite()
    return _result(problem, search.state, start, search.moved), converged, sigma


def _solve_step(current: Linearisation, factor: Float[Tensor, " batch"]) -> _Step:
    """The damped Gauss–Newton step; shared betas through their Schur complement."""
    matrix = current.matrix
    diagonal = matrix.diagonal.diagonal(dim1=1, dim2=2)
    floor = 1e-6 * diagonal.amax(1, keepdim=True) + 1e-9
    damped = matrix.diagonal + torch.diag_embed(factor[:, None] * (current.scaling + floor))
    right = torch.cat([-current.gradient[..., None], current.cross], -1)
    solved, is_definite = solve_banded(
        BandedMatrix(damped, matrix.next_frame, matrix.second_frame), right
    )
    frames, response = solved[..., 0], solved[..., 1:]
    is_valid = is_definite & frames.isfinite().all(-1)
    shared = current.shared_gradient
    if len(shared):
        own = current.shared + torch.diag_embed(factor.amax() * current.shared.diagonal())
        complement = own - torch.einsum("bps,bpt->st", current.cross, response)
        rest = -shared - torch.einsum("bps,bp->s", current.cross, frames)
        schur, info = torch.linalg.cholesky_ex(complement)
        shared = torch.cholesky_solve(rest[:, None], schur)[:, 0]
        frames = frames - response @ shared
        is_valid = is_valid & (info == 0) & shared.isfinite().all() & frames.isfinite().all(-1)
    return _Step(frames, shared, is_valid)


def _limit(problem: Problem, step: _Step) -> _Step:
    """The step shortened to what the linearisation can answer for; zero where it is invalid."""
    config = problem.config
    joints = problem.model.joint_template.shape[0]
    frames = torch.where(step.is_valid[:, None], step.frames, 0.0)
    shared = torch.where(step.is_valid.all(), step.shared, 0.0)
    turns, transl, betas = _unpack(frames, joints)
    betas, camera = _split_camera(problem, betas)
    tiny = 1e-12
    scale = torch.minimum(
        config.max_rotation_step / turns.norm(dim=-1).amax(1).clamp_min(tiny),
        config.max_translation_step_m / transl.norm(dim=-1).clamp_min(tiny),
    ).clamp_max(1.0)
    if betas.shape[1]:
        largest = betas.abs().amax(1).clamp_min(tiny)
        scale = torch.minimum(scale, config.max_shape_step / largest)
    if camera.shape[1]:
        largest = camera.abs().amax(1).clamp_min(tiny)
        scale = torch.minimum(scale, config.max_camera_step / largest)
    if len(shared):
        # A shared step is balanced against all frames' steps: shorten them together.
        limits = torch.full_like(shared, config.max_shape_step)
        limits[problem.shared_betas :] = config.max_camera_step
        together = torch.minimum(scale.amin(), (limits / shared.abs().clamp_min(tiny)).amin())
        return _Step(frames * together, shared * together, step.is_valid)
    return _Step(frames * scale[:, None], shared, step.is_valid)


def _unpack(
    frames: Shaped[Tensor, "batch parameter"], joints: int
) -> tuple[Tensor, Tensor, Tensor]:
    turns = frames[:, : 3 * joints].unflatten(1, (joints, 3))
    return turns, frames[:, 3 * joints : 3 * joints + 3], frames[:, 3 * joints + 3 :]


def _split_camera(
    problem: Problem, rest: Float[Tensor, "batch rest"]
) -> tuple[Float[Tensor, "batch beta"], Float[Tensor, "batch unknown"]]:
    """Each frame's own betas, and its own unknowns of the camera behind them."""
    config = problem.config
    own = 0 if config.camera_is_shared else len(config.camera_unknowns)
    return rest[:, : rest.shape[1] - own], rest[:, rest.shape[1] - own :]


def _take(problem: Problem, state: State, current: Linearisation, step: _Step) -> State:
    turns, transl, rest = _unpack(step.frames, state.rotations.shape[1])
    betas, own_camera = _split_camera(problem, rest)
    if problem.shared_betas:
        betas = step.shared[: problem.shared_betas].expand_as(state.betas)
    elif not betas.shape[1]:
        betas = torch.zeros_like(state.betas)
    camera = None
    if state.camera is not None:
        camera = torch.zeros_like(state.camera)
        is_shared = problem.config.camera_is_shared
        camera[:, problem.config.camera_columns] = (
            step.shared[problem.shared_betas :] if is_shared else own_camera
        )
    return retract(state, current.parent_rotations, turns, transl, betas, camera)


def _judge(
    problem: Problem, current: Linearisation, trial: Linearisation, step: _Step
) -> tuple[Bool[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Which frames take the step, its gain ratio, and the relative change of cost."""
    actual, cost = current.cost - trial.cost, current.cost
    predicted = _predicted(current, step)
    is_valid = step.is_valid
    if problem.is_coupled:
        actual, predicted, cost = (
            value.sum().expand_as(value) for value in (actual, predicted, cost)
        )
        is_valid = is_valid.all().expand_as(is_valid)
    accepted = is_valid & actual.isfinite() & (actual > 0)
    gain = torch.where(accepted, actual / predicted.clamp_min(1e-30), 0.0)
    return accepted, gain, actual.abs() / cost.clamp_min(1e-12)


def _predicted(current: Linearisation, step: _Step) -> Float[Tensor, " batch"]:
    """Fall of the cost by the quadratic model; a coupled problem needs its sum only."""
    product = multiply(current.matrix, step.frames)
    predicted = -(step.frames * (2.0 * current.gradient + product)).sum(-1)
    if len(step.shared):
        mixed = torch.einsum("bp,bps,s->", step.frames, current.cross, step.shared)
        alone = step.shared @ (2.0 * current.shared_gradient + current.shared @ step.shared)
        predicted = predicted - (2.0 * mixed + alone) / len(predicted)
    return predicted


def _has_settled(
    accepted: Bool[Tensor, " batch"], change: Tensor, damping: _Damping, tolerance: float
) -> Bool[Tensor, " batch"]:
    """The last step hardly changed the cost, or damping left no step worth taking."""
    return (change < tolerance) | (~accepted & (damping.factor > 1e3))


def _result(
    problem: Problem, state: State, start: PoseParameters, moved: Bool[Tensor, " batch"]
) -> PoseParameters:
    """The state as parameters, with the start's own numbers wherever nothing may have moved."""
    found = parameters_from_state(state)
    joints = state.rotations.shape[1]
    free, transl_free, _ = _unpack(problem.free.bool() & moved[:, None], joints)
    turned = free.any(-1, keepdim=True)
    shape_moved = moved[:, None] & problem.shape_is_free
    if problem.shape_is_shared and problem.shape_is_free:
        shape_moved = torch.ones_like(shape_moved)
    return PoseParameters(
        betas=torch.where(shape_moved, found.betas, start.betas),
        global_orient=torch.where(turned[:, 0], found.global_orient, start.global_orient),
        body_pose=torch.where(turned[:, 1:], found.body_pose, start.body_pose),
        transl=torch.where(transl_free, found.transl, start.transl),
    )


def _joint_sigma(problem: Problem, current: Linearisation) -> Float[Tensor, "batch joint"]:
    joints = problem.model.joint_template.shape[0]
    hessian = current.matrix.diagonal
    jitter = 1e-6 * hessian.diagonal(dim1=1, dim2=2)
    factor, info = torch.linalg.cholesky_ex(hessian + torch.diag_embed(jitter + 1e-9))
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    half = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    variance = half.square().sum(1)
    variance = variance[:, : 3 * joints].unflatten(1, (joints, 3)).mean(-1)
    free = problem.free[:, : 3 * joints].unflatten(1, (joints, 3)).any(-1)
    known = free & (info == 0)[:, None] & variance.isfinite()
    return torch.where(known, variance.clamp_min(0).sqrt(), torch.inf)
