# SPDX-License-Identifier: Apache-2.0
"""Questions to the texture set: turns about bones' axes, exchanged legs, other light and clothes.

The silhouettes of the starts are right or nearly so; what is wrong can be seen in the person's
texture. Textures are painted by posefit from the person's other frames: under the wrong starts,
under what posefit made of these, and under the truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from posefit.body import PoseParameters
from posefit.parameters import parameters_of_sequence, sequence_with_parameters
from posefit_shared.sequence import Sequence as PoseSequence
from questions.cases import TARGETS, Case, load_case
from questions.looks import (
    Bench,
    Look,
    Sums,
    field_errors,
    pose_errors,
    refine_case,
    refine_perfectly,
    refine_unseen,
    solve_from,
)
from questions.rows import Question, Stage
from questions.searched import SEARCH_QUESTION
from questions.twist import leg_sums, segment_pixels, turned_joints, twist_sums

__all__ = ["PAINTED", "PERFECT", "QUESTIONS", "UNSEEN"]

ROUNDS = 2
PAINTED = {
    "wrong": "painted under the starts",
    "refined": "painted under refined estimates",
    "right": "painted under the truth",
}
"""Rows with texture, by how the other frames were posed when they painted."""
PERFECT = "a perfect field"
"""The row of what the solver makes of the true displacement."""
UNSEEN = "nothing seen: joint limits alone"
"""The row of what the solver does of its own accord."""
LOOSE = 0.1
"""Pull towards the start, by posefit's own, in the rows that ask what the network's evidence alone
would do."""


def _painted(
    stage: Stage, person: int, sequence: PoseSequence, frames: Sequence[int]
) -> torch.Tensor | None:
    return stage.painter.maps(stage.dataset, person, sequence, frames)


def _refined_everywhere(stage: Stage, person: int, level: str) -> PoseSequence:
    """All of the person's frames as posefit refines them with textures painted under the starts."""
    every = range(len(stage.dataset.frames_of(person)))
    case = load_case(stage.dataset, person, level, every, stage.painter)
    return refine_case(case, stage.bench, rounds=ROUNDS).sequences[-1]


def measure_twist(stage: Stage, person: int) -> dict[str, Sums]:
    """Segments turned about their own axes: two rounds with each texture and without."""
    frames = stage.chosen(person)
    first = load_case(stage.dataset, person, "twist", frames, None)
    posed = {
        "wrong": stage.dataset.start("twist", person),
        "refined": _refined_everywhere(stage, person, "twist"),
        "right": stage.dataset.truth(person),
    }
    rows: dict[str, Sums] = {}
    for name, sequence in posed.items():
        textures = _painted(stage, person, sequence, frames)
        rows |= _twist_rows(stage, dataclasses.replace(first, textures=textures), PAINTED[name])
    rows |= _twist_rows(stage, first, "without texture")
    rows[UNSEEN] = _twist_and_pose(first, refine_unseen(first, stage.bench), stage)
    perfect = refine_perfectly(first, stage.bench, rounds=ROUNDS)
    rows[PERFECT] = _twist_and_pose(first, perfect, stage)
    perfect = refine_perfectly(first, _loosened(stage), rounds=ROUNDS)
    rows[f"{PERFECT}, loosely held"] = _twist_and_pose(first, perfect, stage)
    return rows


def _twist_rows(stage: Stage, case: Case, label: str) -> dict[str, Sums]:
    """Two rounds as posefit does them, and one from the same first look with a looser pull."""
    body = stage.body
    refined = refine_case(case, stage.bench, rounds=ROUNDS)
    turned = turned_joints(case.start, case.truth, body)
    look = refined.looks[0]
    pixels = segment_pixels(body, look.fragments.pix_to_face, turned)
    pixels = pixels & look.visible
    sums = field_errors(look) | field_errors(look, "turned", pixels)
    sums |= recovered(look, pixels)
    loose = sequence_with_parameters(case.start, _loosely(stage, case, look), body)
    return {
        label: sums | _twist_and_pose(case, refined.sequences[-1], stage),
        f"{label}, loosely held": _twist_and_pose(case, loose, stage),
    }


def _twist_and_pose(case: Case, sequence: PoseSequence, stage: Stage) -> Sums:
    turned = twist_sums(case.start, sequence, case.truth, stage.body)
    return turned | pose_errors(case, sequence, stage.body)


def _loosely(stage: Stage, case: Case, look: Look) -> PoseParameters:
    start = parameters_of_sequence(case.start, stage.body)
    return solve_from(look, start, start, _loosened(stage))


def _loosened(stage: Stage) -> Bench:
    """The bench with a solver that hardly holds to the start."""
    weight = stage.bench.solver.reference_weight * LOOSE
    solver = dataclasses.replace(stage.bench.solver, reference_weight=weight)
    return dataclasses.replace(stage.bench, solver=solver)


def recovered(look: Look, pixels: torch.Tensor) -> Sums:
    """Share of the true displacement that the network found along it, over chosen pixels."""
    along = (look.found.displacement * look.displacement).sum(-1)
    square = look.displacement.square().sum(-1)
    chosen = pixels & look.counted & (square > 1.0)
    return {"recovered": (float((along * chosen).sum()), float((square * chosen).sum()))}


def measure_exchanged_legs(stage: Stage, person: int) -> dict[str, Sums]:
    """Left and right leg exchanged: two rounds with the texture and without."""
    frames = stage.chosen(person)
    first = load_case(stage.dataset, person, "exchanged", frames, None)
    wrong, right = stage.dataset.start("exchanged", person), stage.dataset.truth(person)
    textures = {
        PAINTED["wrong"]: _painted(stage, person, wrong, frames),
        PAINTED["right"]: _painted(stage, person, right, frames),
        "without texture": None,
    }
    rows = {}
    for label, maps in textures.items():
        case = dataclasses.replace(first, textures=maps)
        refined = refine_case(case, stage.bench, rounds=ROUNDS)
        look, last = refined.looks[0], refined.sequences[-1]
        legs = segment_pixels(stage.body, look.fragments.pix_to_face, _legs(case, stage))
        sums = field_errors(look, "legs", legs) | recovered(look, legs & look.visible)
        sums |= pose_errors(case, last, stage.body)
        rows[label] = sums | leg_sums(case.start, last, case.truth, stage.body)
    return rows


def _legs(case: Case, stage: Stage) -> torch.Tensor:
    chosen = torch.zeros(len(case.start), stage.body.num_joints, dtype=torch.bool)
    chosen[:, [1, 2, 4, 5, 7, 8, 10, 11]] = True
    return chosen


# Light and clothes -----------------------------------------------------------------------------


def darker(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture at half its exposure."""
    return (picture * 0.5).round().astype(np.uint8)


def warmer(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture in the white balance of lamps."""
    return (picture * np.array([1.2, 0.95, 0.6])).clip(0, 255).round().astype(np.uint8)


def measure_change(stage: Stage, person: int) -> dict[str, Sums]:
    """One round on frames in other light or clothes than those that painted the texture."""
    dataset, frames = stage.dataset, list(TARGETS)
    same = load_case(dataset, person, "typical", frames, stage.painter)

    def instead(pictures: tuple[npt.NDArray[np.uint8], ...]) -> Case:
        return dataclasses.replace(same, pictures=pictures)

    cases = {
        "same light": same,
        "half the exposure": instead(tuple(darker(p) for p in same.pictures)),
        "white balance of lamps": instead(tuple(warmer(p) for p in same.pictures)),
    }
    for folder in ("light", "clothes"):
        drawn = load_case(dataset, person, "typical", frames, None, folder=folder)
        cases[f"other {folder}"] = instead(drawn.pictures)
    rows = {}
    for name, case in cases.items():
        rows[name] = _one_round(stage, case)
        if name in ("same light", "other light", "other clothes"):
            bare = dataclasses.replace(case, textures=None)
            rows[f"{name}, without texture"] = _one_round(stage, bare)
    return rows


def _one_round(stage: Stage, case: Case) -> Sums:
    refined = refine_case(case, stage.bench, rounds=1)
    return field_errors(refined.looks[0]) | pose_errors(case, refined.sequences[1], stage.body)


QUESTIONS = (
    Question("twist", measure_twist),
    SEARCH_QUESTION,
    Question("exchanged", measure_exchanged_legs),
    Question("change", measure_change),
)
"""All questions to this set."""
