# SPDX-License-Identifier: Apache-2.0
"""How honest the displacement network is about itself, on the rendered validation set.

    python benchmarks/calibration.py [--set benchmarks/data/validation] [--levels good typical] \
        [--weights FILE] [--output benchmarks/results/calibration.json] \
        [--plot docs/images/calibration.png]

First looks at 256² crops, as in `validation_set.py`, all body pixels. The network says a σ for the
error of each axis and a chance that the point can be seen. Scale: pixels sorted by their σ into ten
equal groups, what they say beside what is found, and the share of errors inside the intervals that
a Laplace distribution of that σ names. Visibility: the chance said beside the share found, and
their mean distance (ECE). Intervals are a bootstrap over people (95%). The starts are simulated.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from validation_set import first_look

from posefit.body import load_body
from posefit.displacement.inference import NetworkEstimator
from posefit.displacement.weights import shipped_weights
from posefit.footage import open_footage
from posefit.validation_set import read_validation_set
from posefit.views import view_of_sequence

LEVELS = (0.5, 0.8, 0.95)
GROUPS = 10
DRAWS = 1000
ROOT_2 = 2.0**0.5
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """All body pixels of one person's frames."""

    sigma: Floats
    """(N,) one σ per axis that the network says, crop pixels."""
    error: Floats
    """(N, 2) error of each axis, crop pixels."""
    chance: Floats
    """(N,) said chance that the point can be seen."""
    seen: Floats
    """(N,) 1 where it can."""

    def where(self, chosen: npt.NDArray[np.bool_]) -> Answers:
        """Some of the pixels."""
        return Answers(
            self.sigma[chosen], self.error[chosen], self.chance[chosen], self.seen[chosen]
        )


def joined(answers: list[Answers]) -> Answers:
    """The pixels of all."""
    return Answers(
        *(
            np.concatenate([getattr(a, name) for a in answers])
            for name in ("sigma", "error", "chance", "seen")
        )
    )


def answers_of(options: argparse.Namespace, level: str, tell: Callable[[str], None]) -> list:
    """Each person's pixels under one level of starts."""
    dataset, body = read_validation_set(options.set), load_body("free")
    dataset.check_body(body.content_hash)
    estimator = NetworkEstimator(torch.device(options.device), options.weights)
    people = []
    for person in range(len(dataset.people)):
        start = dataset.start(level, person)
        footage = open_footage(dataset.footage_folder(person), fps=start.mocap_framerate)
        look = first_look(dataset, person, start, view_of_sequence(start, footage), body)
        found = estimator.predict(look.images, look.modalities)
        where = look.counted
        pixels = (
            found.scale[where], (found.displacement - look.displacement)[where],
            found.visibility[where], look.visible[where],
        )  # fmt: skip
        people.append(Answers(*(value.double().cpu().numpy() for value in pixels)))
        tell(f"{level}: {dataset.people[person]}, {len(people[-1].sigma)} pixels")
    return people


def half_width(level: float) -> float:
    """Half the width of a Laplace distribution's central interval, in σ."""
    return -np.log(1.0 - level) / ROOT_2


def coverage(answers: Answers) -> Floats:
    """Share of errors inside the 50, 80 and 95% intervals, over both axes."""
    inside = [np.abs(answers.error) <= half_width(p) * answers.sigma[:, None] for p in LEVELS]
    return np.array([part.mean() for part in inside])


def expected_calibration_error(answers: Answers) -> Floats:
    """Mean distance of said chance and share found, over ten equally wide groups of chances."""
    rows = visibility_groups(answers)
    shares = np.array([row["pixels"] for row in rows]) / len(answers.chance)
    apart = np.array([abs(row["said"] - row["found"]) for row in rows])
    return np.array([(shares * apart).sum()])


def with_intervals(people: list[Answers], measure: Callable[[Answers], Floats]) -> list[Any]:
    """Figures of all people, with 95% intervals of a bootstrap over people."""
    random = np.random.default_rng(0)
    thin = [one.where(np.arange(len(one.sigma)) % 23 == 0) for one in people]
    draws = np.stack(
        [
            measure(joined([thin[k] for k in random.integers(0, len(thin), len(thin))]))
            for _ in range(DRAWS)
        ]
    )
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return [
        {"value": round(float(v), 4), "low": round(float(a), 4), "high": round(float(b), 4)}
        for v, a, b in zip(measure(joined(people)), low, high, strict=True)
    ]


def scale_groups(answers: Answers) -> list[dict[str, float]]:
    """What pixels of like σ say of their mean and median error, and what is found."""
    order = np.argsort(answers.sigma, kind="stable")
    rows = []
    for group in np.array_split(order, GROUPS):
        sigma, error = answers.sigma[group], np.abs(answers.error[group])
        rows.append(
            {
                "sigma_px": sigma.mean(),
                "said_mean_px": sigma.mean() / ROOT_2,
                "found_mean_px": error.mean(),
                "found_median_px": np.median(error),
                "said_median_px": np.median(sigma) * np.log(2) / ROOT_2,
                "inside_80": (error <= half_width(0.8) * sigma[:, None]).mean(),
            }  # fmt: skip
        )
    return [{name: round(float(value), 4) for name, value in row.items()} for row in rows]


def visibility_groups(answers: Answers) -> list[dict[str, float]]:
    """What pixels of like chance say, and the share that can be seen."""
    group = np.clip((answers.chance * GROUPS).astype(int), 0, GROUPS - 1)
    rows = []
    for index in range(GROUPS):
        where = group == index
        if where.any():
            said, found = answers.chance[where].mean(), answers.seen[where].mean()
            rows.append({"said": round(float(said), 4), "found": round(float(found), 4),
                         "pixels": int(where.sum())})  # fmt: skip
    return rows


def measured(people: list[Answers]) -> dict[str, Any]:
    """All figures of one level."""
    everything = joined(people)
    inside = with_intervals(people, coverage)
    by_sight = {}
    for name, wanted in (("visible", 1.0), ("hidden", 0.0)):
        chosen = everything.where(everything.seen == wanted)
        by_sight[name] = dict(zip(map(str, LEVELS), coverage(chosen).round(4), strict=True))
    error = np.abs(everything.error)
    return {
        "pixels": len(everything.sigma),
        "coverage": dict(zip(map(str, LEVELS), inside, strict=True)),
        "coverage_by_sight": by_sight,
        "error_over_said": round(float((error / everything.sigma[:, None]).mean() * ROOT_2), 4),
        "scale_groups": scale_groups(everything),
        "rank_correlation": round(rank_correlation(everything.sigma, error.sum(1)), 4),
        "visibility_ece": with_intervals(people, expected_calibration_error)[0],
        "visibility_brier": round(float(np.square(everything.chance - everything.seen).mean()), 4),
        "visibility_groups": visibility_groups(everything),
        "visible_share": round(float(everything.seen.mean()), 4),
    }


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's: 1 where one sorts like the other."""
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def table(results: dict[str, Any]) -> str:
    """The figures as a Markdown table."""

    def cell(entry: dict[str, float]) -> str:
        return f"{entry['value']:.3f} ({entry['low']:.3f}–{entry['high']:.3f})"

    names = [f"inside {int(100 * p)}%" for p in LEVELS]
    head = ["starts", *names, "error / said", "rank correlation", "visibility ECE"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for level, one in results.items():
        cells = [
            level, *(cell(one["coverage"][str(p)]) for p in LEVELS),
            f"{one['error_over_said']:.2f}", f"{one['rank_correlation']:.2f}",
            cell(one["visibility_ece"]),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Reads the command line, measures, prints a table, writes figures and the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", type=Path, default=Path("benchmarks/data/validation"))
    parser.add_argument("--levels", nargs="*", default=[], help="starts; all unless named")
    parser.add_argument(
        "--weights", type=Path, default=shipped_weights(), help="the shipped large network's"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/calibration.json"))
    parser.add_argument("--plot", type=Path, default=Path("docs/images/calibration.png"))
    options = parser.parse_args()
    levels = options.levels or read_validation_set(options.set).levels
    found = {
        level: answers_of(options, level, lambda text: print(text, flush=True)) for level in levels
    }
    results = {level: measured(people) for level, people in found.items()}
    if len(levels) > 1:
        together = [joined(list(parts)) for parts in zip(*found.values(), strict=True)]
        results["all"] = measured(together)
    print(table(results))
    page = {
        "set": str(options.set), "starts": "simulated",
        "weights": options.weights.name,
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}",
        "levels": results,
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(page, indent=1) + "\n")
    from calibration_plot import draw

    draw(results, options.plot)


if __name__ == "__main__":
    main()
