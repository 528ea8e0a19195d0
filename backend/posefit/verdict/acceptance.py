# SPDX-License-Identifier: Apache-2.0
"""How much of each frame's change is taken, and how sure each joint is.

A gate (`gate`) judges each frame by signs that were held out from making its result
(`signs`): a frame takes the whole step, a part of it, or keeps the input. Evidence that no
gate was fitted for is judged by its own cost before and after. Steps change slowly over time, so
that turning a frame down leaves no jump.

Betas belong to all frames: they take the mean step of the frames. A frame that keeps its pose wears
the person's new shape with its pelvis where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

from ..body import BodyModel, PoseParameters
from ..refinement.windows import blend_poses
from ..solver import Evidence, SolverConfig, solve, take_frames

__all__ = [
    "Verdict",
    "apply_verdict",
    "confidence_from_sigma",
    "cost_ratio",
    "evidence_cost",
    "slow_steps",
    "steps_by_cost",
    "verdict_of",
]

FADE_SECONDS = 0.13
"""Time over which a step of 1 fades to a kept frame."""
_SIGMA_HALF_RAD = 0.15
"""Posterior σ of a joint's rotation at which confidence is a half."""
_COST_FRAMES = 512
"""Frames whose evidence is weighed at once: memory does not grow with the clip."""
_LEAST_COST = 1e-3
_LEAST_TURN_RAD = 1e-6

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What became of each frame."""

    step: Array
    """(T,) how much of the change each frame takes, 0 to 1."""
    ratio: Array
    """(T,) misfit after by misfit before; below 1 is better, NaN where nothing was seen."""
    seen: npt.NDArray[np.bool_]
    """(T,) frames that had any evidence."""
    confidence: npt.NDArray[np.float32] | None
    """(T, J) 0 to 1."""

    @property
    def refined(self) -> npt.NDArray[np.bool_]:
        """(T,) frames that take a part of the change or all of it."""
        return self.step > 0

    @property
    def shape_step(self) -> float:
        """How much of the change of shape is taken, by all frames alike."""
        return float(np.mean(self.step[self.seen])) if self.seen.any() else 0.0


def verdict_of(
    steps: Array,
    ratio: Array,
    times: Array,
    confidence: npt.NDArray[np.float32] | None,
    pinned: Bool[Tensor, " frame"] | None = None,
) -> Verdict:
    """The verdict that steps make: none where nothing was seen, and no sudden ones.

    Args:
        steps: (T,) from `Gate.steps` or `steps_by_cost`.
        ratio: (T,) misfit after by misfit before; NaN: not seen.
        times: (T,) seconds.
        confidence: (T, J) of the joints.
        pinned: frames that were not to change.
    """
    seen = np.isfinite(ratio)
    steps = np.where(seen, steps, 0.0)
    if pinned is not None:
        steps = np.where(pinned.cpu().numpy(), 0.0, steps)
    return Verdict(slow_steps(steps, times), ratio, seen, confidence)


def steps_by_cost(ratio: Array) -> Array:
    """(T,) steps of evidence that has no gate: all of a frame's change where its own cost fell."""
    return (np.nan_to_num(ratio, nan=2.0) < 1.0).astype(np.float64)


def cost_ratio(costs: Sequence[tuple[Tensor, Tensor]]) -> Array:
    """(T,) mean over evidence of cost after by cost before; NaN where nothing was seen."""
    ratios = []
    for before, after in costs:
        before, after = before.double(), after.double()
        ratio = (after + _LEAST_COST) / (before + _LEAST_COST)
        ratios.append(torch.where(before > 0, ratio, torch.nan))
    return torch.stack(ratios).nanmean(0).cpu().numpy()


def slow_steps(steps: Array, times: Array) -> Array:
    """(T,) the largest steps that change by no more than 1 in `FADE_SECONDS` and exceed none."""
    slowed, most = steps.copy(), np.abs(np.diff(times)) / FADE_SECONDS
    for t in range(1, len(slowed)):
        slowed[t] = min(slowed[t], slowed[t - 1] + most[t - 1])
    for t in range(len(slowed) - 2, -1, -1):
        slowed[t] = min(slowed[t], slowed[t + 1] + most[t])
    return slowed


def apply_verdict(
    given: PoseSequence,
    found: PoseSequence,
    verdict: Verdict,
    settings: RefineSettings,
    body: BodyModel | None = None,
    *,
    turned: PoseSequence | None = None,
) -> PoseSequence:
    """As much of the found poses as was accepted.

    Args:
        given: the input.
        found: the refined sequence.
        verdict: of its frames.
        settings: their influence blends everything.
        body: keeps pelvises where they are while the shape changes; None for one shape.
        turned: the input with turns about bones that evidence of their own decided
            (`twist_search`): frames keep these whatever is said of the rest, and are then not
            called kept.
    """
    base = given.poses if turned is None else turned.poses
    is_turned = np.abs(base - given.poses).reshape(len(given), -1).max(1) > _LEAST_TURN_RAD
    status = [
        "refined" if refined else "kept" if seen else "no_person"
        for refined, seen in zip(verdict.refined | is_turned, verdict.seen, strict=True)
    ]
    if "refined" not in status:
        return given.replace(confidence=verdict.confidence, status=tuple(status))
    poses = blend_poses(base, found.poses, verdict.step[:, None, None])
    weight = (verdict.step * settings.influence)[:, None]
    betas = _blended_betas(given, found, verdict.shape_step * settings.influence)
    rest_given, rest_found, rest = (
        _rest_pelvis(body, b) for b in (given.betas, found.betas, betas)
    )
    trans = (given.trans + rest_given) * (1 - weight) + weight * (found.trans + rest_found) - rest
    return found.replace(
        poses=blend_poses(given.poses, poses, np.full((len(given), 1, 1), settings.influence)),
        trans=trans,
        betas=betas,
        confidence=verdict.confidence,
        status=tuple(status),
    )


def _blended_betas(given: PoseSequence, found: PoseSequence, weight: float) -> np.ndarray:
    """The given shape on its way to the found one; a shape of another size is replaced."""
    if given.betas.shape[-1] != found.betas.shape[-1] or weight >= 1:
        return found.betas
    return (given.betas + weight * (found.betas - given.betas)).astype(np.float32)


def _rest_pelvis(body: BodyModel | None, betas: np.ndarray) -> np.ndarray:
    """Where the pelvis of a shape lies before the body is moved, metres."""
    if body is None:
        return np.zeros(3)
    count = min(betas.shape[-1], body.num_betas)
    directions = body.joint_shapedirs[0, :, :count].double().cpu().numpy()
    template = body.joint_template[0].double().cpu().numpy()
    return template + betas[..., :count].astype(np.float64) @ directions.T


def evidence_cost(
    body: BodyModel,
    parameters: PoseParameters,
    evidence: Evidence,
    camera: Float[Tensor, "frame 2"] | None = None,
) -> Float[Tensor, " frame"]:
    """Robust cost of one evidence alone, for each frame.

    Args:
        body: the body model.
        parameters: poses.
        evidence: what was seen.
        camera: what the evidence's cameras were found to be; None: as given.
    """
    config = SolverConfig(max_iterations=0, shape="fixed", limit_weight=0.0)
    costs = []
    for first in range(0, len(parameters), _COST_FRAMES):
        part = slice(first, first + _COST_FRAMES)
        unknowns = None if camera is None else camera[part]
        seen = take_frames(evidence, part)
        costs.append(solve(body, parameters[part], [seen], config, camera=unknowns).cost_before)
    return torch.cat(costs)


def confidence_from_sigma(
    joint_sigma: Float[Tensor, "frame joint"] | None,
) -> npt.NDArray[np.float32] | None:
    """(T, J) confidence, 0 to 1, from posterior standard deviations in radians."""
    if joint_sigma is None:
        return None
    confidence = 1.0 / (1.0 + (joint_sigma / _SIGMA_HALF_RAD).square())
    return confidence.nan_to_num(0.0).cpu().numpy().astype(np.float32)
