# SPDX-License-Identifier: Apache-2.0
"""The whole method, read from top to bottom: a sequence and its pictures in, a better sequence out.

1. pose the body and render it (`body`, `rasterizer`, `modalities`, with the person's `texture`);
2. predict where each body pixel should be (`displacement`);
3. make targets of surface points (`vertex_targets`), beside what the keypoint detector saw;
4. solve for pose, shape and translation (`solver`); repeat from 1 a few times;
5. keep what explains the picture better than the input did (`acceptance`).

Long clips are solved in windows (`windows`), after the person's one shape, and where asked the
camera, have been found from frames spread over the clip. Reading files and talking to people is
others' work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

from .acceptance import Verdict, accept, apply_verdict, joint_confidence, keypoint_cost, ramp
from .body import BodyModel, PoseParameters, pose_body
from .camera_refinement import (
    as_given,
    check_refinable,
    settle_cameras,
    slid_parameters,
    with_refined_cameras,
)
from .clip import Clip, check_visible, clip_seconds, world_stands_still
from .clip_parts import Part, gather, joined, mean_of_views
from .contacts import find_contacts
from .displacement import DisplacementEstimator
from .errors import RefinementError
from .observation import Observer, slice_landmarks
from .parameters import parameters_of_sequence
from .pictures import Picture, load_pictures
from .solver import (
    Contacts,
    Evidence,
    FocalMode,
    ShapeMode,
    SolverConfig,
    held_joints,
    solve,
    take_frames,
)
from .windows import split_windows

__all__ = ["Clip", "Freedom", "Hooks", "Refinement", "refine"]

logger = logging.getLogger(__name__)

_FOCAL_POINTS = 150.0
"""Weight of a view's points where a focal length is sought: perspective is a small part of what
they say, and what is wrong with the input's pose looks like some of it."""

_SHAPE_FRAMES = 32
"""Frames, spread over the clip, that decide about the person's shape."""
_LEAST_SHAPE_FRAMES = 8
"""With fewer frames the shape stays: one pose cannot tell a long arm from a near one."""


@dataclass(frozen=True)
class Hooks:
    """How a refinement talks to whoever asked for it."""

    progress: Callable[[float, str], None] = lambda fraction, stage: None
    """Told how much is done, 0 to 1, and what is being done."""
    check_cancelled: Callable[[], None] = lambda: None
    """Raises to stop; called at least once for each batch of frames."""
    publish: Callable[[PoseSequence], None] = lambda sequence: None
    """Given each provisional revision of the whole sequence."""


@dataclass(frozen=True)
class Freedom:
    """What must not move."""

    locked: Bool[Tensor, " joint"] | None = None
    """Joints that keep their rotation."""
    stiffness: Float[Tensor, " joint"] | None = None
    """Multiplies how hard each joint holds to the input."""
    pinned: Bool[Tensor, " frame"] | None = None
    """Frames that never change."""


@dataclass(frozen=True)
class Refinement:
    """What came out."""

    sequence: PoseSequence
    """Refined poses with confidence and status; frames that got no better are the input's."""
    verdict: Verdict
    """Why each frame was kept or refined."""
    timings_ms: dict[str, float]
    """Milliseconds for each step."""


@dataclass
class _Stopwatch:
    """Milliseconds by step; the one thing that changes while a refinement runs."""

    timings_ms: dict[str, float] = field(default_factory=dict)

    def time(self, step: str, function: Callable, *arguments, **options):
        began = time.perf_counter()
        result = function(*arguments, **options)
        spent = (time.perf_counter() - began) * 1e3
        self.timings_ms[step] = self.timings_ms.get(step, 0.0) + spent
        return result


@torch.no_grad()
def refine(
    clip: Clip,
    *,
    body: BodyModel,
    estimator: DisplacementEstimator | None,
    settings: RefineSettings | None = None,
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
    start = parameters_of_sequence(clip.sequence, body)
    check_visible(clip, start, body)
    if estimator is None and not clip.landmarks and not clip.evidence:
        raise RefinementError(
            "neither displacement nor keypoints are switched on, so nothing is known of the "
            "picture: switch one of them on, or name evidence files"
        )
    check_refinable(settings, len(clip.views))
    run = _Run(clip, body, settings, freedom, hooks, _Stopwatch(), _observer(
        body, estimator, settings, rasterizer))  # fmt: skip
    betas, run = run.with_shape_and_camera(start)
    near = slid_parameters(start, run.camera, clip.sequence, body)
    start_shaped = replace(near, betas=betas)
    windows = split_windows(len(start), settings.window_frames, settings.window_overlap)
    parts: list[Part] = []
    for k, window in enumerate(windows):
        rows = torch.arange(window.start, window.stop)
        parts.append(run.refine_part(start_shaped[rows], near[rows], rows))
        hooks.progress(0.15 + 0.8 * (k + 1) / len(windows), "refining")
        hooks.publish(joined(clip.sequence, windows[: k + 1], parts, start_shaped, body))
    found = joined(clip.sequence, windows, parts, start_shaped, body)
    verdict = run.judge(start, parameters_of_sequence(found, body), parts)
    given, camera = clip.sequence, gather(parts, "camera", len(start))
    if camera is not None and verdict.refined.any():
        weight = ramp(verdict.refined) * settings.influence
        given, found = settle_cameras(given, found, camera, weight, settings, body)
    sequence = apply_verdict(given, found, verdict, settings)
    hooks.progress(1.0, "done")
    return Refinement(sequence, verdict, run.watch.timings_ms)


@dataclass(frozen=True)
class _Run:
    """One refinement under way."""

    clip: Clip
    body: BodyModel
    settings: RefineSettings
    freedom: Freedom
    hooks: Hooks
    watch: _Stopwatch
    observer: Observer | None
    camera: Float[Tensor, "frame 2"] | None = None
    """What the clip's camera was found to be; None: as given, or not yet known."""

    def with_shape_and_camera(self, start: PoseParameters) -> tuple[Tensor, _Run]:
        """Betas, and the camera, that frames spread over the clip agree on."""
        frames = len(start)
        has_shape = self.settings.refine_shape and frames >= _LEAST_SHAPE_FRAMES
        if not has_shape and not self.seeks_camera:
            return start.betas, self
        self.hooks.progress(0.02, "finding the person's shape")
        spread = np.linspace(0, frames - 1, min(frames, _SHAPE_FRAMES)).round().astype(int)
        rows = torch.from_numpy(np.unique(spread))
        shape: ShapeMode = "sequence" if has_shape else "fixed"
        part = self.refine_part(start[rows], start[rows], rows, shape=shape, over_clip=True)
        betas = part.parameters.betas.mean(0, keepdim=True).expand_as(start.betas)
        self.hooks.progress(0.15, "refining")
        camera = None if part.camera is None else part.camera[:1].expand(frames, 2).contiguous()
        return betas.contiguous(), replace(self, camera=camera)

    @property
    def seeks_camera(self) -> bool:
        """Whether one camera is sought for the clip, beside its shape."""
        return self.settings.refine_focal == "clip" or self.settings.refine_distortion

    def refine_part(
        self,
        start: PoseParameters,
        reference: PoseParameters,
        rows: Int[Tensor, " part"],
        *,
        shape: ShapeMode = "fixed",
        over_clip: bool = False,
    ) -> Part:
        """Look and solve in turns; `over_clip` for frames that decide what the clip shares."""
        frames = rows.tolist()
        pictures = self._pictures(frames, reference) if self.observer is not None else []
        landmarks: list[Evidence] = [slice_landmarks(one, rows) for one in self.clip.landmarks]
        landmarks += [take_frames(one, rows) for one in self.clip.evidence]
        # Betas of the reference are those that were found: the shape is not pulled back.
        camera = None if self.camera is None else self.camera[rows]
        part = Part(rows, start, replace(reference, betas=start.betas), camera=camera)
        for k in range(self.settings.rounds):
            looks = self._look(pictures, frames, part)
            if k == 0 and looks:
                part = replace(part, disagreement_before=mean_of_views(looks))
            evidence = [*landmarks, *(as_given(look.points, part.camera) for look in looks)]
            last = k == self.settings.rounds - 1
            solution = self.watch.time(
                "solve", self._solve, part, evidence, shape, over_clip=over_clip,
                posterior=last and not over_clip,
            )  # fmt: skip
            part = replace(
                part, parameters=solution.parameters, joint_sigma=solution.joint_sigma,
                camera=solution.camera,
            )  # fmt: skip
            if over_clip:
                continue
            if last and (touching := self._contacts(part, shape)) is not None:
                solution = self.watch.time(
                    "solve", self._solve, part, evidence, shape, posterior=True, contacts=touching
                )
                part = replace(
                    part, parameters=solution.parameters, joint_sigma=solution.joint_sigma,
                    camera=solution.camera,
                )  # fmt: skip
        if not over_clip:
            looks = self._look(pictures, frames, part)
            part = replace(part, disagreement_after=mean_of_views(looks) if looks else None)
        return part

    def _pictures(self, frames: Sequence[int], start: PoseParameters) -> list[list[Picture | None]]:
        vertices = pose_body(self.body, start).vertices
        loaded = []
        for view in self.clip.views:
            self.hooks.check_cancelled()
            loaded.append(self.watch.time("decode", load_pictures, view, frames, vertices))
        return loaded

    def _look(self, pictures, frames: Sequence[int], part: Part) -> list:
        if self.observer is None:
            return []
        return [
            self.watch.time(
                "render and predict", self.observer.look,
                with_refined_cameras(of_view, part.camera), frames, part.parameters,
                self.clip.textures, self.hooks.check_cancelled,
            )
            for of_view in pictures
        ]  # fmt: skip

    def _contacts(self, part: Part, shape: ShapeMode) -> Contacts | None:
        """What touches something in frames that follow each other; None where nothing does."""
        if shape != "fixed" or not self.settings.contacts or not world_stands_still(self.clip):
            return None
        sequence = self.clip.sequence
        cameras = sequence.world_to_camera
        if cameras is not None:
            rows = part.rows if cameras.ndim == 3 else torch.zeros_like(part.rows)
            cameras = torch.from_numpy(cameras.reshape(-1, 4, 4))[rows]
        found = find_contacts(
            self.body,
            part.parameters,
            torch.from_numpy(clip_seconds(self.clip))[part.rows],
            ground=None if sequence.ground is None else torch.from_numpy(sequence.ground),
            up_is_known=sequence.world == "gravity",
            world_to_camera=cameras,
        )
        return found if bool(found.held.any()) else None

    def _solve(
        self,
        part: Part,
        evidence,
        shape: ShapeMode,
        *,
        posterior: bool,
        over_clip: bool = False,
        contacts: Contacts | None = None,
    ):
        self.hooks.check_cancelled()
        settings, freedom = self.settings, self.freedom
        smooth = settings.smoothness if not over_clip and len(part.rows) > 2 else 0.0
        focal, distortion = _sought(settings, over_clip)
        # Focal length and depth trade against each other along a shallow valley.
        patience = 4 if focal != "fixed" else 1
        config = SolverConfig(
            max_iterations=patience * settings.solver_iterations,
            tolerance=1e-3 if focal == "fixed" else 1e-5,
            effective_points=SolverConfig.effective_points if focal == "fixed" else _FOCAL_POINTS,
            focal=focal,
            distortion=distortion,
            shape=shape,
            reference_weight=settings.prior_weight,
            pose_prior_weight=settings.pose_prior_weight,
            solve_translation=settings.refine_translation,
            smoothness=smooth,
            posterior=posterior,
        )
        return solve(
            self.body,
            part.parameters,
            evidence,
            config,
            reference=part.reference,
            locked=held_joints(self.body, evidence, len(part.rows), freedom.locked),
            stiffness=freedom.stiffness,
            pinned=None if freedom.pinned is None else freedom.pinned[part.rows],
            times=torch.from_numpy(clip_seconds(self.clip))[part.rows],
            contacts=contacts,
            camera=part.camera,
        )

    def judge(self, start: PoseParameters, found: PoseParameters, parts: Sequence[Part]) -> Verdict:
        """Compare evidence before and after, frame by frame."""
        before, after, sigma, camera = (gather(parts, name, len(start)) for name in (
            "disagreement_before", "disagreement_after", "joint_sigma", "camera"))  # fmt: skip
        costs = [
            (
                keypoint_cost(self.body, start, evidence),
                keypoint_cost(self.body, found, evidence, camera),
            )  # fmt: skip
            for evidence in (*self.clip.landmarks, *self.clip.evidence)
        ]
        return accept(before, after, costs, joint_confidence(sigma), self.freedom.pinned)


def _sought(settings: RefineSettings, over_clip: bool) -> tuple[FocalMode, bool]:
    """Which of the camera's unknowns a solve has: the clip's first, then each frame's."""
    if over_clip:
        focal: FocalMode = "sequence" if settings.refine_focal == "clip" else "fixed"
        return focal, settings.refine_distortion
    return ("frame" if settings.refine_focal == "frame" else "fixed"), False


def _observer(
    body: BodyModel,
    estimator: DisplacementEstimator | None,
    settings: RefineSettings,
    rasterizer: str,
) -> Observer | None:
    if estimator is None:
        return None
    return Observer(body, estimator, crop_size=settings.crop_size, rasterizer=rasterizer)
