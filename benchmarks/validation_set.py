# SPDX-License-Identifier: Apache-2.0
"""How good displacement estimators and the whole refinement are on the rendered validation set.

    python benchmarks/validation_set.py --set .cache/validation/set --estimators none flow net \
        [--levels good typical] [--people 0 3] [--keypoints] [--no-refinement] [--output FILE]

First look: end-point errors over all body pixels of 256² crops, before any pose has moved, with the
texture that posefit would paint. Refinement: errors after by errors before. Every interval is a
bootstrap over people (95%), for frames of one person are alike. The starts are simulated.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from posefit.body import BodyModel, load_body, pose_body
from posefit.crop import Crop, crop_frames
from posefit.displacement import DisplacementEstimator, DisplacementField, load_estimator
from posefit.engine import refine_views
from posefit.evaluate import evaluate
from posefit.footage import open_footage
from posefit.modalities import render_modalities
from posefit.parameters import parameters_of_sequence
from posefit.rasterizer import rasterize
from posefit.refinement.pictures import body_boxes
from posefit.texture_clip import paint_from_views
from posefit.validation_set import (
    ValidationSet,
    points_visible,
    read_validation_set,
    true_displacement,
)
from posefit.views import View, view_of_sequence
from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

CROP = 256
CROP_MARGIN = 1.3
WORSE_MM = 5.0
METRICS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "vertex_2d_px")
FLAGS = ("blurred", "shallow", "crowded", "occluded", "truncated")


@dataclass
class Sums:
    """Weighted sums by person, which means and their intervals come from."""

    values: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """For each name a sum and a weight for each person."""

    def add(self, person: dict[str, tuple[float, float]]) -> None:
        """One person's sums."""
        for name, pair in person.items():
            self.values.setdefault(name, []).append(pair)

    def result(self, draws: int = 2000) -> dict[str, dict[str, float]]:
        """Mean and 95% interval of each name."""
        random = np.random.default_rng(0)
        return {
            name: ratio_with_interval(np.array(pairs), random, draws)
            for name, pairs in self.values.items()
        }


def ratio_with_interval(
    pairs: npt.NDArray[np.float64], random: np.random.Generator, draws: int
) -> dict[str, float]:
    """Sum by sum over people (P, 2), with the 95% interval of a bootstrap over people."""
    chosen = random.integers(0, len(pairs), (draws, len(pairs)))
    sums = pairs[chosen].sum(1)
    ratios = sums[:, 0] / np.maximum(sums[:, 1], 1e-12)
    low, high = np.quantile(ratios, [0.025, 0.975])
    mean = pairs[:, 0].sum() / max(pairs[:, 1].sum(), 1e-12)
    return {"mean": float(mean), "low": float(low), "high": float(high), "people": len(pairs)}


@dataclass(frozen=True)
class FirstLook:
    """One person's crops under an estimate, and what is true of every pixel."""

    images: torch.Tensor
    modalities: Any
    displacement: torch.Tensor
    visible: torch.Tensor
    counted: torch.Tensor


def first_look(
    dataset: ValidationSet, person: int, start: PoseSequence, view: View, body: BodyModel
) -> FirstLook:
    """Crops, renderings and true displacement of one person under a start."""
    frames = range(len(start))
    vertices = pose_body(body, parameters_of_sequence(start, body)).vertices
    truth = pose_body(body, parameters_of_sequence(dataset.truth(person), body)).vertices
    cameras = [view.camera(t) for t in frames]
    boxes = body_boxes(vertices, cameras, margin=CROP_MARGIN)
    pictures = [view.footage.read(t) for t in frames]
    crop = crop_frames(pictures, boxes, cameras, CROP)
    world_to_camera = torch.tensor(
        np.stack([camera.world_to_camera for camera in cameras]), dtype=body.dtype
    )
    textures = paint_from_views(start, [view], body)(list(frames))
    modalities, fragments = render_modalities(
        body, vertices, world_to_camera, crop.intrinsics, (CROP, CROP), texture=textures
    )
    displacement = true_displacement(fragments, body.faces, truth, world_to_camera, crop.intrinsics)
    in_camera = truth @ world_to_camera[:, :3, :3].mT + world_to_camera[:, None, :3, 3]
    true_fragments = rasterize(in_camera, body.faces, crop.intrinsics, (CROP, CROP))
    masks = cut_masks(dataset, person, crop, cameras)
    visible = points_visible(
        fragments, true_fragments, body.faces, in_camera[..., 2:], displacement, masks
    )
    counted = (fragments.pix_to_face >= 0) & displacement.isfinite().all(-1)
    return FirstLook(crop.images, modalities, displacement.nan_to_num(0.0), visible, counted)


def cut_masks(
    dataset: ValidationSet, person: int, crop: Crop, cameras: Sequence[Camera]
) -> torch.Tensor:
    """The person's masks cut like the crops, nearest value; 0 outside of the picture."""
    centres = np.arange(CROP) + 0.5
    cut = []
    for place, frame in enumerate(dataset.frames_of(person)):
        mask, to_crop = dataset.mask(int(frame)), crop.source_to_crop[place].double().numpy()
        column = np.floor((centres - to_crop[0, 2]) / to_crop[0, 0]).astype(int)
        row = np.floor((centres - to_crop[1, 2]) / to_crop[1, 1]).astype(int)
        width, height = cameras[place].image_size
        inside = ((row >= 0) & (row < height))[:, None] & ((column >= 0) & (column < width))
        picked = mask[np.clip(row, 0, height - 1)][:, np.clip(column, 0, width - 1)]
        cut.append(np.where(inside, picked, 0))
    return torch.from_numpy(np.stack(cut).astype(np.uint8))


class NoEstimator:
    """Says that everything is where it should be."""

    name = "none"

    def predict(self, images: torch.Tensor, modalities: Any) -> DisplacementField:
        """Zero everywhere."""
        zeros = images[:, 0] * 0
        return DisplacementField(torch.stack([zeros, zeros], -1), zeros + 1.0, zeros + 1.0)


def score_look(look: FirstLook, estimator: DisplacementEstimator) -> dict[str, tuple[float, float]]:
    """Sums of end-point errors over one person's pixels, crop pixels."""
    with torch.no_grad():
        found = estimator.predict(look.images, look.modalities)
    error = (found.displacement - look.displacement).norm(dim=-1)
    before = look.displacement.norm(dim=-1)
    certain = more_certain_half(found.scale, look.counted)
    parts = {
        "epe": (error, look.counted),
        "epe_certain_half": (error, certain),
        "epe_visible": (error, look.counted & look.visible),
        "epe_hidden": (error, look.counted & ~look.visible),
        "epe_before": (before, look.counted),
        "visible_share": (look.visible.float(), look.counted),
        "within_3_px": ((error < 3).float(), look.counted),
        "visibility_right": (((found.visibility > 0.5) == look.visible).float(), look.counted),
    }
    if estimator.name == "none":
        parts.pop("epe_certain_half")
    return {
        name: (float((values * where).sum()), float(where.sum()))
        for name, (values, where) in parts.items()
    }


def more_certain_half(scale: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """The half of the counted pixels with the smaller scale; of equal ones the earlier."""
    order = (
        torch.where(counted, scale.nan_to_num(torch.inf), torch.inf).flatten().argsort(stable=True)
    )
    chosen = torch.zeros(scale.numel(), dtype=torch.bool)
    chosen[order[: int(counted.sum()) // 2]] = True
    return chosen.view(scale.shape) & counted


def score_refinement(
    dataset: ValidationSet, person: int, start: PoseSequence, refined: PoseSequence, body: BodyModel
) -> dict[str, tuple[float, float]]:
    """Sums of errors after and before, and frames that got worse, of one person."""
    truth = dataset.truth(person)
    before, after = evaluate(start, truth, body), evaluate(refined, truth, body)
    result: dict[str, tuple[float, float]] = {}
    for name in METRICS:
        old, new = np.array(before[name]["values"]), np.array(after[name]["values"])
        result[f"{name}_before"] = float(old.sum()), float(len(old))
        result[f"{name}_after"] = float(new.sum()), float(len(new))
        result[f"{name}_ratio"] = float(new.sum()), float(old.sum())
    change = np.array(after["pve_mm"]["values"]) - np.array(before["pve_mm"]["values"])
    result["worse_by_5_mm_share"] = float((change > WORSE_MM).sum()), float(len(change))
    status = refined.status or ("refined",) * len(truth)
    result["refined_share"] = float(status.count("refined")), float(len(status))
    frames = dataset.frames_of(person)
    for flag in FLAGS:
        where = getattr(dataset, flag)[frames]
        if where.any():
            new, old = (np.array(scores["pve_mm"]["values"])[where] for scores in (after, before))
            result[f"pve_mm_ratio_{flag}"] = float(new.sum()), float(old.sum())
    return result


@dataclass(frozen=True)
class Task:
    """What is scored."""

    dataset: ValidationSet
    body: BodyModel
    people: tuple[int, ...]
    level: str

    def looks(self, names: Sequence[str]) -> dict[str, Any]:
        """End-point errors of each estimator."""
        sums = {name: Sums() for name in names}
        estimators = {n: NoEstimator() if n == "none" else load_estimator(n) for n in names}
        for person in self.people:
            start, view = self._open(person)
            look = first_look(self.dataset, person, start, view, self.body)
            for name, estimator in estimators.items():
                sums[name].add(score_look(look, estimator))
        return {name: one.result() for name, one in sums.items()}

    def refinement(self, settings: RefineSettings) -> dict[str, Any]:
        """Errors of the whole refinement, and its time."""
        sums, began = Sums(), time.perf_counter()
        for person in self.people:
            start, view = self._open(person)
            refined = refine_views(start, [view], body=self.body, settings=settings).sequence
            sums.add(score_refinement(self.dataset, person, start, refined, self.body))
        seconds = time.perf_counter() - began
        frames = sum(len(self.dataset.frames_of(person)) for person in self.people)
        return {**sums.result(), "seconds_per_frame": seconds / frames}

    def _open(self, person: int) -> tuple[PoseSequence, View]:
        start = self.dataset.start(self.level, person)
        folder = self.dataset.footage_folder(person)
        return start, view_of_sequence(start, open_footage(folder, fps=start.mocap_framerate))


def table(title: str, rows: dict[str, dict[str, Any]], columns: Sequence[str]) -> str:
    """Figures with their intervals, as a Markdown table."""

    def cell(entry: dict[str, float] | None) -> str:
        if entry is None:
            return "–"
        digits = 3 if entry["high"] < 2 else 2 if entry["high"] < 20 else 1
        return f"{entry['mean']:.{digits}f} ({entry['low']:.{digits}f}–{entry['high']:.{digits}f})"

    lines = [f"\n{title}", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, figures in rows.items():
        lines.append(f"| {name} | {' | '.join(cell(figures.get(c)) for c in columns)} |")
    return "\n".join(lines)


def score(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    """All figures that were asked for, told as they come."""
    dataset, body = read_validation_set(options.set), load_body("free")
    dataset.check_body(body.content_hash)
    people = tuple(options.people) or tuple(range(len(dataset.people)))
    scores: dict[str, Any] = {
        "set": {"body": dataset.body, "frames": len(dataset), "people": len(dataset.people)},
        "people": [dataset.people[person] for person in people],
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}",
        "starts": "simulated",
        "first_look": {},
        "refinement": {},
    }
    for level in options.levels or dataset.levels:
        task = Task(dataset, body, people, level)
        looks = task.looks(options.estimators)
        scores["first_look"][level] = looks
        columns = ("epe", "epe_certain_half", "epe_visible", "epe_hidden", "within_3_px")
        tell(table(f"First look, starts '{level}', crop pixels", looks, columns))
        if options.refinement:
            refined = refine_all(task, options)
            scores["refinement"][level] = refined
            columns = (*(f"{name}_ratio" for name in METRICS), "worse_by_5_mm_share",
                       "refined_share")  # fmt: skip
            tell(table(f"Refinement, starts '{level}', after / before", refined, columns))
    return scores


def refine_all(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """The refinement with each estimator, and with keypoints if they were asked for."""
    results = {}
    for name in options.estimators:
        for keypoints in (False, True) if options.keypoints else (False,):
            if name == "none" and not keypoints:
                continue
            settings = RefineSettings(displacement=name, keypoints=keypoints)
            label = f"{name} + keypoints" if keypoints and name != "none" else name
            results["keypoints" if name == "none" else label] = task.refinement(settings)
    return results


def main() -> None:
    """Reads the command line, scores, prints tables and writes the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", type=Path, default=Path(".cache/validation/set"))
    parser.add_argument("--estimators", nargs="+", default=["none", "flow"])
    parser.add_argument("--levels", nargs="*", default=[], help="starts; all unless named")
    parser.add_argument("--people", nargs="*", type=int, default=[], help="all unless named")
    parser.add_argument("--keypoints", action="store_true", help="also refine with keypoints")
    parser.add_argument("--no-refinement", dest="refinement", action="store_false")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    scores = score(options, lambda text: print(text, flush=True))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
