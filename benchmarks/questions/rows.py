# SPDX-License-Identifier: Apache-2.0
"""Questions as values, their answers kept person by person, and intervals over people.

An answer is kept under what it depends on (weights, set, frames, solver settings), so that a run
that was cut goes on where it stopped and another network starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from posefit.body import BodyModel
from posefit.validation_set import ValidationSet
from questions.cases import Case, Painter, load_case
from questions.looks import Bench, Sums

__all__ = [
    "Answer",
    "Figure",
    "Question",
    "Stage",
    "add_sums",
    "answer",
    "ratio_of_rows",
    "ratio_with_interval",
    "spread",
]

DRAWS = 2000
"""Bootstrap samples of the people."""

Answer = dict[str, dict[int, Sums]]
"""For each row, each person's sums."""


@dataclass(frozen=True)
class Stage:
    """Where a set's questions are asked."""

    dataset: ValidationSet
    bench: Bench
    painter: Painter
    people: tuple[int, ...]
    frames: int
    """Frames of each person, spread over the person's frames."""
    level: str = "typical"
    """The start that questions begin with unless they are about the start."""

    @property
    def body(self) -> BodyModel:
        """The body of the set."""
        return self.bench.body

    def chosen(self, person: int) -> list[int]:
        """The frames of one person that are looked at."""
        return spread(len(self.dataset.frames_of(person)), self.frames)

    def case(self, person: int, level: str | None = None) -> Case:
        """A person's case, with the textures that posefit paints under that start."""
        return load_case(
            self.dataset, person, level or self.level, self.chosen(person), self.painter
        )


@dataclass(frozen=True)
class Question:
    """One thing that is asked of every person of a set."""

    name: str
    """Also the name of its answers' folder."""
    measure: Callable[[Stage, int], dict[str, Sums]]
    """One person's sums for every row."""
    depends: str = ""
    """What its answers depend on beside what all do."""


@dataclass(frozen=True)
class Figure:
    """A mean or a ratio with its 95% interval over people."""

    mean: float
    low: float
    high: float
    people: int


def spread(total: int, wanted: int) -> list[int]:
    """Numbers of evenly spread frames, each once."""
    return np.unique(np.linspace(0, total - 1, min(wanted, total)).round().astype(int)).tolist()


def answer(
    question: Question, stage: Stage, cache: Path, key: str, tell: Callable[[str], None]
) -> Answer:
    """Every person's sums, from the cache where they are known.

    Args:
        question: what is asked.
        stage: of whom.
        cache: folder.
        key: everything that answers depend on beside question, person and frames.
        tell: told as people are done.
    """
    rows: Answer = {}
    for count, person in enumerate(stage.people):
        identity = f"{key} {question.name} {stage.level} {stage.chosen(person)} {person}"
        identity += question.depends
        digest = hashlib.sha256(identity.encode()).hexdigest()[:20]
        path = cache / question.name / f"{digest}.json"
        if path.is_file():
            found = json.loads(path.read_text())
        else:
            began = time.perf_counter()
            found = question.measure(stage, person)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}.part")
            unfinished.write_text(json.dumps(found))
            unfinished.replace(path)
            seconds = time.perf_counter() - began
            tell(f"  {question.name}: person {count + 1} of {len(stage.people)}, {seconds:.0f} s")
        for row, sums in found.items():
            rows.setdefault(row, {})[person] = {name: (a, b) for name, (a, b) in sums.items()}
    return rows


def add_sums(parts: Sequence[Sums]) -> Sums:
    """The sums of several parts of one person."""
    total: Sums = {}
    for part in parts:
        for name, (value, weight) in part.items():
            old, old_weight = total.get(name, (0.0, 0.0))
            total[name] = old + value, old_weight + weight
    return total


def ratio_with_interval(people: dict[int, Sums], name: str) -> Figure | None:
    """Sum by weight over people, with the 95% interval of a bootstrap over people.

    Args:
        people: each one's sums.
        name: of the figure.

    Returns:
        The figure; None where nobody has it.
    """
    pairs = _pairs(people, name, sorted(people))
    if not len(pairs) or pairs[:, 1].sum() <= 0:
        return None
    return _figure(pairs, lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1e-12))


def ratio_of_rows(row: dict[int, Sums], other: dict[int, Sums], name: str) -> Figure | None:
    """A row's figure by another row's of the same people, drawn together in the bootstrap.

    Args:
        row: each person's sums.
        other: what to divide by.
        name: of the figure.
    """
    shared = sorted(row.keys() & other.keys())
    shared = [k for k in shared if name in row[k] and name in other[k]]
    if not shared:
        return None
    both = np.concatenate([_pairs(row, name, shared), _pairs(other, name, shared)], 1)
    if min(both[:, 1].sum(), both[:, 2].sum(), both[:, 3].sum()) <= 0:
        return None

    def by(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        own = sums[..., 0] / np.maximum(sums[..., 1], 1e-12)
        return own / np.maximum(sums[..., 2] / np.maximum(sums[..., 3], 1e-12), 1e-12)

    return _figure(both, by)


def _pairs(people: dict[int, Sums], name: str, order: list[int]) -> npt.NDArray[np.float64]:
    return np.array([people[k][name] for k in order if name in people[k]], float).reshape(-1, 2)


def _figure(
    values: npt.NDArray[np.float64],
    by: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
) -> Figure:
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(values), (DRAWS, len(values)))
    low, high = np.quantile(by(values[drawn].sum(1)), [0.025, 0.975])
    counted = int((values[:, 1] > 0).sum())
    mean = float(by(values.sum(0)))
    assert math.isfinite(mean), "weights are checked by the callers"
    return Figure(mean, float(low), float(high), counted)
