# SPDX-License-Identifier: Apache-2.0
"""What each choice of the refinement is worth, on the development set.

    python benchmarks/refinement_choices.py [--levels good typical] [--people 0 4 …]
        [--rows trust …] [--output FILE]

A row changes one choice and leaves the others as chosen. Errors are of what the solver finds, after
by before, before any frame is turned down. The starts are simulated; the motion is training's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from development_set import DEVELOPMENT, METRICS, Case, RememberedEstimator, errors

from posefit.body import load_body
from posefit.displacement import load_estimator
from posefit.displacement.weights import shipped_weights
from posefit.refinement.method import InputTrust, Method, SharedErrors, TwistSearch
from posefit.validation_set import read_validation_set
from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

CHOSEN, TRUST, SHARED = Method(), InputTrust(), SharedErrors()
NET = RefineSettings(displacement="net", keypoints=False)
WORSE_MM = 5.0
TRUE_SHAPE = "the true shape, kept"
"""The row whose starts have the shape that is true: what there is to gain from it."""

ROWS: dict[str, tuple[Method, RefineSettings]] = {
    "as chosen": (CHOSEN, NET),
    "input trusted alike": (replace(CHOSEN, trust=None), NET),
    "trust: scale 15 / m": (replace(CHOSEN, trust=replace(TRUST, scale_per_m=15.0)), NET),
    "trust: scale 30 / m": (replace(CHOSEN, trust=replace(TRUST, scale_per_m=30.0)), NET),
    "trust: noise 0": (replace(CHOSEN, trust=replace(TRUST, noise_m=0.0)), NET),
    "trust: at most 2": (replace(CHOSEN, trust=replace(TRUST, largest=2.0)), NET),
    "frames learn nothing": (replace(CHOSEN, shared=None), NET),
    "shared: constant 0.7": (replace(CHOSEN, shared=SharedErrors(0.7, 0.2)), NET),
    "no search for twists": (replace(CHOSEN, twists=None), NET),
    "twists: anatomy alone": (replace(CHOSEN, twists=TwistSearch(picture_weight=0.0)), NET),
    "no pose prior": (replace(CHOSEN, pose_prior_weight=0.0), NET),
    "pose prior 0.5": (replace(CHOSEN, pose_prior_weight=0.5), NET),
    "5 points": (replace(CHOSEN, effective_points=5.0), NET),
    "12 points": (replace(CHOSEN, effective_points=12.0), NET),
    "60 points": (replace(CHOSEN, effective_points=60.0), NET),
    "depth 2%": (replace(CHOSEN, depth_sigma_fraction=0.02), NET),
    "depth 8%": (replace(CHOSEN, depth_sigma_fraction=0.08), NET),
    "shape: the input's within 0.3": (replace(CHOSEN, shape_reference_sigma=0.3), NET),
    "shape: the input's within 0.6": (replace(CHOSEN, shape_reference_sigma=0.6), NET),
    "shape: the input's within 2": (replace(CHOSEN, shape_reference_sigma=2.0), NET),
    TRUE_SHAPE: (CHOSEN, replace(NET, refine_shape=False)),
    "crop 1.15": (replace(CHOSEN, crop_margin=1.15), NET),
    "crop 1.5": (replace(CHOSEN, crop_margin=1.5), NET),
    "1 round": (CHOSEN, replace(NET, rounds=1)),
    "2 rounds": (CHOSEN, replace(NET, rounds=2)),
    "3 rounds": (CHOSEN, replace(NET, rounds=3)),
    "no smoothness": (CHOSEN, replace(NET, smoothness=0.0)),
    "smoothness 3": (CHOSEN, replace(NET, smoothness=3.0)),
    "shape as it came": (CHOSEN, replace(NET, refine_shape=False)),
    "a shape for each frame": (replace(CHOSEN, one_shape=False), NET),
    **{
        f"keypoints too, weight {weight}": (
            replace(CHOSEN, keypoint_weight=weight), replace(NET, keypoints=True)
        )
        for weight in (0.03, 0.1, 0.3, 1.0)
    },
    "keypoints alone": (CHOSEN, replace(NET, displacement="none", keypoints=True)),
    "keypoints alone, input trusted alike": (
        replace(CHOSEN, trust=None), replace(NET, displacement="none", keypoints=True)
    ),
}  # fmt: skip
"""Names, and what they change."""


class TrueShape(Case):
    """A case whose shape need not be found."""

    @property
    def start(self) -> PoseSequence:
        """The simulated start with the true shape."""
        return super().start.replace(betas=self.truth.betas)


def score(cases: Sequence[Case], name: str, estimator: Any) -> dict:
    """A row's ratios of errors and the share of frames that got worse, over all cases."""
    method, settings = ROWS[name]
    before: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}
    after: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}
    for case in cases:
        used = None if settings.displacement == "none" else estimator
        tried = case
        if name == TRUE_SHAPE:
            tried = TrueShape(case.dataset, case.body, case.person, case.level)
        found = tried.refine(used, method, settings).found
        for values, sequence in ((before, case.start), (after, found)):
            for metric, one in errors(sequence, case).items():
                values[metric].append(one)
    old = {name: np.concatenate(values) for name, values in before.items()}
    new = {name: np.concatenate(values) for name, values in after.items()}
    ratios = {name: float(new[name].sum() / old[name].sum()) for name in METRICS}
    worse = float((new["pve_mm"] - old["pve_mm"] > WORSE_MM).mean())
    return {**ratios, "worse_by_5_mm_share": worse, "frames": len(old["pve_mm"])}


def table(
    options: argparse.Namespace, tell: Callable[[str], None]
) -> dict[str, dict[str, dict[str, float]]]:
    """All rows that were asked for, told as they come."""
    dataset, body = read_validation_set(options.set), load_body("free")
    dataset.check_body(body.content_hash)
    weights = shipped_weights()
    estimator = RememberedEstimator(load_estimator("net"), weights)
    people = options.people or range(len(dataset.people))
    results: dict[str, dict[str, dict[str, float]]] = {}
    for level in options.levels:
        cases = [Case(dataset, body, person, level) for person in people]
        tell(f"\nStarts '{level}', after / before, {len(cases)} people")
        tell("| | MPJPE | PA-MPJPE | PVE | 2D vertices | worse by > 5 mm |")
        tell("|---" * 6 + "|")
        results[level] = {}
        for name in ROWS:
            if options.rows and not any(word in name for word in options.rows):
                continue
            row = score(cases, name, estimator)
            results[level][name] = row
            figures = " | ".join(f"{row[metric]:.3f}" for metric in METRICS)
            tell(f"| {name} | {figures} | {row['worse_by_5_mm_share']:.1%} |")
    return results


def main() -> None:
    """Reads the command line, prints the table and writes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", type=Path, default=DEVELOPMENT)
    parser.add_argument("--levels", nargs="*", default=["good", "typical"])
    parser.add_argument("--people", nargs="*", type=int, default=[], help="all unless named")
    parser.add_argument("--rows", nargs="*", default=[], help="words of rows; all unless named")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = table(options, lambda text: print(text, flush=True))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
