# SPDX-License-Identifier: Apache-2.0
"""One look at a case, and the refinement from its evidence: posefit's own parts, one by one.

Every picture stands for itself: no keypoints, no smoothing over time, the shape as the start has
it, nothing turned down. What a question changes is an `Alteration`: of the renderings before the
network sees them, or of the field that it gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posefit.body import BodyModel, PoseParameters, pose_body
from posefit.crop import Crop, crop_frames
from posefit.displacement import DisplacementEstimator, DisplacementField
from posefit.evaluate import evaluate
from posefit.modalities import Modalities, render_modalities
from posefit.parameters import parameters_of_sequence, sequence_with_parameters
from posefit.rasterizer import Fragments, rasterize
from posefit.refinement.method import TwistSearch
from posefit.refinement.pictures import Picture, body_boxes, project_points
from posefit.refinement.twist_search import Twists, find_twists, turned_by
from posefit.solver import SolverConfig, SurfacePoints, solve
from posefit.validation_set import points_visible, true_displacement
from posefit.vertex_targets import aggregate, surface_points
from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence as PoseSequence
from questions.cases import Case

__all__ = [
    "UNCHANGED",
    "Alteration",
    "Bench",
    "Look",
    "Refined",
    "Sums",
    "crop_masks",
    "field_errors",
    "pose_errors",
    "refine_case",
    "refine_perfectly",
    "refine_unseen",
    "searched",
    "solve_from",
    "take_look",
]

CROP_MARGIN = 1.3
"""The pipeline's crop: side by the body's extent (`posefit.refinement.observation`)."""
MAX_POINTS = 1200
WORSE_MM = 5.0
PERFECT_SCALE_PX = 0.3
"""How certain a perfect field is said to be; below the solver's own floor."""
VAGUE_SCALE_PX = 50.0
"""Scale of a field that says nothing."""
METRICS = ("pve_mm", "pa_mpjpe_mm", "mpjpe_mm", "vertex_2d_px")

Sums = dict[str, tuple[float, float]]
"""For each figure of one person a sum and a weight; means and ratios come of them."""


@dataclass(frozen=True)
class Alteration:
    """What is changed on the way."""

    renderings: Callable[[Modalities], Modalities] = lambda modalities: modalities
    """Before the network."""
    field: Callable[[DisplacementField], DisplacementField] = lambda found: found
    """After it."""


UNCHANGED = Alteration()


@dataclass(frozen=True)
class Bench:
    """What stays the same through all questions."""

    body: BodyModel
    estimator: DisplacementEstimator
    solver: SolverConfig = field(default_factory=lambda: SolverConfig(shape="fixed"))
    crop_size: int = 256


@dataclass(frozen=True)
class Look:
    """What one look at a case gave, and what is true of it."""

    found: DisplacementField
    """As the network gave it."""
    fragments: Fragments
    projected: Float[Tensor, "batch vertex 2"]
    """Where the crops show the vertices."""
    crop: Crop
    world_to_camera: Float[Tensor, "batch 4 4"]
    displacement: Float[Tensor, "batch height width 2"]
    """True displacement, crop pixels."""
    counted: Bool[Tensor, "batch height width"]
    """Body pixels whose true point lies before the camera."""
    visible: Bool[Tensor, "batch height width"]
    """Those whose true point is seen in the picture."""

    def points(self, body: BodyModel, found: DisplacementField) -> SurfacePoints:
        """Evidence for the solver, of a field that may have been altered."""
        targets = aggregate(self.fragments, body.faces, body.num_vertices, found)
        return surface_points(
            targets, self.projected.nan_to_num(0.0), self.crop.intrinsics, self.world_to_camera,
            max_points=MAX_POINTS,
        )  # fmt: skip


@torch.no_grad()
def take_look(
    case: Case, current: PoseParameters, bench: Bench, alteration: Alteration = UNCHANGED
) -> Look:
    """Render the current bodies, let the network look, and say what would have been right.

    Args:
        case: pictures, textures, truth.
        current: where the bodies are now, one row a frame.
        bench: body and network.
        alteration: of the renderings; the field is altered by who uses it.
    """
    body, size = bench.body, (bench.crop_size, bench.crop_size)
    cameras = [case.start.camera(t) for t in range(len(case.start))]
    vertices = pose_body(body, current).vertices
    boxes = _boxes_in_view(body_boxes(vertices, cameras, margin=CROP_MARGIN), cameras)
    crop = crop_frames(list(case.pictures), boxes, cameras, bench.crop_size)
    world_to_camera = torch.tensor(
        np.stack([camera.world_to_camera for camera in cameras]), dtype=body.dtype
    )
    modalities, fragments = render_modalities(
        body, vertices, world_to_camera, crop.intrinsics, size, texture=case.textures
    )
    found = bench.estimator.predict(crop.images, alteration.renderings(modalities))
    truth = pose_body(body, parameters_of_sequence(case.truth, body)).vertices
    intrinsics = _true_intrinsics(case.truth, crop)
    displacement = true_displacement(fragments, body.faces, truth, world_to_camera, intrinsics)
    in_camera = truth @ world_to_camera[:, :3, :3].mT + world_to_camera[:, None, :3, 3]
    visible = points_visible(
        fragments, rasterize(in_camera, body.faces, intrinsics, size), body.faces,
        in_camera[..., 2:], displacement, crop_masks(case.masks, crop, bench.crop_size),
    )  # fmt: skip
    return Look(
        found=found,
        fragments=fragments,
        projected=project_points(vertices, world_to_camera, crop.intrinsics),
        crop=crop,
        world_to_camera=world_to_camera,
        displacement=displacement.nan_to_num(0.0),
        counted=(fragments.pix_to_face >= 0) & displacement.isfinite().all(-1),
        visible=visible,
    )


def _boxes_in_view(
    boxes: npt.NDArray[np.float64], cameras: list[Camera]
) -> npt.NDArray[np.float64]:
    """Boxes, the whole picture for bodies that have left it."""
    whole = np.array([[w / 2, h / 2, max(w, h)] for w, h in (c.image_size for c in cameras)])
    return np.where(np.isfinite(boxes), boxes, whole)


def _true_intrinsics(truth: PoseSequence, crop: Crop) -> Float[Tensor, "batch 3 3"]:
    """The true camera's intrinsics in the crops, which the estimate's camera was cut for."""
    assert truth.intrinsics is not None, "sequences of rendered sets have cameras"
    return crop.source_to_crop @ torch.tensor(truth.intrinsics, dtype=crop.source_to_crop.dtype)


def crop_masks(masks: tuple[npt.NDArray[np.uint8], ...], crop: Crop, size: int) -> torch.Tensor:
    """Masks cut like the crops, nearest value; 0 outside of the picture.

    Args:
        masks: (H, W) of each frame.
        crop: how the frames were cut.
        size: side of the crops.
    """
    centres = np.arange(size) + 0.5
    cut = []
    for mask, matrix in zip(masks, crop.source_to_crop.double().numpy(), strict=True):
        height, width = mask.shape
        column = np.floor((centres - matrix[0, 2]) / matrix[0, 0]).astype(int)
        row = np.floor((centres - matrix[1, 2]) / matrix[1, 1]).astype(int)
        inside = ((row >= 0) & (row < height))[:, None] & ((column >= 0) & (column < width))
        picked = mask[np.clip(row, 0, height - 1)][:, np.clip(column, 0, width - 1)]
        cut.append(np.where(inside, picked, 0))
    return torch.from_numpy(np.stack(cut).astype(np.uint8))


# Refinement ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refined:
    """A case after its rounds."""

    looks: tuple[Look, ...]
    """One a round, before it."""
    sequences: tuple[PoseSequence, ...]
    """The start and what each round made of it."""


def searched(case: Case, search: TwistSearch, body: BodyModel) -> Twists:
    """How far a search would turn the segments of a case's start.

    Args:
        case: pictures and start.
        search: its settings.
        body: of the start.
    """
    start = case.start
    assert start.frame_indices is not None, "a Sequence always has frame_indices"
    pictures = [Picture(one, start.camera(t)) for t, one in enumerate(case.pictures)]
    seconds = torch.from_numpy(start.frame_indices / start.mocap_framerate)
    return find_twists(body, parameters_of_sequence(start, body), [pictures], seconds, search)


@torch.no_grad()
def refine_case(
    case: Case,
    bench: Bench,
    *,
    rounds: int = 1,
    alteration: Alteration = UNCHANGED,
    twists: Twists | None = None,
) -> Refined:
    """Look and solve in turns.

    Args:
        case: what to refine.
        bench: body, network, solver settings.
        rounds: how often; 0 looks at the start and leaves it.
        alteration: of every look.
        twists: what the start is turned by before all else, as the pipeline does it.
    """
    start = parameters_of_sequence(case.start, bench.body)
    if twists is not None:
        start = turned_by(bench.body, start, twists.angles)
    current, looks, sequences = start, [], [case.start]
    for _ in range(max(rounds, 1)):
        look = take_look(case, current, bench, alteration)
        looks.append(look)
        if rounds == 0:
            break
        current = solve_from(look, current, start, bench, alteration)
        sequences.append(sequence_with_parameters(case.start, current, bench.body))
    return Refined(tuple(looks), tuple(sequences))


def solve_from(
    look: Look,
    current: PoseParameters,
    start: PoseParameters,
    bench: Bench,
    alteration: Alteration = UNCHANGED,
) -> PoseParameters:
    """The bodies that a look's evidence asks for, near the start.

    Args:
        look: at the current bodies.
        current: where the solver begins.
        start: what it stays near.
        bench: body and solver settings.
        alteration: of the field.
    """
    points = look.points(bench.body, alteration.field(look.found))
    return solve(bench.body, current, [points], bench.solver, reference=start).parameters


class _Unasked:
    """An estimator for looks of which only the truth is wanted."""

    name = "unasked"

    def predict(
        self, images: Float[Tensor, "batch 3 height width"], modalities: Modalities
    ) -> DisplacementField:
        """Zero everywhere."""
        zeros = images[:, 0] * 0
        return DisplacementField(torch.stack([zeros, zeros], -1), zeros + 1.0, zeros + 1.0)


@torch.no_grad()
def refine_perfectly(case: Case, bench: Bench, *, rounds: int) -> PoseSequence:
    """What the solver makes of the true displacement of all that is seen: a network's upper bound.

    Args:
        case: what to refine.
        bench: body and solver settings.
        rounds: of look and solve.
    """
    blind = dataclasses.replace(bench, estimator=_Unasked())
    start = parameters_of_sequence(case.start, bench.body)
    current = start
    for _ in range(rounds):
        look = take_look(case, current, blind)
        scale = torch.full_like(look.found.scale, PERFECT_SCALE_PX)
        perfect = DisplacementField(look.displacement, scale, look.visible.to(scale.dtype))
        known = dataclasses.replace(look, found=perfect)
        current = solve_from(known, current, start, bench)
    return sequence_with_parameters(case.start, current, bench.body)


@torch.no_grad()
def refine_unseen(case: Case, bench: Bench) -> PoseSequence:
    """What the solver does when the picture says nothing: joint limits and priors alone.

    Args:
        case: what to refine.
        bench: body and solver settings.
    """
    start = parameters_of_sequence(case.start, bench.body)
    look = take_look(case, start, dataclasses.replace(bench, estimator=_Unasked()))
    vague = dataclasses.replace(look.found, scale=torch.full_like(look.found.scale, VAGUE_SCALE_PX))
    solved = solve_from(dataclasses.replace(look, found=vague), start, start, bench)
    return sequence_with_parameters(case.start, solved, bench.body)


# Scores ----------------------------------------------------------------------------------------


def field_errors(
    look: Look, prefix: str = "epe", where: Bool[Tensor, "batch height width"] | None = None
) -> Sums:
    """Sums of end-point errors over body pixels, crop pixels, before and after the network.

    Args:
        look: what was found and what is true.
        prefix: of the names.
        where: pixels to count; all of the body's by default.
    """
    error = (look.found.displacement - look.displacement).norm(dim=-1)
    before = look.displacement.norm(dim=-1)
    counted = look.counted if where is None else look.counted & where
    parts: Mapping[str, tuple[Tensor, Tensor]] = {
        prefix: (error, counted),
        f"{prefix}_before": (before, counted),
        f"{prefix}_visible": (error, counted & look.visible),
        f"{prefix}_hidden": (error, counted & ~look.visible),
    }
    return {
        name: (float((values * chosen).sum()), float(chosen.sum()))
        for name, (values, chosen) in parts.items()
    }


def pose_errors(case: Case, refined: PoseSequence, body: BodyModel) -> Sums:
    """Sums of a refinement's errors after and before, and the share of frames that got worse.

    Args:
        case: start and truth.
        refined: the same frames.
        body: of all.
    """
    before, after = (evaluate(one, case.truth, body) for one in (case.start, refined))
    result: Sums = {}
    for name in METRICS:
        old, new = (np.array(scores[name]["values"]) for scores in (before, after))
        shared = min(len(old), len(new))  # a body behind the camera has no pixels
        result[f"{name}_before"] = float(old.sum()), float(len(old))
        result[f"{name}_after"] = float(new.sum()), float(len(new))
        result[f"{name}_ratio"] = float(new[:shared].sum()), float(old[:shared].sum())
    change = np.array(after["pve_mm"]["values"]) - np.array(before["pve_mm"]["values"])
    result["worse_share"] = float((change > WORSE_MM).sum()), float(len(change))
    return result
