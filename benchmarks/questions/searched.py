# SPDX-License-Identifier: Apache-2.0
"""What a search for turns about bones finds that network and solver do not.

All frames of a person take part: each is compared with the others. So every row is of all frames.
"""

from __future__ import annotations

import dataclasses

from posefit.refinement.method import TwistSearch
from posefit.refinement.twist_search import Twists
from questions.cases import Case, load_case
from questions.looks import Refined, Sums, pose_errors, refine_case, searched
from questions.rows import Question, Stage
from questions.twist import SEGMENTS, turned_joints, twist_sums

__all__ = ["ANATOMY", "SEARCH_QUESTION", "SEARCH_ROWS"]

ROUNDS = 2
WITHOUT = "without texture"
WITH = "network with texture, painted under the starts"
ANATOMY = "search by anatomy alone"
SKIN = "search by unrolled skin alone"
BOTH = "search by both"
REPAINTED = "search by both, network with texture painted under its estimates"
RIGHT = "search by both, from the true poses"
SEARCH_ROWS = (WITHOUT, WITH, ANATOMY, SKIN, BOTH, REPAINTED, RIGHT)
SEARCH = TwistSearch()
_COLUMNS = tuple(joint for pairs in SEGMENTS.values() for joint, _ in pairs)


def measure_search(stage: Stage, person: int) -> dict[str, Sums]:
    """Segments turned about their own axes: two rounds with a search before them and without."""
    frames = range(len(stage.dataset.frames_of(person)))
    case = load_case(stage.dataset, person, "twist", frames, None)
    painted = dataclasses.replace(case, textures=_maps(stage, case))
    rows = {
        WITHOUT: _sums(case, refine_case(case, stage.bench, rounds=ROUNDS), stage),
        WITH: _sums(case, refine_case(painted, stage.bench, rounds=ROUNDS), stage),
    }
    found = None
    for name, search in (
        (ANATOMY, dataclasses.replace(SEARCH, picture_weight=0.0)),
        (SKIN, dataclasses.replace(SEARCH, anatomy_weight=0.0)),
        (BOTH, SEARCH),
    ):
        twists = searched(case, search, stage.body)
        found = refine_case(case, stage.bench, rounds=ROUNDS, twists=twists)
        rows[name] = _sums(case, found, stage) | _decisions(case, twists, stage)
    assert found is not None, "there are searches"
    estimates = dataclasses.replace(case, start=found.sequences[-1])
    repainted = dataclasses.replace(case, textures=_maps(stage, estimates))
    again = refine_case(repainted, stage.bench, rounds=ROUNDS, twists=twists)
    rows[REPAINTED] = _sums(case, again, stage)
    right = dataclasses.replace(case, start=case.truth)
    rows[RIGHT] = _decisions(right, searched(right, SEARCH, stage.body), stage)
    return rows


def _maps(stage: Stage, case: Case):
    """What each frame is compared with, painted by the others as the case's start has them."""
    frames = range(len(case.start))
    return stage.painter.maps(stage.dataset, case.person, case.start, frames)


def _sums(case: Case, refined: Refined, stage: Stage) -> Sums:
    last = refined.sequences[-1]
    errors = pose_errors(case, last, stage.body)
    return twist_sums(case.start, last, case.truth, stage.body) | errors


def _decisions(case: Case, twists: Twists, stage: Stage) -> Sums:
    """How many segments that are turned, and that are not, the search turns."""
    turned = turned_joints(case.start, case.truth, stage.body)[:, list(_COLUMNS)]
    decided = twists.is_decided
    return {
        "turned_back": (float((decided & turned).sum()), float(turned.sum())),
        "turned_away": (float((decided & ~turned).sum()), float((~turned).sum())),
    }


SEARCH_QUESTION = Question("twist_search", measure_search, depends=str(SEARCH))
"""The question to the texture set."""
