# SPDX-License-Identifier: Apache-2.0
"""One refinement under way: looking at some frames and solving for them, in turns.

`pipeline` says in which order; here are the steps, with all that they share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

from ..body import BodyModel, PoseParameters, pose_body
from ..gpu.graphs import replayed
from ..gpu.upload import upload
from ..solver import (
    Contacts,
    Evidence,
    FocalMode,
    ShapeMode,
    SolverConfig,
    held_joints,
    solve,
    take_frames,
)
from ..solver.priors import joint_sigmas
from .cameras import as_given, with_refined_cameras
from .clip import Clip, clip_seconds, spread_frames, world_stands_still
from .contacts import find_contacts
from .evidence_error import EVIDENCE_NOISE_M, evidence_error_m, points_error_m
from .method import Method
from .observation import Look, Observer
from .parts import Part, mean_of_views
from .pictures import Picture, PicturesAhead, load_pictures
from .shared_errors import expect_from_others
from .twist_search import find_twists, free_segments, turned_by

__all__ = ["Freedom", "Hooks", "Run", "Stopwatch"]

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
    publish: Callable[[PoseSequence], None] | None = None
    """Given each provisional revision of the whole sequence; None: nobody wants them."""


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
class SpreadFrames:
    """Frames that decide what the whole clip shares."""

    rows: Int[Tensor, " part"]
    given: PoseParameters
    pictures: Sequence[list[Picture | None]]
    """Of each view."""


@dataclass
class Stopwatch:
    """Milliseconds by step; the one thing that changes while a refinement runs."""

    timings_ms: dict[str, float] = field(default_factory=dict)

    def time(self, step: str, function: Callable, *arguments, **options):
        began = time.perf_counter()
        result = function(*arguments, **options)
        spent = (time.perf_counter() - began) * 1e3
        self.timings_ms[step] = self.timings_ms.get(step, 0.0) + spent
        return result


@dataclass(frozen=True)
class Run:
    """One refinement under way."""

    clip: Clip
    body: BodyModel
    settings: RefineSettings
    method: Method
    freedom: Freedom
    hooks: Hooks
    watch: Stopwatch
    observer: Observer | None
    camera: Float[Tensor, "frame 2"] | None = None
    """What the clip's camera was found to be; None: as given, or not yet known."""

    def frames_that_decide(self, start: PoseParameters) -> SpreadFrames | None:
        """Frames, spread over the clip, that shape and camera are sought in, with their pictures;
        None where nothing is sought before the windows."""
        frames = len(start)
        has_shape = self.shape_is_sought(frames)
        if not self.seeks_camera and (not has_shape or frames <= self.settings.window_frames):
            return None
        self.hooks.progress(0.02, "finding the person's shape")
        rows = spread_frames(self.clip, _SHAPE_FRAMES)
        given = start[upload(rows, self.body.device)]
        pictures = [] if self.observer is None else self._pictures(rows.tolist(), given)
        return SpreadFrames(torch.from_numpy(rows), given, pictures)

    def with_shape_and_camera(
        self, start: PoseParameters, decide: SpreadFrames
    ) -> tuple[Tensor, Run]:
        """Betas, and the camera, that frames spread over the clip agree on."""
        frames = len(start)
        shape: ShapeMode = "sequence" if self.shape_is_sought(frames) else "fixed"
        part = self.refine_part(
            decide.given, decide.given, decide.rows, decide.pictures, shape=shape, over_clip=True
        )
        betas = part.parameters.betas.mean(0, keepdim=True).expand_as(start.betas)
        self.hooks.progress(0.15, "refining")
        camera = None if part.camera is None else part.camera[:1].expand(frames, 2).contiguous()
        return betas.contiguous(), replace(self, camera=camera)

    def shape_is_sought(self, frames: int) -> bool:
        """Whether a clip of that many frames says what shape the person has."""
        return self.settings.refine_shape and frames >= _LEAST_SHAPE_FRAMES

    def window_shape(self, windows: int, frames: int) -> ShapeMode:
        """How the windows of a clip solve for shape: one that holds all frames finds it itself."""
        if windows > 1 or self.seeks_camera or not self.shape_is_sought(frames):
            return "fixed"
        return "sequence" if self.method.one_shape else "frame"

    @property
    def seeks_camera(self) -> bool:
        """Whether the camera is sought: the clip's shape, and its one camera, come first then."""
        return self.settings.refine_focal != "off" or self.settings.refine_distortion

    def refine_part(
        self,
        start: PoseParameters,
        reference: PoseParameters,
        rows: Int[Tensor, " part"],
        pictures: Sequence[list[Picture | None]] = (),
        *,
        shape: ShapeMode = "fixed",
        over_clip: bool = False,
    ) -> Part:
        """Look and solve in turns; `over_clip` for frames that decide what the clip shares."""
        frames = rows.tolist()
        found: list[Evidence] = [take_frames(one, rows) for one in self.clip.landmarks]
        found += [take_frames(one, rows) for one in self.clip.evidence]
        # Betas of the reference are those that were found: the shape is not pulled back.
        camera = None if self.camera is None else self.camera[rows]
        part = Part.begin(rows, start, replace(reference, betas=start.betas), camera)
        looks: list[Look] = []
        for k in range(self.settings.rounds):
            if not over_clip:
                part = self._turned(part, pictures, k)
            looks = self._look(pictures, frames, part)
            if k == 0:
                part = self._with_trust(part, looks, found)
            evidence = [*found, *(as_given(look.points, part.camera) for look in looks)]
            last = k == self.settings.rounds - 1
            for again in (False, True) if k == 0 and self._frames_share(part) else (False,):
                part = self._solved(part, evidence, shape, over_clip=over_clip)
                if self._frames_share(part) and not (last and (again or k > 0)):
                    part = self._with_expectation(part)
            if over_clip:
                continue
            if last and (touching := self._contacts(part)) is not None:
                part = self._solved(part, evidence, "fixed", contacts=touching)
        return part if over_clip or not looks else self._judged(part, reference, looks, pictures)

    def pictures_ahead(
        self, boxes: Sequence[npt.NDArray[np.float64]], frames: Sequence[int]
    ) -> AbstractContextManager[PicturesAhead | None]:
        """The pictures of those frames, made ahead; None where nobody looks at them."""
        if self.observer is None or not frames:
            return nullcontext()
        return PicturesAhead(
            self.clip.views, boxes, self.body.device, self.hooks.check_cancelled, frames
        )

    def _judged(self, part: Part, given: PoseParameters, looks: Sequence[Look], pictures) -> Part:
        """The part with what was held out from making it: a new look, and points not told."""
        if part.turns is not None:
            given = turned_by(self.body, given, part.turns)
        withheld = [look.withheld for look in looks]
        as_before = [as_given(points, part.camera) for points in withheld]
        apart = [
            points_error_m(self.body, given, as_before),
            points_error_m(self.body, part.parameters, withheld),
        ]
        after = mean_of_views(self._look(pictures, part.rows.tolist(), part))
        return replace(part, after=after, withheld_m=torch.stack(apart, -1))

    def _turned(self, part: Part, pictures: Sequence[list[Picture | None]], k: int) -> Part:
        """The part with its segments turned about their bones where a search decides it."""
        search = self.method.twists
        if search is None or k not in search.before_rounds or not pictures:
            return part
        self.hooks.check_cancelled()
        free = free_segments(len(part.rows), self.freedom.locked, self._pinned(part))
        twists = self.watch.time(
            "search for twists", find_twists, self.body, part.parameters,
            [with_refined_cameras(of_view, part.camera) for of_view in pictures],
            torch.from_numpy(clip_seconds(self.clip))[part.rows], search,
            exclusion_seconds=self.settings.texture_exclusion_seconds, free=free,
            others=None if self.clip.others is None else self.clip.others.of_frames(part.rows),
        )  # fmt: skip
        return part.turned(self.body, twists.angles)

    def _pinned(self, part: Part) -> Bool[Tensor, " part"] | None:
        return None if self.freedom.pinned is None else self.freedom.pinned[part.rows]

    def _with_trust(self, part: Part, looks: Sequence[Look], found: Sequence[Evidence]) -> Part:
        """The part with what the first look says of its input, and how far to trust that."""
        if looks:
            part = replace(part, before=mean_of_views(looks))
        trust = self.method.trust
        error_m, noise_m = None if part.before is None else part.before.error_m, 0.0
        if error_m is None:
            error_m = evidence_error_m(self.body, part.parameters, found)
            noise_m = EVIDENCE_NOISE_M
        if trust is None or error_m is None:
            return part
        usual_m = float(error_m.nanmedian())  # waits for the look
        if not np.isfinite(usual_m):
            return part
        return replace(part, input_scale=trust.scale(usual_m - noise_m))

    def _frames_share(self, part: Part) -> bool:
        """Whether the part's frames learn from each other's corrections."""
        wanted = self.method.shared is not None and self.settings.prior_weight > 0
        return wanted and len(part.rows) > 2

    def _with_expectation(self, part: Part) -> Part:
        """The part with what its frames let expect of each other."""
        assert self.method.shared is not None
        assert part.joint_sigma is not None
        stiffness = part.reference.transl.new_full((), self.settings.prior_weight)
        if self.freedom.stiffness is not None:
            stiffness = stiffness * self.freedom.stiffness.to(stiffness)
        sigma = joint_sigmas(self.body).to(stiffness) * part.input_scale
        expectation = replayed(
            expect_from_others, part.reference, part.parameters, part.joint_sigma,
            part.expectation, sigma / stiffness.clamp_min(1e-6).sqrt(),
            upload(clip_seconds(self.clip)[part.rows.numpy()], self.body.device),
            self.method.shared,
        )  # fmt: skip
        return replace(part, expectation=expectation)

    def _solved(
        self, part: Part, evidence: Sequence[Evidence], shape: ShapeMode, *,
        over_clip: bool = False, contacts: Contacts | None = None,
    ) -> Part:  # fmt: skip
        solution = self.watch.time(
            "solve", self._solve, part, evidence, shape, over_clip=over_clip, contacts=contacts
        )
        return replace(
            part, parameters=solution.parameters, joint_sigma=solution.joint_sigma,
            camera=solution.camera,
        )  # fmt: skip

    def taken(
        self, ahead: PicturesAhead | None, rows: Int[Tensor, " part"]
    ) -> Sequence[list[Picture | None]]:
        """A window's pictures, decoded beside the work on the ones before."""
        return [] if ahead is None else self.watch.time("decode", ahead.take, rows.tolist())

    def _pictures(self, frames: Sequence[int], start: PoseParameters) -> list[list[Picture | None]]:
        vertices = pose_body(self.body, start).vertices
        loaded = []
        for view in self.clip.views:
            self.hooks.check_cancelled()
            loaded.append(self.watch.time("decode", load_pictures, view, frames, vertices))
        return loaded

    def _look(self, pictures, frames: Sequence[int], part: Part) -> list[Look]:
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

    def _contacts(self, part: Part) -> Contacts | None:
        """What touches something in frames that follow each other; None where nothing does."""
        alone = len(part.rows) < 2
        if alone or not self.settings.contacts or not world_stands_still(self.clip):
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
        over_clip: bool = False,
        contacts: Contacts | None = None,
    ):
        self.hooks.check_cancelled()
        settings, freedom = self.settings, self.freedom
        stiffness = part.expectation.stiffness
        if freedom.stiffness is not None:
            stiffness = stiffness * freedom.stiffness.to(stiffness)
        smooth = settings.smoothness if not over_clip and len(part.rows) > 2 else 0.0
        focal, distortion = _sought(settings, over_clip)
        # Focal length and depth trade against each other along a shallow valley.
        patience = 4 if focal != "fixed" else 1
        scale, near = part.input_scale, min(part.input_scale, 1.0)
        config = SolverConfig(
            max_iterations=patience * settings.solver_iterations,
            tolerance=1e-3 if focal == "fixed" else 1e-5,
            effective_points=self.method.effective_points if focal == "fixed" else _FOCAL_POINTS,
            map_points=SolverConfig.map_points if focal == "fixed" else _FOCAL_POINTS,
            focal=focal,
            distortion=distortion,
            shape=shape,
            reference_weight=settings.prior_weight,
            reference_sigma_scale=scale,
            depth_sigma_fraction=self.method.depth_sigma_fraction * near,
            shape_reference_sigma=self.method.shape_reference_sigma * near,
            pose_prior_weight=settings.pose_prior_weight + self.method.pose_prior_weight * near,
            solve_translation=settings.refine_translation,
            smoothness=smooth,
            posterior=True,
        )
        return solve(
            self.body,
            part.parameters,
            evidence,
            config,
            reference=part.expectation.reference,
            locked=held_joints(self.body, evidence, len(part.rows), freedom.locked),
            stiffness=stiffness,
            pinned=self._pinned(part),
            times=torch.from_numpy(clip_seconds(self.clip))[part.rows],
            contacts=contacts,
            camera=part.camera,
        )


def _sought(settings: RefineSettings, over_clip: bool) -> tuple[FocalMode, bool]:
    """Which of the camera's unknowns a solve has: the clip's first, then each frame's."""
    if over_clip:
        focal: FocalMode = "sequence" if settings.refine_focal == "clip" else "fixed"
        return focal, settings.refine_distortion
    return ("frame" if settings.refine_focal == "frame" else "fixed"), False
