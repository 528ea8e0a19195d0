# SPDX-License-Identifier: Apache-2.0
"""The whole method, read from top to bottom: a sequence and its pictures in, a better sequence out.

1. pose the body and render it (`body`, `rasterizer`, `modalities`, with the person's `texture`);
2. predict where each body pixel should be (`displacement`);
3. make targets of surface points (`vertex_targets`), beside what the keypoint detector saw;
4. solve for pose, shape and translation (`solver`); repeat from 1 a few times;
5. keep what explains the picture better than the input did (`verdict`).

Long clips are solved in windows (`windows`), after the person's one shape, and where asked the
camera, have been found from frames spread over the clip. Windows know nothing of each other until
they are joined, so any process may do any of them (`checkpoint`). Reading files and talking to
people is others' work.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch

from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

from .body import BodyModel
from .displacement import DisplacementEstimator
from .errors import RefinementError
from .gpu.graphs import recording
from .parameters import parameters_of_sequence
from .refinement.cameras import check_refinable, settle_cameras, slid_parameters
from .refinement.checkpoint import Checkpoint, Shared
from .refinement.clip import Clip, check_visible
from .refinement.method import Method
from .refinement.observation import Observer
from .refinement.parts import Part, gather, joined, turned_input
from .refinement.pictures import PicturesAhead, boxes_of_clip
from .refinement.run import Freedom, Hooks, Run, Stopwatch
from .refinement.windows import Window, split_windows
from .solver import ShapeMode
from .verdict.acceptance import Verdict, apply_verdict
from .verdict.judge import judge
from .verdict.signs import FrameSigns

__all__ = ["Clip", "Freedom", "Hooks", "Refinement", "refine", "refine_windows"]


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
    checkpoint: Checkpoint | None = None,
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
        checkpoint: what was done of this very refinement before; the rest is added to it.

    Returns:
        The refined sequence of the same frames, and what is to be said of it.

    Raises:
        RefinementError: no frame shows any part of the body, or there is no evidence at all.
        FootageError: a frame cannot be decoded.
    """
    run = _run_of(clip, body, estimator, settings, method, freedom, hooks, rasterizer)
    with torch.no_grad(), recording(body.device):
        return _Steps(run, checkpoint or Checkpoint()).finish()


def refine_windows(
    clip: Clip,
    windows: Collection[int],
    checkpoint: Checkpoint,
    *,
    body: BodyModel,
    estimator: DisplacementEstimator | None,
    settings: RefineSettings | None = None,
    hooks: Hooks | None = None,
    rasterizer: str = "warp",
) -> None:
    """Do some windows of what `refine` would do, into a checkpoint that it can go on from.

    Args:
        clip: as for `refine`, like all that is not explained here.
        windows: which, as `windows.split_windows` counts them; without any, only what all of them
            share is found.
        checkpoint: is given what was not in it.

    Raises:
        RefinementError, FootageError: as `refine`.
    """
    run = _run_of(clip, body, estimator, settings, None, None, hooks, rasterizer)
    with torch.no_grad(), recording(body.device):
        _Steps(run, checkpoint).do(windows)


def _run_of(
    clip: Clip,
    body: BodyModel,
    estimator: DisplacementEstimator | None,
    settings: RefineSettings | None,
    method: Method | None,
    freedom: Freedom | None,
    hooks: Hooks | None,
    rasterizer: str,
) -> Run:
    settings, method = settings or RefineSettings(), method or Method()
    freedom, hooks = freedom or Freedom(), hooks or Hooks()
    check_refinable(settings, len(clip.views))
    observer = _observer(clip, body, estimator, settings, method, rasterizer)
    return Run(clip, body, settings, method, freedom, hooks, Stopwatch(), observer)


class _Steps:
    """A refinement step by step; what its checkpoint has is not done again."""

    def __init__(self, run: Run, checkpoint: Checkpoint) -> None:
        clip, body, settings = run.clip, run.body, run.settings
        self._checkpoint = checkpoint
        self._given = parameters_of_sequence(clip.sequence, body)
        self._boxes = boxes_of_clip(clip.views, body, self._given)
        check_visible(self._boxes)
        if run.observer is None and not clip.landmarks and not clip.evidence:
            raise RefinementError(
                "neither displacement nor keypoints are switched on, so nothing is known of the "
                "picture: switch one of them on, or name evidence files"
            )
        frames = len(self._given)
        self._windows = split_windows(frames, settings.window_frames, settings.window_overlap)
        self._shape: ShapeMode = run.window_shape(len(self._windows), frames)
        self._run, self._near, self._start = run, self._given, self._given

    def do(self, windows: Collection[int]) -> list[Part]:
        """Those windows, in order, after what all share."""
        parts: list[Part] = []
        kept = {k: self._checkpoint.window(k, self._run.body.device) for k in sorted(windows)}
        missing = [self._windows[k] for k, part in kept.items() if part is None]
        frames = sorted({frame for w in missing for frame in range(w.start, w.stop)})
        with ExitStack() as opened:
            ahead = self._find_what_is_shared(frames, opened)
            for done, (k, part) in enumerate(kept.items(), 1):
                if part is None:
                    part = self._refined(self._windows[k], ahead)
                    self._checkpoint.keep_window(k, part)
                parts.append(part)
                if self._shape != "fixed":
                    self._start = replace(self._start, betas=parts[0].parameters.betas)
                hooks = self._run.hooks
                hooks.progress(0.15 + 0.8 * done / len(kept), "refining")
                is_whole = len(kept) == len(self._windows)
                if hooks.publish is not None and is_whole and done < len(kept):
                    hooks.publish(self._joined(parts))  # what all of them give comes at once
        return parts

    def _find_what_is_shared(
        self, frames: Sequence[int], opened: ExitStack
    ) -> PicturesAhead | None:
        """Sets shape and camera; the windows' pictures, which are decoded beside that where the
        camera doesn't decide what is cut out of them."""
        run, given, shared = self._run, self._given, self._checkpoint.shared(self._run.body.device)
        ahead = None
        if shared is None:
            decide = run.frames_that_decide(given)
            if not run.seeks_camera:
                ahead = opened.enter_context(run.pictures_ahead(self._boxes, frames))
            betas = given.betas
            if decide is not None:
                betas, run = run.with_shape_and_camera(given, decide)
            shared = Shared(betas, run.camera)
            self._checkpoint.keep_shared(shared)
        self._run = run = replace(run, camera=shared.camera)
        self._near = slid_parameters(given, shared.camera, run.clip.sequence, run.body)
        self._start = replace(self._near, betas=shared.betas)
        if ahead is None:
            boxes = self._boxes
            if self._near is not given:
                boxes = boxes_of_clip(run.clip.views, run.body, self._near)
            ahead = opened.enter_context(run.pictures_ahead(boxes, frames))
        return ahead

    def _refined(self, window: Window, ahead: PicturesAhead | None) -> Part:
        rows = torch.arange(window.start, window.stop)
        of_window = slice(window.start, window.stop)
        start, near = self._start[of_window], self._near[of_window]
        pictures = self._run.taken(ahead, rows)
        return self._run.refine_part(start, near, rows, pictures, shape=self._shape)

    def finish(self) -> Refinement:
        """All windows, joined, and the verdict on them."""
        parts = self.do(range(len(self._windows)))
        run, body, settings = self._run, self._run.body, self._run.settings
        sequence = run.clip.sequence
        found = self._joined(parts)
        turned, start = turned_input(sequence, self._given, parts, body)
        verdict, signs = judge(run, start, parameters_of_sequence(found, body), parts)
        camera = gather(parts, lambda part: part.camera, len(start))
        if camera is not None and verdict.refined.any():
            weight = verdict.step * settings.influence
            sequence, found = settle_cameras(sequence, found, camera, weight, settings, body)
        refined = apply_verdict(sequence, found, verdict, settings, body, turned=turned)
        run.hooks.progress(1.0, "done")
        return Refinement(refined, found, verdict, signs, run.watch.timings_ms)

    def _joined(self, parts: list[Part]) -> PoseSequence:
        """The windows done so far as one sequence, the input where nothing is solved yet."""
        windows = self._windows[: len(parts)]
        return joined(self._run.clip.sequence, windows, parts, self._start, self._run.body)


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
