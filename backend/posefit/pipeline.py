# SPDX-License-Identifier: Apache-2.0
"""The whole method, read from top to bottom: a sequence and its pictures in, a better sequence out.

1. pose the body and render it (`body`, `rasterizer`, `modalities`, with the person's `texture`);
2. predict where each body pixel should be (`displacement`);
3. make targets of surface points (`vertex_targets`), beside what the keypoint detector saw;
4. solve for pose, shape and translation (`solver`); repeat from 1 a few times;
5. keep what explains the picture better than the input did (`acceptance`).

Long clips are solved in windows (`windows`), after the person's one shape has been found from
frames spread over the clip. Reading files and talking to people is others' work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

from .acceptance import Verdict, accept, apply_verdict, joint_confidence, keypoint_cost
from .body import BodyModel, PoseParameters, pose_body
from .contacts import find_contacts
from .displacement import DisplacementEstimator
from .errors import RefinementError
from .observation import Observer, TextureMaps, slice_landmarks
from .parameters import parameters_of_sequence, sequence_with_parameters
from .pictures import Picture, body_boxes, load_pictures
from .solver import Contacts, Evidence, LandmarkPixels, ShapeMode, SolverConfig, solve, take_frames
from .views import View
from .windows import join_windows, split_windows

__all__ = ["Clip", "Freedom", "Hooks", "Refinement", "refine"]

logger = logging.getLogger(__name__)

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
class Clip:
    """What is refined, and everything that is known about it beforehand."""

    sequence: PoseSequence
    """The input."""
    views: Sequence[View]
    """Pictures of it through one or several cameras."""
    landmarks: Sequence[LandmarkPixels] = ()
    """Keypoint evidence, one entry for each view that has it."""
    textures: TextureMaps = lambda frames: None
    """The person's texture for each frame, painted by other frames."""
    evidence: Sequence[Evidence] = ()
    """What other tools found, with a row for each frame of the sequence."""


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


@dataclass(frozen=True)
class _Part:
    """Some frames of the clip, solved together."""

    rows: Int[Tensor, " part"]
    """Frames of the sequence."""
    parameters: PoseParameters
    """Where they are now."""
    reference: PoseParameters
    """Where they came from."""
    disagreement_before: Float[Tensor, " part"] | None = None
    disagreement_after: Float[Tensor, " part"] | None = None
    joint_sigma: Float[Tensor, "part joint"] | None = None


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
    _check_visible(clip, start, body)
    if estimator is None and not clip.landmarks and not clip.evidence:
        raise RefinementError(
            "neither displacement nor keypoints are switched on, so nothing is known of the "
            "picture: switch one of them on, or name evidence files"
        )
    run = _Run(clip, body, settings, freedom, hooks, _Stopwatch(), _observer(
        body, estimator, settings, rasterizer))  # fmt: skip
    start_shaped = run.with_shape(start)
    windows = split_windows(len(start), settings.window_frames, settings.window_overlap)
    parts: list[_Part] = []
    for k, window in enumerate(windows):
        rows = torch.arange(window.start, window.stop)
        parts.append(run.refine_part(start_shaped[rows], start[rows], rows))
        hooks.progress(0.15 + 0.8 * (k + 1) / len(windows), "refining")
        hooks.publish(_joined(clip.sequence, windows[: k + 1], parts, start_shaped, body))
    found = _joined(clip.sequence, windows, parts, start_shaped, body)
    verdict = run.judge(start, parameters_of_sequence(found, body), parts)
    sequence = apply_verdict(clip.sequence, found, verdict, settings)
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

    def with_shape(self, start: PoseParameters) -> PoseParameters:
        """The start with the shape that frames spread over the clip agree on."""
        frames = len(start)
        if not self.settings.refine_shape or frames < _LEAST_SHAPE_FRAMES:
            return start
        self.hooks.progress(0.02, "finding the person's shape")
        spread = np.linspace(0, frames - 1, min(frames, _SHAPE_FRAMES)).round().astype(int)
        rows = torch.from_numpy(np.unique(spread))
        part = self.refine_part(start[rows], start[rows], rows, shape="sequence")
        betas = part.parameters.betas.mean(0, keepdim=True).expand_as(start.betas)
        self.hooks.progress(0.15, "refining")
        return replace(start, betas=betas.contiguous())

    def refine_part(
        self,
        start: PoseParameters,
        reference: PoseParameters,
        rows: Int[Tensor, " part"],
        *,
        shape: ShapeMode = "fixed",
    ) -> _Part:
        """Look and solve in turns."""
        frames = rows.tolist()
        pictures = self._pictures(frames, reference) if self.observer is not None else []
        landmarks: list[Evidence] = [slice_landmarks(one, rows) for one in self.clip.landmarks]
        landmarks += [take_frames(one, rows) for one in self.clip.evidence]
        # Betas of the reference are those that were found: the shape is not pulled back.
        part = _Part(rows, start, replace(reference, betas=start.betas))
        for k in range(self.settings.rounds):
            looks = self._look(pictures, frames, part.parameters)
            if k == 0 and looks:
                part = replace(part, disagreement_before=_mean_of_views(looks))
            evidence = [*landmarks, *(look.points for look in looks)]
            last = k == self.settings.rounds - 1
            solution = self.watch.time(
                "solve", self._solve, part, evidence, shape, posterior=last and shape == "fixed"
            )
            part = replace(part, parameters=solution.parameters, joint_sigma=solution.joint_sigma)
            if last and (touching := self._contacts(part, shape)) is not None:
                solution = self.watch.time(
                    "solve", self._solve, part, evidence, shape, posterior=True, contacts=touching
                )
                part = replace(
                    part, parameters=solution.parameters, joint_sigma=solution.joint_sigma
                )
        if shape == "fixed":
            looks = self._look(pictures, frames, part.parameters)
            part = replace(part, disagreement_after=_mean_of_views(looks) if looks else None)
        return part

    def _pictures(self, frames: Sequence[int], start: PoseParameters) -> list[list[Picture | None]]:
        vertices = pose_body(self.body, start).vertices
        loaded = []
        for view in self.clip.views:
            self.hooks.check_cancelled()
            loaded.append(self.watch.time("decode", load_pictures, view, frames, vertices))
        return loaded

    def _look(self, pictures, frames: Sequence[int], parameters: PoseParameters) -> list:
        if self.observer is None:
            return []
        return [
            self.watch.time(
                "render and predict", self.observer.look, of_view, frames, parameters,
                self.clip.textures, self.hooks.check_cancelled,
            )
            for of_view in pictures
        ]  # fmt: skip

    def _contacts(self, part: _Part, shape: ShapeMode) -> Contacts | None:
        """What touches something in frames that follow each other; None where nothing does."""
        if shape != "fixed" or not self.settings.contacts or not _world_stands_still(self.clip):
            return None
        sequence = self.clip.sequence
        cameras = sequence.world_to_camera
        if cameras is not None:
            rows = part.rows if cameras.ndim == 3 else torch.zeros_like(part.rows)
            cameras = torch.from_numpy(cameras.reshape(-1, 4, 4))[rows]
        found = find_contacts(
            self.body,
            part.parameters,
            torch.from_numpy(_seconds(self.clip))[part.rows],
            ground=None if sequence.ground is None else torch.from_numpy(sequence.ground),
            up_is_known=sequence.world == "gravity",
            world_to_camera=cameras,
        )
        return found if bool(found.held.any()) else None

    def _solve(
        self,
        part: _Part,
        evidence,
        shape: ShapeMode,
        *,
        posterior: bool,
        contacts: Contacts | None = None,
    ):
        self.hooks.check_cancelled()
        settings, freedom = self.settings, self.freedom
        smooth = settings.smoothness if shape == "fixed" and len(part.rows) > 2 else 0.0
        config = SolverConfig(
            max_iterations=settings.solver_iterations,
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
            locked=freedom.locked,
            stiffness=freedom.stiffness,
            pinned=None if freedom.pinned is None else freedom.pinned[part.rows],
            times=torch.from_numpy(_seconds(self.clip))[part.rows],
            contacts=contacts,
        )

    def judge(
        self, start: PoseParameters, found: PoseParameters, parts: Sequence[_Part]
    ) -> Verdict:
        """Compare evidence before and after, frame by frame."""
        before, after, sigma = (_gather(parts, name, len(start)) for name in (
            "disagreement_before", "disagreement_after", "joint_sigma"))  # fmt: skip
        costs = [
            (keypoint_cost(self.body, start, evidence), keypoint_cost(self.body, found, evidence))
            for evidence in (*self.clip.landmarks, *self.clip.evidence)
        ]
        return accept(before, after, costs, joint_confidence(sigma), self.freedom.pinned)


def _observer(
    body: BodyModel,
    estimator: DisplacementEstimator | None,
    settings: RefineSettings,
    rasterizer: str,
) -> Observer | None:
    if estimator is None:
        return None
    return Observer(body, estimator, crop_size=settings.crop_size, rasterizer=rasterizer)


def _seconds(clip: Clip) -> npt.NDArray[np.float64]:
    """Seconds of each frame, rising."""
    sequence = clip.sequence
    if sequence.times is not None:
        return sequence.times
    indices = sequence.frame_indices
    assert indices is not None, "a Sequence always has frame_indices"
    if (np.diff(indices) > 0).all():
        return indices / clip.views[0].footage.fps
    return np.arange(len(sequence)) / sequence.mocap_framerate


def _world_stands_still(clip: Clip) -> bool:
    """Whether a point that is still in the world is still: the camera's motion is known."""
    sequence = clip.sequence
    cameras = sequence.world_to_camera
    moves = cameras is not None and cameras.ndim == 3
    return sequence.world == "gravity" or moves or len(clip.views) > 1


def _check_visible(clip: Clip, start: PoseParameters, body: BodyModel) -> None:
    """Refuse a clip in which no camera sees any part of the body."""
    for first in range(0, len(start), 64):
        frames = range(first, min(first + 64, len(start)))
        vertices = pose_body(body, start[first : first + 64]).vertices
        for view in clip.views:
            boxes = body_boxes(vertices, [view.camera(t) for t in frames], margin=1.0)
            if np.isfinite(boxes).all(1).any():
                return
    raise RefinementError(
        f"the body lies wholly outside the picture in all {len(start)} frames: check that the "
        "sequence, its camera and its footage belong together"
    )


def _joined(sequence: PoseSequence, windows, parts, start, body: BodyModel) -> PoseSequence:
    """The solved windows as one sequence, the input where nothing is solved yet."""

    def arrays(part: _Part) -> tuple[np.ndarray, np.ndarray]:
        p = part.parameters
        poses = torch.cat([p.global_orient[:, None], p.body_pose], 1)
        return poses.cpu().numpy(), p.transl.cpu().numpy()

    poses, trans = join_windows(windows, [arrays(part) for part in parts])
    done = len(poses)
    shaped = sequence_with_parameters(sequence, start, body)
    return shaped.replace(
        poses=np.concatenate([poses, sequence.poses[done:]]),
        trans=np.concatenate([trans, sequence.trans[done:]]),
    )


def _mean_of_views(looks) -> Float[Tensor, " part"]:
    return torch.stack([look.disagreement for look in looks]).nanmean(0)


def _gather(parts: Sequence[_Part], name: str, frames: int) -> Tensor | None:
    """One row for each frame of the clip; later windows win where they overlap."""
    values = [getattr(part, name) for part in parts]
    if any(value is None for value in values):
        return None
    first = values[0]
    gathered = first.new_zeros(frames, *first.shape[1:])
    for part, value in zip(parts, values, strict=True):
        gathered[part.rows.to(first.device)] = value
    return gathered
