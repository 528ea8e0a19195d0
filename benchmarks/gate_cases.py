# SPDX-License-Identifier: Apache-2.0
"""Refinements with exact truth for the gate to learn from, and to be judged on.

For each frame: the signs that posefit itself has, and what the change was really worth. Nothing
here depends on the gate: the change is what the solver found. Finished refinements are kept in
.cache/gate under the code, settings and weights that they come from.

    python benchmarks/gate_cases.py --set benchmarks/data/development --people 0 1 2 &
    python benchmarks/gate_cases.py --set benchmarks/data/development --people 3 4 5

makes them ahead in several processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from development_set import REPOSITORY, Case, RememberedEstimator
from sources import GATES as GATES_FILE
from sources import sources_digest

from posefit.body import pose_body
from posefit.displacement import load_estimator
from posefit.displacement.weights import shipped_weights
from posefit.parameters import parameters_of_sequence
from posefit.refinement.method import Method
from posefit.verdict.gate import SourceName
from posefit.verdict.signs import FrameSigns
from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

__all__ = [
    "GATES",
    "SOURCES",
    "SPOILT_LEVELS",
    "STEPS",
    "Frames",
    "Refined",
    "refined",
    "refined_cases",
]

MEMORY = REPOSITORY / ".cache/gate"
SOURCES: dict[str, RefineSettings] = {
    "net": RefineSettings(displacement="net", keypoints=False),
    "net and keypoints": RefineSettings(displacement="net", keypoints=True),
    "keypoints": RefineSettings(displacement="none", keypoints=True),
    "net-fast": RefineSettings(displacement="net-fast", keypoints=False),
}
"""What is seen of the pictures."""
GATES: dict[str, SourceName] = {
    "net": "net", "net and keypoints": "net", "keypoints": "keypoints", "net-fast": "net-fast"
}  # fmt: skip
"""Which gate judges each."""
STEPS = np.linspace(0.0, 1.0, 11)
"""Shares of a change whose errors are kept."""
SPOILT_LEVELS = ("good", "typical")
"""Starts under spoilt pictures."""
_JUDGES = ("verdict/acceptance.py", "verdict/gate.py", GATES_FILE)
"""What a found pose and its signs do not depend on."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frames:
    """Frames of refinements; distances in metres over all vertices, pelvis on pelvis."""

    person: npt.NDArray[np.int64]
    """(N,) people of a set."""
    level: npt.NDArray[np.int64]
    """(N,) start, from good to bad."""
    signs: FrameSigns
    """What can be told without the truth."""
    changed: Array
    """(N,) mean squared change."""
    common: Array
    """(N,) mean inner product of what was wrong and what was changed."""
    pve: Array
    """(N, S) mean vertex error after each of `STEPS`."""

    def pve_at(self, steps: Array) -> Array:
        """(N,) mean vertex error after a share of each frame's change, metres."""
        place = np.clip(steps, 0.0, 1.0) * (len(STEPS) - 1)
        low = np.minimum(place.astype(int), len(STEPS) - 2)
        rows, part = np.arange(len(low)), place - low
        return self.pve[rows, low] * (1 - part) + self.pve[rows, low + 1] * part

    @staticmethod
    def of(cases: Sequence[Refined]) -> Frames:
        """The frames of some refinements."""
        rows = [case.rows for case in cases]
        joined = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        signs = {
            f.name: torch.from_numpy(joined.pop(f"sign_{f.name}"))
            for f in fields(FrameSigns)
            if f"sign_{f.name}" in joined
        }
        own = {f.name: joined[f.name] for f in fields(Frames) if f.name != "signs"}
        return Frames(signs=FrameSigns(**signs), **own)


@dataclass(frozen=True)
class Refined:
    """One person's refinement from one start."""

    case: Case
    found: PoseSequence
    """Before any verdict."""
    ratio: Array
    """(T,) misfit after by before."""
    times: Array
    """(T,) seconds."""
    rows: dict[str, np.ndarray]
    """What `Frames` holds."""


def refined_cases(
    dataset,
    body,
    source: str,
    levels: Sequence[str] = (),
    people: Sequence[int] = (),
    *,
    spoilt: bool = False,
) -> Iterator[Refined]:
    """Refinements of a set under a source of evidence.

    Args:
        dataset: a rendered set.
        body: the body it belongs to.
        source: what is seen of its pictures.
        levels: starts; all unless named.
        people: all unless named.
        spoilt: whether their pictures are made unfit to see by.
    """
    for level in levels or (SPOILT_LEVELS if spoilt else dataset.levels):
        for person in people or range(len(dataset.people)):
            yield refined(Case(dataset, body, person, level, spoilt), source)


def refined(case: Case, source: str) -> Refined:
    """One refinement, made or read again."""
    folder, start = case.dataset.folder.name, case.start
    kind = "_spoilt" if case.spoilt else ""
    name = f"{folder}{kind}_{source}_{case.level}_{case.person}.npz".replace(" ", "-")
    path = MEMORY / _code() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = _made(case, source)
        np.savez_compressed(path.with_suffix(".part.npz"), **made)
        path.with_suffix(".part.npz").rename(path)
    with np.load(path) as kept:
        values = dict(kept)
    found = start.replace(**{n: values.pop(f"found_{n}") for n in ("poses", "trans", "betas")})
    return Refined(case, found, values.pop("ratio"), values.pop("times"), values)


@lru_cache(maxsize=1)
def _code() -> str:
    return sources_digest(left_out=_JUDGES)[:12]


def _made(case: Case, source: str) -> dict[str, np.ndarray]:
    settings, body = SOURCES[source], case.body
    estimator = None
    if settings.displacement != "none":
        form = "fast" if settings.displacement == "net-fast" else "large"
        estimator = RememberedEstimator(
            load_estimator(settings.displacement), shipped_weights(form)
        )
    refinement = case.refine(estimator, Method(), settings)
    assert refinement.signs is not None

    def vertices(sequence: PoseSequence) -> torch.Tensor:
        posed = pose_body(body, parameters_of_sequence(sequence, body))
        return posed.vertices - posed.joints[:, :1]

    start, found = case.start, refinement.found
    given, truth = vertices(start), vertices(case.truth)
    change, wrong = vertices(found) - given, truth - given
    pve = [(wrong - float(step) * change).norm(dim=-1).mean(1) for step in STEPS]
    frames, levels = len(given), case.dataset.levels
    signs = {n: v.double().numpy() for n, v in vars(refinement.signs).items() if v is not None}
    return {
        "person": np.full(frames, case.person),
        "level": np.full(frames, levels.index(case.level)),
        "times": np.asarray(start.frame_indices) / start.mocap_framerate,
        "ratio": refinement.verdict.ratio,
        "changed": change.square().sum(-1).mean(1).double().numpy(),
        "common": (wrong * change).sum(-1).mean(1).double().numpy(),
        "pve": torch.stack(pve, -1).double().numpy(),
        "found_poses": found.poses,
        "found_trans": found.trans,
        "found_betas": found.betas,
        **{f"sign_{name}": values for name, values in signs.items()},
    }


def main() -> None:
    """Makes what is missing."""
    from posefit.body import load_body
    from posefit.validation_set import read_validation_set

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--sources", nargs="+", default=list(SOURCES))
    parser.add_argument("--levels", nargs="*", default=[])
    parser.add_argument("--people", nargs="*", type=int, default=[])
    parser.add_argument("--spoilt", action="store_true", help="with pictures unfit to see by")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset, body = read_validation_set(options.set), load_body("free")
    dataset.check_body(body.content_hash)
    for source in options.sources:
        for _ in refined_cases(
            dataset, body, source, options.levels, options.people, spoilt=options.spoilt
        ):
            pass


if __name__ == "__main__":
    main()
