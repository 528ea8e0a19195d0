# SPDX-License-Identifier: Apache-2.0
"""Kinds of evidence compared on the rendered validation set: initial → keypoints → dense → ours.

    python benchmarks/evidence.py [--people 0 3] [--frames 5] [--levels good typical]
        [--parts ways profiles robustness] [--output benchmarks/results/evidence.json]

Every way starts from the same wrong poses and goes through the same solver, priors and acceptance:
only what it knows of the picture differs. OpenPose's keypoints and DensePose's maps are SIMULATED
from the truth (`posefit.evidence.simulated` says with which errors); masks are the renderer's own;
BlazePose is a real detector. Finished cells are kept in --cache and reused while code of the
solver, settings and weights are the same. Intervals are bootstraps over people (95%).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from PIL import Image
from sources import sources_digest
from validation_set import Sums, table

from posefit.body import BodyModel, load_body, pose_body
from posefit.engine import refine_views
from posefit.evaluate import evaluate
from posefit.evidence import EvidenceFiles, evidence_of_files
from posefit.evidence.simulated import (
    body_fragments,
    simulated_iuv,
    simulated_keypoints,
    write_iuv_png,
    write_openpose,
)
from posefit.evidence.surface_charts import made_up_charts, write_surface_charts
from posefit.footage import open_footage
from posefit.parameters import parameters_of_sequence, sequence_with_parameters
from posefit.solver import (
    BODY_25,
    Evidence,
    FacePoints,
    LandmarkPositions,
    SolverConfig,
    joint_table,
    solve,
)
from posefit.validation_set import PERSON, ValidationSet, read_validation_set
from posefit.views import View, view_of_sequence
from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

METRICS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "vertex_2d_px")
ALONE = RefineSettings(displacement="none", keypoints=False)
NET = RefineSettings(displacement="net", keypoints=False)
WAYS: dict[str, tuple[tuple[str, ...], RefineSettings]] = {
    "keypoints (BlazePose)": ((), replace(ALONE, keypoints=True)),
    "keypoints (simulated OpenPose)": (("keypoints",), ALONE),
    "dense (simulated IUV)": (("densepose",), ALONE),
    "silhouettes (rendered masks)": (("masks",), ALONE),
    "keypoints + silhouettes": (("keypoints", "masks"), ALONE),
    "ours (net)": ((), NET),
    "ours (net) + BlazePose": ((), replace(NET, keypoints=True)),
    "all together": (("keypoints", "densepose", "masks"), NET),
}
PRIORS = {
    "near the input": ALONE,
    "likely poses": replace(ALONE, prior_weight=0.25, pose_prior_weight=1.0),
}
PROFILE_WAYS = ("keypoints (simulated OpenPose)", "dense (simulated IUV)", "ours (net)")
FALSE_SHARES = (0.0, 0.3)
WORSE_MM = 5.0
LIMBS = (("Elbow", "Wrist"), ("Knee", "Ankle"))
FLIPPED_SHARE = 0.5
"""Share of forearms and shins that the profile `overlaid` turns over in depth."""
ANOTHER = 2
"""Value of the set's masks where another person is seen."""


@dataclass(frozen=True)
class Person:
    """One person of the set with everything that other tools would have found (simulated)."""

    number: int
    truth: PoseSequence
    view: View
    files: EvidenceFiles

    def evidence(
        self, kinds: Sequence[str], start: PoseSequence, body: BodyModel
    ) -> list[Evidence]:
        """What some kinds say, beginning from a start."""
        chosen = {kind: getattr(self.files, kind) for kind in kinds}
        if "densepose" in chosen:
            chosen["iuv_mapping"] = self.files.iuv_mapping
        return evidence_of_files(EvidenceFiles(**chosen), start, self.view, body)


def open_person(
    dataset: ValidationSet, number: int, frames: int, body: BodyModel, folder: Path
) -> Person:
    """A person's first frames; simulated files are written as the tools would write them."""
    truth = cut(dataset.truth(number), frames)
    footage = open_footage(dataset.footage_folder(number), fps=truth.mocap_framerate)
    own = folder / f"p{number:02d}"
    files = EvidenceFiles(
        own / "keypoints", own / "iuv", folder / "made_up_charts.npz", own / "masks"
    )
    person = Person(number, truth, view_of_sequence(truth, footage), files)
    write_simulated(dataset, person, body)
    return person


def write_simulated(dataset: ValidationSet, person: Person, body: BodyModel) -> None:
    """Keypoints, IUV maps and masks of a person's frames; the same every time."""
    files, charts = person.files, made_up_charts(body)
    for folder in (files.keypoints, files.densepose, files.masks):
        folder.mkdir(parents=True, exist_ok=True)
    write_surface_charts(files.iuv_mapping, charts)
    posed = pose_body(body, parameters_of_sequence(person.truth, body))
    for t, frame in enumerate(dataset.frames_of(person.number)[: len(person.truth)]):
        random = np.random.default_rng([20261123, person.number, t])
        camera, mask = person.view.camera(t), dataset.mask(int(frame))
        seen = mask == PERSON
        points = simulated_keypoints(
            BODY_25, body, posed.vertices[t], posed.joints[t], camera, seen, random
        )
        write_openpose(files.keypoints / f"{t:012d}_keypoints.json", [points])
        fragments = body_fragments(body, posed.vertices[t], camera)
        iuv = simulated_iuv(fragments, charts, seen, random)
        write_iuv_png(files.densepose / f"{t:06d}.png", iuv)
        # Another person may hide this one: unknown. Things that do are not told from the room.
        grey = np.where(seen, 255, np.where(mask == ANOTHER, 128, 0)).astype(np.uint8)
        Image.fromarray(grey).save(files.masks / f"{t:06d}.png")


def cut(sequence: PoseSequence, frames: int) -> PoseSequence:
    """The first frames of a sequence; all with 0."""
    return sequence.slice(0, frames) if 0 < frames < len(sequence) else sequence


def overlaid_start(person: Person, start: PoseSequence, body: BodyModel) -> PoseSequence:
    """Another simulated error profile: right in the picture, wrong in depth.

    So look estimates that were fitted to keypoints: forearms and shins that point towards the
    camera where they point away from it, the whole clip long, and depths of single joints that
    err by 4 cm. A pose is fitted to such joints, beginning at the start.
    """
    random = torch.Generator().manual_seed(31 + person.number)
    joints = pose_body(body, parameters_of_sequence(person.truth, body)).joints
    _, world_to_camera = cameras_of(person, body)
    eye = -(world_to_camera[:, :3, :3].mT @ world_to_camera[:, :3, 3:])[..., 0]
    rays = torch.nn.functional.normalize(joints - eye[:, None], dim=-1)
    wrong = joints + 0.04 * torch.randn(1, joints.shape[1], 1, generator=random) * rays
    for side in ("L", "R"):
        for upper, lower in LIMBS:
            if torch.rand((), generator=random) < FLIPPED_SHARE:
                u, v = (body.joint_names.index(f"{side}_{name}") for name in (upper, lower))
                bone = joints[:, v] - joints[:, u]
                along = (bone * rays[:, v]).sum(-1, keepdim=True) * rays[:, v]
                wrong[:, v] = wrong[:, u] + bone - 2.0 * along
    names = tuple(name for name in body.joint_names if name not in ("L_Hand", "R_Hand"))
    order = [body.joint_names.index(name) for name in names]
    ones = torch.ones(len(joints), len(names))
    evidence = LandmarkPositions(joint_table(names), wrong[:, order], ones, 0.01 * ones)
    begun = parameters_of_sequence(start, body)
    config = SolverConfig(max_iterations=30, shape="fixed", reference_weight=0.3)
    found = solve(body, begun, [evidence], config, reference=begun)
    return sequence_with_parameters(start, found.parameters, body)


def cameras_of(person: Person, body: BodyModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Intrinsics and world_to_camera of a person's frames as tensors."""
    cameras = [person.view.camera(t) for t in range(len(person.truth))]

    def stack(name: str) -> torch.Tensor:
        return torch.tensor(np.stack([getattr(c, name) for c in cameras]), dtype=body.dtype)

    return stack("intrinsics"), stack("world_to_camera")


def true_points(person: Person, body: BodyModel, false_share: float) -> FacePoints:
    """True correspondences with 2% noise, a share of them replaced by pixels anywhere near."""
    random = torch.Generator().manual_seed(17 + person.number)
    vertices = pose_body(body, parameters_of_sequence(person.truth, body)).vertices
    intrinsics, world_to_camera = cameras_of(person, body)
    frames, count = len(vertices), 400
    corners = body.faces[torch.randint(len(body.faces), (frames, count), generator=random)]
    shares = torch.full((frames, count, 3), 1.0 / 3.0)
    points = torch.stack([vertices[t][corners[t]].mean(1) for t in range(frames)])
    inside = points @ world_to_camera[:, :3, :3].mT + world_to_camera[:, None, :3, 3]
    seen = inside @ intrinsics.mT
    pixels = seen[..., :2] / seen[..., 2:]
    low, high = pixels.amin(1, keepdim=True), pixels.amax(1, keepdim=True)
    length = (high - low).amax(-1, keepdim=True)
    noisy = pixels + 0.02 * length * torch.randn(pixels.shape, generator=random)
    anywhere = low + (high - low) * torch.rand(pixels.shape, generator=random)
    is_false = torch.rand(pixels.shape[:2], generator=random) < false_share
    targets = torch.where(is_false[..., None], anywhere, noisy)
    ones = torch.ones(frames, count)
    return FacePoints(
        corners, shares, targets, ones, 0.02 * length[..., 0] * ones, intrinsics, world_to_camera
    )


def score(
    truth: PoseSequence, start: PoseSequence, refined: PoseSequence, body: BodyModel
) -> dict[str, tuple[float, float]]:
    """Sums of one person's errors, after and by before."""
    before, after = evaluate(start, truth, body), evaluate(refined, truth, body)
    sums: dict[str, tuple[float, float]] = {}
    for name in METRICS:
        old, new = (np.array(scores[name]["values"]) for scores in (before, after))
        sums[name] = float(new.sum()), float(len(new))
        sums[f"{name}_ratio"] = float(new.sum()), float(old.sum())
    change = np.array(after["pve_mm"]["values"]) - np.array(before["pve_mm"]["values"])
    sums["worse_by_5_mm_share"] = float((change > WORSE_MM).sum()), float(len(change))
    status = refined.status or ("kept",) * len(truth)
    sums["refined_share"] = float(status.count("refined")), float(len(status))
    return sums


class Cache:
    """Finished cells by what they depend on; one small file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.code = sources_digest(Path(__file__))

    def get(self, key: Sequence[Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The cell of that key, made if it is not there."""
        name = hashlib.sha256(json.dumps([self.code, *key], sort_keys=True).encode()).hexdigest()
        path = self.folder / f"{name[:24]}.json"
        if not path.is_file():
            path.write_text(json.dumps(make()))
        return json.loads(path.read_text())


@dataclass(frozen=True)
class Comparison:
    """What is compared, over which people."""

    dataset: ValidationSet
    body: BodyModel
    people: list[Person]
    cache: Cache

    def start(self, person: Person, profile: str) -> PoseSequence:
        """A person's wrong poses: a level of the set, or `overlaid`."""
        if profile != "overlaid":
            return cut(self.dataset.start(profile, person.number), len(person.truth))
        typical = cut(self.dataset.start("typical", person.number), len(person.truth))
        return overlaid_start(person, typical, self.body)

    def row(self, profile: str, kinds: Sequence[str], settings: RefineSettings) -> dict[str, Any]:
        """Figures of one way."""

        def refined(person: Person, start: PoseSequence) -> PoseSequence:
            evidence = person.evidence(kinds, start, self.body)
            return refine_views(
                start, [person.view], body=self.body, settings=settings, evidence=evidence
            ).sequence

        return self._sums([profile, list(kinds), settings.to_map()], profile, refined)

    def initial(self, profile: str) -> dict[str, Any]:
        """Figures of the starts themselves."""
        return self._sums(["initial", profile], profile, lambda person, start: start)

    def with_false_targets(self, profile: str, share: float) -> dict[str, Any]:
        """Figures with true correspondences of which a share is false."""

        def refined(person: Person, start: PoseSequence) -> PoseSequence:
            evidence = [true_points(person, self.body, share)]
            return refine_views(
                start, [person.view], body=self.body, settings=ALONE, evidence=evidence
            ).sequence

        return self._sums(["false", share, profile], profile, refined)

    def _sums(
        self,
        key: Sequence[Any],
        profile: str,
        refined: Callable[[Person, PoseSequence], PoseSequence],
    ) -> dict[str, Any]:
        sums = Sums()
        for person in self.people:

            def make(person: Person = person) -> dict[str, Any]:
                began = time.perf_counter()
                start = self.start(person, profile)
                pairs = score(person.truth, start, refined(person, start), self.body)
                seconds = time.perf_counter() - began
                return {**pairs, "seconds_per_frame": (seconds, len(start))}

            cell = self.cache.get([*key, person.number, len(person.truth)], make)
            sums.add({name: (pair[0], pair[1]) for name, pair in cell.items()})
        return sums.result()


COLUMNS = (*METRICS, "pve_mm_ratio", "worse_by_5_mm_share", "refined_share")


def compare(comparison: Comparison, options: argparse.Namespace, tell) -> dict[str, Any]:
    """All tables that were asked for, told as they come."""
    results: dict[str, Any] = {}
    if "ways" in options.parts:
        for level in options.levels:
            rows = {"initial": comparison.initial(level)}
            for name, (kinds, settings) in WAYS.items():
                if options.ways and not any(word in name for word in options.ways):
                    continue
                rows[name] = comparison.row(level, kinds, settings)
            results.setdefault("ways", {})[level] = rows
            tell(table(f"Starts '{level}' (simulated)", rows, COLUMNS))
    if "profiles" in options.parts:
        rows = {}
        for profile in ("typical", "overlaid"):
            rows[f"{profile}: initial"] = comparison.initial(profile)
            for prior, base in PRIORS.items():
                for name in PROFILE_WAYS:
                    kinds, settings = WAYS[name]
                    settings = replace(
                        settings, prior_weight=base.prior_weight,
                        pose_prior_weight=base.pose_prior_weight,
                    )  # fmt: skip
                    rows[f"{profile}, {prior}: {name}"] = comparison.row(profile, kinds, settings)
        results["profiles"] = rows
        tell(table("Two simulated error profiles, two priors", rows, COLUMNS))
    if "robustness" in options.parts:
        results["robustness"] = robustness(comparison, tell)
    return results


def robustness(comparison: Comparison, tell) -> dict[str, Any]:
    """How much of the gain is left when a share of the targets is false."""
    rows = {"initial": comparison.initial("typical")}
    for share in FALSE_SHARES:
        rows[f"{share:.0%} false"] = comparison.with_false_targets("typical", share)
    before = rows["initial"]["pve_mm"]["mean"]
    gains = {share: before - rows[f"{share:.0%} false"]["pve_mm"]["mean"] for share in FALSE_SHARES}
    cost = 1.0 - gains[FALSE_SHARES[-1]] / gains[FALSE_SHARES[0]]
    tell(table("False targets among true correspondences (simulated), starts 'typical'",
               rows, COLUMNS))  # fmt: skip
    tell(f"\n{FALSE_SHARES[-1]:.0%} false targets cost {cost:.0%} of the gain in PVE.")
    return {"rows": rows, "cost_of_gain": cost}


def plot(results: dict[str, Any], path: Path) -> None:
    """PVE of every way with its interval, a panel a level."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    levels = results.get("ways", {})
    if not levels:
        return
    figure, axes = pyplot.subplots(1, len(levels), figsize=(5 * len(levels) + 2, 4), squeeze=False,
                                   sharey=True)  # fmt: skip
    for axis, (level, rows) in zip(axes[0], levels.items(), strict=True):
        names = list(rows)
        means = np.array([rows[name]["pve_mm"]["mean"] for name in names])
        low, high = (np.array([rows[n]["pve_mm"][key] for n in names]) for key in ("low", "high"))
        colors = ["#888888" if n == "initial" else "#2a7f62" if "ours" in n or "all" in n
                  else "#4a78b5" for n in names]  # fmt: skip
        axis.barh(names, means, xerr=np.stack([means - low, high - means]), color=colors)
        axis.set_title(f"starts '{level}' (simulated)")
        axis.set_xlabel("mean vertex error after, mm")
    axes[0][0].invert_yaxis()  # shared by all panels
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Reads the command line, compares, prints tables and writes figures and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", type=Path, default=Path("benchmarks/data/validation"))
    parser.add_argument("--levels", nargs="+", default=["typical", "good"])
    parser.add_argument("--people", nargs="*", type=int, default=[], help="all unless named")
    parser.add_argument("--frames", type=int, default=0, help="first frames of each; 0 is all")
    parser.add_argument("--ways", nargs="*", default=[], help="those whose names hold a word")
    parser.add_argument("--parts", nargs="+", default=["ways", "profiles", "robustness"])
    parser.add_argument("--cache", type=Path, default=Path(".cache/evidence"))
    parser.add_argument("--output", type=Path, help="JSON; .md and .png are written beside it")
    options = parser.parse_args()
    dataset, body = read_validation_set(options.set), load_body("free")
    dataset.check_body(body.content_hash)
    numbers = options.people or list(range(len(dataset.people)))
    people = [open_person(dataset, n, options.frames, body, options.cache / "files")
              for n in numbers]  # fmt: skip
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        print(text, flush=True)

    comparison = Comparison(dataset, body, people, Cache(options.cache / "cells"))
    frames = sum(len(person.truth) for person in people)
    tell(f"{len(people)} people, {frames} frames; starts, OpenPose and IUV are simulated")
    results = compare(comparison, options, tell)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        about = {"people": numbers, "frames": frames, "machine": platform.machine(),
                 "torch": torch.__version__}  # fmt: skip
        options.output.write_text(json.dumps({"about": about, **results}, indent=1))
        options.output.with_suffix(".md").write_text("\n".join(told) + "\n")
        plot(results, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
