# SPDX-License-Identifier: Apache-2.0
"""Which frames are better than what came in, and how sure each joint is.

A frame is judged by what its pictures say before and after: how far the rendered body is from the
picture (a look of its own at the result, not the one that made it), and how far the detector's
landmarks are. A frame that is not better keeps the input. Neighbours of kept frames blend into
them over a few frames, so that turning a frame down leaves no jump.
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

from .body import BodyModel, PoseParameters
from .solver import Evidence, SolverConfig, solve
from .windows import blend_poses

__all__ = ["Verdict", "accept", "apply_verdict", "confidence_from_sigma", "keypoint_cost"]

_RAMP_FRAMES = 4
"""Frames over which refined poses fade into a kept frame."""
_SIGMA_HALF_RAD = 0.15
"""Posterior σ of a joint's rotation at which confidence is a half."""
_LEAST_COST = 1e-3


@dataclass(frozen=True)
class Verdict:
    """What became of each frame."""

    ratio: npt.NDArray[np.float64]
    """(T,) misfit after by misfit before; below 1 is better, NaN where nothing was seen."""
    refined: npt.NDArray[np.bool_]
    """(T,) frames that take the refined pose."""
    seen: npt.NDArray[np.bool_]
    """(T,) frames that had any evidence."""
    confidence: npt.NDArray[np.float32] | None
    """(T, J) 0 to 1."""

    @property
    def acceptance_rate(self) -> float:
        """Share of frames that take the refined pose."""
        return float(self.refined.mean())


def accept(
    disagreement_before: Float[Tensor, " frame"] | None,
    disagreement_after: Float[Tensor, " frame"] | None,
    keypoint_costs: Sequence[tuple[Tensor, Tensor]],
    confidence: npt.NDArray[np.float32] | None,
    pinned: Bool[Tensor, " frame"] | None = None,
) -> Verdict:
    """Judge each frame by its evidence before and after.

    Args:
        disagreement_before, disagreement_after: of rendering and picture, 0 to 1; NaN: not seen.
        keypoint_costs: robust cost before and after in each view; zero: not seen.
        confidence: (T, J) of the joints.
        pinned: frames that were not to change.

    Returns:
        The verdict; a frame is refined where the mean of its ratios is below 1.
    """
    ratios = []
    if disagreement_before is not None and disagreement_after is not None:
        before, after = disagreement_before.double(), disagreement_after.double()
        ratios.append((after + 0.02) / (before + 0.02))
    for before, after in keypoint_costs:
        before, after = before.double(), after.double()
        ratio = (after + _LEAST_COST) / (before + _LEAST_COST)
        ratios.append(torch.where(before > 0, ratio, torch.nan))
    ratio = torch.stack(ratios).nanmean(0).cpu().numpy()
    seen = np.isfinite(ratio)
    refined = seen & (np.nan_to_num(ratio, nan=2.0) < 1.0)
    if pinned is not None:
        refined &= ~pinned.cpu().numpy()
    if refined.mean() < 0.5 and (pinned is None or not pinned.any()):
        # The new shape belongs to the refined poses: with most of them turned down it goes too.
        refined[:] = False
    return Verdict(ratio, refined, seen, confidence)


def apply_verdict(
    given: PoseSequence, found: PoseSequence, verdict: Verdict, settings: RefineSettings
) -> PoseSequence:
    """The found poses where they were accepted, the given ones elsewhere, without jumps between.

    Args:
        given: the input.
        found: the refined sequence.
        verdict: of its frames.
        settings: their influence blends everything.
    """
    status = [
        "refined" if refined else "kept" if seen else "no_person"
        for refined, seen in zip(verdict.refined, verdict.seen, strict=True)
    ]
    if not verdict.refined.any():
        return given.replace(confidence=verdict.confidence, status=tuple(status))
    weight = (ramp(verdict.refined) * settings.influence)[:, None]
    betas = found.betas
    if settings.influence < 1 and betas.shape == given.betas.shape:
        betas = given.betas + settings.influence * (betas - given.betas)
    return found.replace(
        poses=blend_poses(given.poses, found.poses, weight[..., None]),
        trans=given.trans + weight * (found.trans - given.trans),
        betas=betas,
        confidence=verdict.confidence,
        status=tuple(status),
    )


def ramp(refined: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(T,) weight of the refined pose: 0 in kept frames, 1 from a few frames away from them."""
    kept = np.flatnonzero(~refined)
    if not len(kept):
        return np.ones(len(refined))
    distance = np.abs(np.arange(len(refined))[:, None] - kept[None]).min(1)
    return np.minimum(distance / _RAMP_FRAMES, 1.0)


def keypoint_cost(
    body: BodyModel,
    parameters: PoseParameters,
    evidence: Evidence,
    camera: Float[Tensor, "frame 2"] | None = None,
) -> Float[Tensor, " frame"]:
    """Robust cost of one kind of evidence alone, for each frame; `camera` as in `solve`."""
    config = SolverConfig(max_iterations=0, shape="fixed", limit_weight=0.0)
    return solve(body, parameters, [evidence], config, camera=camera).cost_before


def confidence_from_sigma(
    joint_sigma: Float[Tensor, "frame joint"] | None,
) -> npt.NDArray[np.float32] | None:
    """(T, J) confidence, 0 to 1, from posterior standard deviations in radians."""
    if joint_sigma is None:
        return None
    confidence = 1.0 / (1.0 + (joint_sigma / _SIGMA_HALF_RAD).square())
    return confidence.nan_to_num(0.0).cpu().numpy().astype(np.float32)
