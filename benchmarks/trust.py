# SPDX-License-Identifier: Apache-2.0
"""What the verdict makes of refinements: how often they end worse, and how much of the gain stays.

    python benchmarks/trust.py [--sources net …] [--levels good typical …] [--people 0 3 …]
        [--output benchmarks/results/trust.json] [--plot docs/images/coverage_risk.png]

On the rendered validation set, which the gates never saw. Every refinement is judged three ways:
not at all, by the evidence that made it (its own cost before and after), and by the gate. Worse
means 5 mm of mean vertex error or more. The starts are simulated; intervals are bootstraps over
people (95%).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from development_set import METRICS, REPOSITORY, errors
from gate_cases import GATES, SOURCES, SPOILT_LEVELS, Frames, Refined, refined_cases
from validation_set import WORSE_MM, Sums

from posefit.body import load_body
from posefit.validation_set import read_validation_set
from posefit.verdict.acceptance import Verdict, apply_verdict, steps_by_cost, verdict_of
from posefit.verdict.gate import load_gates
from posefit_shared.settings import RefineSettings

VALIDATION = REPOSITORY / "benchmarks/data/validation"
WAYS = ("not judged", "by its own cost", "by the gate")
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One refinement before, and after each way of judging it: (T,) figures by metric."""

    before: dict[str, Array]
    after: dict[str, dict[str, Array]]
    """By way, then by metric."""
    steps: dict[str, Array]
    """By way: (T,) how much of its change each frame took."""


def verdicts(refined: Refined, source: str) -> dict[str, Verdict]:
    """The three ways of judging."""
    ratio, times = refined.ratio, refined.times
    seen = np.isfinite(ratio)
    signs = Frames.of([refined]).signs
    return {
        "not judged": Verdict(seen.astype(float), ratio, seen, None),
        "by its own cost": verdict_of(steps_by_cost(ratio), ratio, times, None),
        "by the gate": verdict_of(load_gates()[GATES[source]].steps(signs), ratio, times, None),
    }


def judged(refined: Refined, source: str) -> Judged:
    """One refinement under all verdicts."""
    case = refined.case
    found, after = verdicts(refined, source), {}
    for way, verdict in found.items():
        taken = apply_verdict(case.start, refined.found, verdict, RefineSettings(), case.body)
        after[way] = errors(taken, case)
    return Judged(errors(case.start, case), after, {w: v.step for w, v in found.items()})


def figures(people: Sequence[Judged], way: str) -> dict[str, Any]:
    """A row: means over people with their intervals."""
    sums = Sums()
    for one in people:
        before, after, step = one.before, one.after[way], one.steps[way]
        frames = float(len(step))
        worse = (after["pve_mm"] - before["pve_mm"] > WORSE_MM).sum()
        gain, whole = (
            float((before["pve_mm"] - one.after[name]["pve_mm"]).sum())
            for name in (way, "not judged")
        )
        sums.add(
            {
                **{f"{m}_ratio": (float(after[m].sum()), float(before[m].sum())) for m in METRICS},
                "pve_mm": (float(after["pve_mm"].sum()), frames),
                "worse_by_5_mm_share": (float(worse), frames),
                "gain_kept": (gain, whole),
                "frames_taken_share": (float((step > 0).sum()), frames),
                "mean_step": (float(step.sum()), frames),
            }
        )
    return sums.result()


def curve(cases: Sequence[Refined], source: str) -> dict[str, list[float]]:
    """Coverage and risk: frames in the order of what the gate expects of them."""
    frames = Frames.of(cases)
    expected = np.nan_to_num(load_gates()[GATES[source]].right_share(frames.signs), nan=-np.inf)
    order = np.argsort(-expected, kind="stable")
    change = 1e3 * (frames.pve[:, -1] - frames.pve[:, 0])[order]
    count = np.arange(1, len(change) + 1)
    return {
        "coverage": (count / len(count)).tolist(),
        "worse_by_5_mm_share": ((change > WORSE_MM).cumsum() / count).tolist(),
        "mean_change_mm": (change.cumsum() / count).tolist(),
    }


def cell(entry: dict[str, float], digits: int = 2) -> str:
    """A mean and its interval."""
    return f"{entry['mean']:.{digits}f} ({entry['low']:.{digits}f}–{entry['high']:.{digits}f})"


def share(entry: dict[str, float]) -> str:
    """The same in per cent."""
    return f"{entry['mean']:.1%} ({entry['low']:.1%}–{entry['high']:.1%})"


def kept(entry: dict[str, float]) -> str:
    """Share of the unjudged gain that is left; nothing to keep where that was a loss."""
    return f"{entry['mean']:.0%}" if 0 <= entry["mean"] < 10 else "–"


HEADING = (
    "| starts | judged | PVE, mm | PVE after / before | PA-MPJPE | 2D vertices "
    "| worse by > 5 mm | gain kept | frames taken |\n" + "|---" * 9 + "|"
)


def line(level: str, way: str, row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [
        cell(row["pve_mm"], 1), cell(row["pve_mm_ratio"]), cell(row["pa_mpjpe_mm_ratio"]),
        cell(row["vertex_2d_px_ratio"]), share(row["worse_by_5_mm_share"]),
        kept(row["gain_kept"]), f"{row['frames_taken_share']['mean']:.0%}",
    ]  # fmt: skip
    return f"| {level} | {way} | {' | '.join(cells)} |"


def plot(curves: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Risk and mean change against coverage, a line a source."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8))
    colors = dict(zip(SOURCES, ("#b5764a", "#2a7f62", "#4a78b5", "#8a6fb0"), strict=True))
    for name, values in curves.items():
        source, _, spoilt = name.partition(", ")
        look: dict[str, Any] = {"color": colors[source], "linestyle": ":" if spoilt else "-"}
        coverage = 100 * np.array(values["coverage"])
        shown = coverage >= 5  # the first few frames are noise
        worse, change = (
            np.array(values[key])[shown] for key in ("worse_by_5_mm_share", "mean_change_mm")
        )
        left.plot(coverage[shown], 100 * worse, label=name, **look)
        right.plot(coverage[shown], change, **look)
    left.set_ylabel("of these, worse by > 5 mm, %")
    right.set_ylabel("mean change of their vertex error, mm")
    left.set_ylim(bottom=0)
    for axis in (left, right):
        axis.set_xlabel("frames taken, surest first, %")
        axis.grid(color="#dddddd")
        axis.spines[["top", "right"]].set_visible(False)
    right.axhline(0, color="#888888", linewidth=0.8)
    left.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Judges, prints tables, writes figures and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", type=Path, default=VALIDATION)
    parser.add_argument(
        "--sources", nargs="+", choices=list(SOURCES), default=["net and keypoints", "keypoints"]
    )
    parser.add_argument("--levels", nargs="*", default=[], help="starts; all unless named")
    parser.add_argument("--people", nargs="*", type=int, default=[], help="all unless named")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    dataset, body = read_validation_set(options.set), load_body("free")
    dataset.check_body(body.content_hash)
    results: dict[str, Any] = {"set": dataset.folder.name, "starts": "simulated", "sources": {}}
    curves = {}
    for source in options.sources:
        rows: dict[str, Any] = {}
        print(f"\n{source}\n\n{HEADING}", flush=True)
        for spoilt in (False, True):
            cases: list[Refined] = []
            for level in options.levels or (SPOILT_LEVELS if spoilt else dataset.levels):
                name = f"{level}, spoilt pictures" if spoilt else level
                own = list(
                    refined_cases(dataset, body, source, [level], options.people, spoilt=spoilt)
                )
                people = [judged(one, source) for one in own]
                rows[name] = {way: figures(people, way) for way in WAYS}
                for way in WAYS:
                    print(line(name, way, rows[name][way]), flush=True)
                cases += own
            name = f"{source}, spoilt pictures" if spoilt else source
            curves[name] = curve(cases, source)
        results["sources"][source] = rows
    results["curves"] = curves
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=1) + "\n")
    if options.plot:
        plot(curves, options.plot)


if __name__ == "__main__":
    main()
