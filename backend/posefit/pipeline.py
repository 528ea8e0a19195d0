# SPDX-License-Identifier: Apache-2.0
"""The whole method, read from top to bottom: a sequence and its pictures in, a better sequence out.

1. pose the body and render it (`body`, `rasterizer`, `modalities`, with the person's `texture`);
2. predict where each body pixel should be (`displacement`);
3. make targets of surface points (`vertex_targets`), beside what the keypoint detector saw;
4. solve for pose, shape and translation (`solver`); repeat from 1 a few times;
5. keep what explains the picture better than the input did (`verdict`).

Long clips are solved in windows (`windows`), after the person's one shape, and where asked the
camera, have been found from frames spread over the clip. Reading files and talking to people is
others' work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

from .body import BodyModel
from .camera_refinement import check_refinable, settle_cameras, slid_parameters
from .clip import Clip, check_visible
from .clip_parts import Part, gather, joined, turned_input
from .displacement import DisplacementEstimator
from .errors import RefinementError
from .gpu.graphs import recording
from .method import Method
from .observation import Observer
from .parameters import parameters_of_sequence
from .refinement_run import Freedom, Hooks, Run, Stopwatch
from .verdict.acceptance import Verdict, apply_verdict
from .verdict.judge import judge
from .verdict.signs import FrameSigns
from .windows import split_windows

__all__ = ["Clip", "Freedom", "Hooks", "Refinement", "refine"]


@dataclass(frozen=True)
class Refinement:
    """What came out."""

    sequence: PoseSequence
    """Refined poses with confidence and status; frames that got no better are the input's."""
    found: PoseSequence
    """What the solver found, before the verdict."""
    verdict: Verdict
    """Why each frame was kept or refined."""
    signs: FrameSigns | None
    """What the verdict was made of; None where evidence was judged by its own cost."""
    timings_ms: dict[str, float]
    """Milliseconds for each step."""


def refine(
    clip: Clip,
    *,
    body: BodyModel,
    estimator: DisplacementEstimator | None,
    settings: RefineSettings | None = None,
    method: Method | None = None,
    freedom: Freedom | None = None,
    hooks: Hooks | None = None,
    rasterizer: str = "warp",
) -> Refinement:
    """Move the bodies of a sequence until they lie over its pictures.

    Args:
        clip: sequence, pictures, keypoints and texture.
        body: the model that the sequence poses; its device is where everything runs.
        estimator: predicts displacement; None refines from keypoints alone.
        settings: how; the defaults suit most clips.
        method: what need not be asked for; the defaults were chosen on the development set.
        freedom: joints and frames that must not move.
        hooks: progress, cancelling, provisional results.
        rasterizer: `warp` or `pytorch3d`.

    Returns:
        The refined sequence of the same frames, and what is to be said of it.

    Raises:
        RefinementError: no frame shows any part of the body, or there is no evidence at all.
        FootageError: a frame cannot be decoded.
    """
    settings, freedom, hooks = settings or RefineSettings(), freedom or Freedom(), hooks or Hooks()
    method = method or Method()
    check_refinable(settings, len(clip.views))
    observer = _observer(clip, body, estimator, settings, method, rasterizer)
    run = Run(clip, body, settings, method, freedom, hooks, Stopwatch(), observer)
    with torch.no_grad(), recording(body.device):
        return _refined(run)


def _refined(run: Run) -> Refinement:
    clip, body, settings, hooks = run.clip, run.body, run.settings, run.hooks
    start = parameters_of_sequence(clip.sequence, body)
    check_visible(clip, start, body)
    if run.observer is None and not clip.landmarks and not clip.evidence:
        raise RefinementError(
            "neither displacement nor keypoints are switched on, so nothing is known of the "
            "picture: switch one of them on, or name evidence files"
        )
    betas, run = run.with_shape_and_camera(start)
    near = slid_parameters(start, run.camera, clip.sequence, body)
    start_shaped = replace(near, betas=betas)
    windows = split_windows(len(start), settings.window_frames, settings.window_overlap)
    shape = run.window_shape(len(windows), len(start))
    parts: list[Part] = []
    with run.pictures_ahead(near) as ahead:
        for k, window in enumerate(windows):
            rows = torch.arange(window.start, window.stop)
            parts.append(
                run.refine_part(start_shaped[rows], near[rows], rows, shape=shape, ahead=ahead)
            )
            if shape != "fixed":
                start_shaped = replace(start_shaped, betas=parts[0].parameters.betas)
            hooks.progress(0.15 + 0.8 * (k + 1) / len(windows), "refining")
            hooks.publish(joined(clip.sequence, windows[: k + 1], parts, start_shaped, body))
    found = joined(clip.sequence, windows, parts, start_shaped, body)
    turned, start = turned_input(clip.sequence, start, parts, body)
    verdict, signs = judge(run, start, parameters_of_sequence(found, body), parts)
    given, camera = clip.sequence, gather(parts, lambda part: part.camera, len(start))
    if camera is not None and verdict.refined.any():
        weight = verdict.step * settings.influence
        given, found = settle_cameras(given, found, camera, weight, settings, body)
    sequence = apply_verdict(given, found, verdict, settings, body, turned=turned)
    hooks.progress(1.0, "done")
    return Refinement(sequence, found, verdict, signs, run.watch.timings_ms)


def _observer(
    clip: Clip,
    body: BodyModel,
    estimator: DisplacementEstimator | None,
    settings: RefineSettings,
    method: Method,
    rasterizer: str,
) -> Observer | None:
    if estimator is None:
        return None
    return Observer(
        body,
        estimator,
        crop_size=settings.crop_size,
        crop_margin=method.crop_margin,
        rasterizer=rasterizer,
        others=clip.others,
    )
