# SPDX-License-Identifier: Apache-2.0
"""What a refinement's result is worth: signs are gathered, a gate judges, a verdict is made.

Step 5 of the method. `gate` holds the calibrated model, `acceptance` says what a verdict does to a
sequence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..body import PoseParameters
from ..gpu.upload import upload
from ..refinement.clip import clip_seconds
from ..refinement.evidence_error import evidence_error_m
from ..refinement.parts import Part, gather
from ..refinement.run import Run
from .acceptance import (
    Verdict,
    confidence_from_sigma,
    cost_ratio,
    evidence_cost,
    steps_by_cost,
    verdict_of,
)
from .gate import SourceName, load_gates
from .signs import FrameSigns, change_signs, unusualness

__all__ = ["evidence_source", "judge"]

_LOOK_NOISE = 0.02
"""Disagreement of a body that lies right over its picture."""
_MOST_SIGMA_RAD = 3.0


def judge(
    run: Run, start: PoseParameters, found: PoseParameters, parts: Sequence[Part]
) -> tuple[Verdict, FrameSigns | None]:
    """How much of each frame's change is taken.

    Args:
        run: the refinement.
        start: its input.
        found: what it found.
        parts: its solved windows.

    Returns:
        The verdict, and the signs that it comes from; None where evidence had no gate.
    """
    times, pinned = clip_seconds(run.clip), run.freedom.pinned
    confidence = confidence_from_sigma(gather(parts, lambda part: part.joint_sigma, len(start)))
    ratio = cost_ratio(_costs(run, start, found, parts))
    source = evidence_source(run)
    if source is None:
        signs, steps = None, steps_by_cost(ratio)
    else:
        signs = _signs(run, start, found, parts)
        steps = load_gates()[source].steps(signs)
    return verdict_of(steps, ratio, times, confidence, pinned), signs


def evidence_source(run: Run) -> SourceName | None:
    """Which gate judges: by what was seen of the pictures; None for evidence that has none."""
    if run.observer is not None:
        name = run.observer.estimator.name
        return "net-fast" if name == "net-fast" else "net" if name.startswith("net") else None
    # The gate was fitted to this project's detector in one camera. What other tools say may be much
    # better, and several cameras know depth.
    is_alone = len(run.clip.views) == 1 and not run.clip.evidence
    return "keypoints" if run.clip.landmarks and is_alone else None


def _costs(
    run: Run, start: PoseParameters, found: PoseParameters, parts: Sequence[Part]
) -> list[tuple[Tensor, Tensor]]:
    """Misfit before and after by each kind of evidence; 0 before where it saw nothing."""
    camera = gather(parts, lambda part: part.camera, len(start))
    costs = [
        (evidence_cost(run.body, start, one), evidence_cost(run.body, found, one, camera))
        for one in (*run.clip.landmarks, *run.clip.evidence)
    ]
    before = _figure(parts, "before", "disagreement", len(start))
    after = _figure(parts, "after", "disagreement", len(start))
    if before is not None and after is not None:
        seen = before.isfinite() & after.isfinite()
        before, after = (torch.where(seen, one + _LOOK_NOISE, 0.0) for one in (before, after))
        costs.append((before, after))
    return costs


def _signs(
    run: Run, start: PoseParameters, found: PoseParameters, parts: Sequence[Part]
) -> FrameSigns:
    body, frames = run.body, len(start)
    cameras = [
        upload(np.stack([view.camera(t).world_to_camera for t in range(frames)]), body.device)
        for view in run.clip.views
    ]
    change, depth_share = change_signs(body, start, found, cameras)
    if run.observer is None:
        error_before, error_after = (
            evidence_error_m(body, one, run.clip.landmarks) for one in (start, found)
        )
    else:
        error_before, error_after = (
            _figure(parts, when, "error_m", frames) for when in ("before", "after")
        )
    assert error_before is not None
    assert error_after is not None
    withheld = gather(parts, lambda part: part.withheld_m, frames)
    return FrameSigns(
        error_before_m=error_before,
        error_after_m=error_after,
        change_m=change,
        depth_share=depth_share,
        input_scale=_input_scale(parts, frames),
        joint_sigma=_mean_sigma(parts, frames),
        unusual_before=unusualness(body, start),
        unusual_after=unusualness(body, found),
        withheld_before_m=None if withheld is None else withheld[:, 0],
        withheld_after_m=None if withheld is None else withheld[:, 1],
        doubt_m=_figure(parts, "after", "doubt_m", frames),
        seen_share=_figure(parts, "after", "seen_share", frames),
    )


def _figure(parts: Sequence[Part], when: str, name: str, frames: int) -> Tensor | None:
    """A figure of the looks before or after; None without looks."""

    def take(part: Part) -> Tensor | None:
        figures = getattr(part, when)
        return None if figures is None else getattr(figures, name)

    return gather(parts, take, frames)


def _input_scale(parts: Sequence[Part], frames: int) -> Float[Tensor, " frame"]:
    scales = gather(parts, lambda part: torch.full((len(part.rows),), part.input_scale), frames)
    assert scales is not None
    return scales


def _mean_sigma(parts: Sequence[Part], frames: int) -> Float[Tensor, " frame"]:
    """Mean posterior σ of the joints that were free, radians."""
    sigma = gather(parts, lambda part: part.joint_sigma, frames)
    assert sigma is not None, "every solve of a refinement asks for the posterior"
    is_free = sigma.isfinite() & (sigma > 0)
    sigma = torch.where(is_free, sigma, 0.0).clamp_max(_MOST_SIGMA_RAD)
    return sigma.sum(1) / is_free.sum(1).clamp_min(1)
