# SPDX-License-Identifier: Apache-2.0
"""Fits the gates on the development set, and says how they do on people they were not fitted on.

    python benchmarks/fit_gate.py [--output backend/posefit/assets/gate/gates.json]

For each source of evidence the share b of a change that is right is regressed on the signs, each
frame weighing by the size of its change: that is least squares of the error that is left. A sign
whose meaning is plain (`LESS`, `MORE`) may only count that way. Frames of pictures that were made
unfit to see by (`spoilt`) are learned from as well: a gate must have met what it turns down. How
careful the gate is (margin, least step) is the choice with which, over people left out in turn,
the fewest frames end worse by more than 5 mm, of those that keep `KEPT` of the whole gain and
`KEPT_EACH` of each start's (keypoints alone have no gain to keep where starts are good). The
validation set has no part in it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from development_set import DEVELOPMENT, REPOSITORY
from gate_cases import SPOILT_LEVELS, Frames, refined_cases
from scipy.optimize import lsq_linear

from posefit.body import load_body
from posefit.validation_set import read_validation_set
from posefit.verdict.gate import Gate, SourceName, features
from posefit.verdict.signs import FrameSigns

OUTPUT = REPOSITORY / "backend/posefit/assets/gate/gates.json"
_NETWORK = (
    "one", "agreement", "after", "withheld", "size", "depth", "sigma", "scale", "usual", "doubt",
    "seen",
)  # fmt: skip
NAMES: dict[SourceName, tuple[str, ...]] = {
    "net": _NETWORK,
    "net-fast": _NETWORK,
    "keypoints": ("one", "agreement", "after", "size", "depth", "sigma", "scale", "usual"),
}  # fmt: skip
LESS = {"agreement", "after", "withheld", "doubt", "depth", "usual"}
"""The larger these, the smaller the share that is right."""
MORE = {"seen"}
"""The larger these, the larger."""
WORSE_M = 0.005
KEPT = 0.96
KEPT_EACH: dict[SourceName, float] = {"net": 0.93, "net-fast": 0.93, "keypoints": -np.inf}
MARGINS = np.linspace(0.0, 2.0, 21)
LEAST_STEPS = tuple(np.linspace(0.0, 0.8, 9).round(1).tolist())
SPOILT = 100
"""Added to the level of frames whose pictures were spoilt."""
RIDGE = 3.0
"""Of standardised features, in frames of mean weight."""
MOST_WEIGHT_M = 0.1
"""Changes larger than this count no more than one of this size."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """What steps make of frames."""

    worse: float
    """Share of frames that end worse by more than 5 mm."""
    kept: float
    """Share of the whole change's gain that is left."""
    taken: float
    """Share of frames that take any of it."""


def outcome(frames: Frames, steps: Array) -> Result:
    """How frames end with these steps."""
    before, whole, after = frames.pve[:, 0], frames.pve[:, -1], frames.pve_at(steps)
    gain = (before - whole).sum()
    kept = (before - after).sum() / gain if abs(gain) > 1e-9 else np.nan
    return Result(float((after - before > WORSE_M).mean()), float(kept), float((steps > 0).mean()))


def fit(frames: Frames, names: tuple[str, ...]) -> Gate:
    """A gate without margin."""
    columns = features(frames.signs)
    design = np.stack([columns[name] for name in names], 1)
    weight = np.minimum(frames.changed, MOST_WEIGHT_M**2)
    share = frames.common / np.maximum(frames.changed, 1e-8)
    known = np.isfinite(design).all(1) & (frames.changed > 1e-8)
    design, weight, share = design[known], weight[known] / weight[known].mean(), share[known]
    middle, spread = design.mean(0), design.std(0)
    middle[0], spread = 0.0, np.where(spread < 1e-9, 1.0, spread)
    scaled = (design - middle) / spread
    scaled[:, 0] = 1.0
    penalty = np.sqrt(RIDGE) * np.eye(len(names))
    penalty[0, 0] = 0.0
    root = np.sqrt(weight)
    solved = lsq_linear(
        np.concatenate([scaled * root[:, None], penalty]),
        np.concatenate([share * root, np.zeros(len(names))]),
        (
            [0.0 if name in MORE else -np.inf for name in names],
            [0.0 if name in LESS else np.inf for name in names],
        ),
    ).x
    left = share - scaled @ solved
    deviation = float(np.sqrt((weight * left**2).sum() / weight.sum()))
    weights = solved / spread
    weights[0] = solved[0] - (weights[1:] * middle[1:]).sum()
    return Gate(names, tuple(float(w) for w in weights), deviation, 0.0, 0.0)


def left_out(frames: Frames, names: tuple[str, ...]) -> tuple[Array, float]:
    """(N,) share that is expected to be right, from gates that never saw the person; spread."""
    expected, spreads = np.zeros(len(frames.person)), []
    for person in np.unique(frames.person):
        own = frames.person == person
        gate = fit(cut(frames, ~own), names)
        expected[own] = gate.right_share(cut(frames, own).signs)
        spreads.append(gate.spread)
    return expected, float(np.mean(spreads))


def cut(frames: Frames, where: npt.NDArray[np.bool_]) -> Frames:
    """Some of the frames."""
    values = {n: v[where] for n, v in vars(frames).items() if n != "signs"}
    signs = {n: None if v is None else v[where] for n, v in vars(frames.signs).items()}
    return Frames(signs=type(frames.signs)(**signs), **values)


def choose(frames: Frames, source: SourceName) -> tuple[Gate, Array]:
    """The most careful gate that keeps enough of the gain, and its steps for people left out."""
    names = NAMES[source]
    expected, spread = left_out(frames, names)
    plain = frames.level < SPOILT
    best: tuple[tuple[float, float], float, float, Array] | None = None
    for margin in MARGINS:
        for least in LEAST_STEPS:
            step = Gate(names, (), spread, float(margin), least).steps_of(expected)
            results = [outcome(cut(frames, frames.level == k), step[frames.level == k])
                       for k in np.unique(frames.level[plain])]  # fmt: skip
            whole = outcome(cut(frames, plain), step[plain])
            if whole.kept < KEPT or min(result.kept for result in results) < KEPT_EACH[source]:
                continue
            worse = outcome(frames, step).worse
            if best is None or (worse, -whole.kept) < best[0]:
                best = (worse, -whole.kept), float(margin), least, step
    if best is None:
        raise SystemExit(f"no gate keeps {KEPT:.0%} of the gain: its signs say too little")
    weights = tuple(round(weight, 5) for weight in fit(frames, names).weights)
    return Gate(names, weights, spread, best[1], best[2]), best[3]


def with_spoilt(plain: Frames, spoilt: Frames) -> Frames:
    """Both, levels of spoilt pictures counted from `SPOILT` on."""
    spoilt = replace(spoilt, level=spoilt.level + SPOILT)
    values = {
        n: np.concatenate([v, getattr(spoilt, n)]) for n, v in vars(plain).items() if n != "signs"
    }
    signs = {
        n: None if v is None else torch.cat([v, getattr(spoilt.signs, n)])
        for n, v in vars(plain.signs).items()
    }
    return Frames(signs=FrameSigns(**signs), **values)


def names_of_levels(levels: tuple[str, ...]) -> dict[int, str]:
    """What to call the levels of `with_spoilt`."""
    return dict(enumerate(levels)) | {
        SPOILT + levels.index(level): f"{level}, spoilt pictures" for level in SPOILT_LEVELS
    }


def told(frames: Frames, steps: Array, levels: dict[int, str]) -> list[dict[str, object]]:
    """A row a start, with and without the gate."""
    rows = []
    for k in np.unique(frames.level):
        part = cut(frames, frames.level == k)
        free, gated = (
            outcome(part, np.ones(len(part.person))),
            outcome(part, steps[frames.level == k]),
        )
        rows.append({
            "starts": levels[k], "frames": len(part.person),
            "pve_before_mm": 1e3 * float(part.pve[:, 0].mean()),
            "pve_ungated_mm": 1e3 * float(part.pve[:, -1].mean()),
            "pve_gated_mm": 1e3 * float(part.pve_at(steps[frames.level == k]).mean()),
            "worse_ungated": free.worse, "worse_gated": gated.worse,
            "gain_kept": gated.kept, "taken": gated.taken,
        })  # fmt: skip
    return rows


def main() -> None:
    """Fits, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=Path, default=DEVELOPMENT)
    parser.add_argument("--sources", nargs="+", default=list(NAMES))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    dataset, body = read_validation_set(options.set), load_body("free")
    dataset.check_body(body.content_hash)
    known = json.loads(options.output.read_text()) if options.output.exists() else {}
    gates, left = known.get("gates", {}), known.get("people_left_out", {})
    for source in options.sources:
        frames = with_spoilt(
            Frames.of(list(refined_cases(dataset, body, source))),
            Frames.of(list(refined_cases(dataset, body, source, spoilt=True))),
        )
        gate, steps = choose(frames, source)
        gates[source] = {n: list(v) if isinstance(v, tuple) else v for n, v in vars(gate).items()}
        left[source] = told(frames, steps, names_of_levels(dataset.levels))
        print(
            f"\n{source}: spread {gate.spread:.3f}, margin {gate.margin:.2f}, "
            f"least step {gate.least_step}"
        )
        print({n: round(w, 3) for n, w in zip(gate.names, gate.weights, strict=True)})
        for row in left[source]:
            print({n: round(v, 4) if isinstance(v, float) else v for n, v in row.items()})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = {"made_by": "benchmarks/fit_gate.py", "set": options.set.name, "gates": gates,
            "people_left_out": left}  # fmt: skip
    options.output.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
