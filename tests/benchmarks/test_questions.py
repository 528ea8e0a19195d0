# SPDX-License-Identifier: Apache-2.0
"""What the paper's questions are measured with: twists, starts, cameras, intervals, the page."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posefit.body import load_body, pose_body
from posefit.parameters import parameters_of_sequence
from posefit.rotations import axis_angle_to_matrix
from posefit.validation_set import read_validation_set

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from questions import cases, page, rows, twist  # noqa: E402

BODY = load_body("free")
RENDERED = read_validation_set(BENCHMARKS / "data/validation")
PERSONAL = read_validation_set(BENCHMARKS / "data/texture_questions")
ANGLES = st.floats(-3.0, 3.0)


@given(angle=ANGLES, swing=st.tuples(ANGLES, ANGLES))
@settings(max_examples=40, deadline=None)
def test_a_swing_does_not_count_as_twist(angle: float, swing: tuple[float, float]) -> None:
    axis = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    across = torch.tensor([swing[0], 0.0, swing[1]], dtype=torch.float64) * 0.6
    turned = axis_angle_to_matrix(across) @ axis_angle_to_matrix(axis * angle)
    assert twist.twist_about(turned, axis).item() == pytest.approx(angle, abs=1e-5)


def test_twist_starts_are_wrong_in_their_twists_alone() -> None:
    start, truth = PERSONAL.start("twist", 3), PERSONAL.truth(3)
    found = twist.twist_sums(start, truth, truth, BODY)
    total, count = found["twist_before"]
    assert 23 < total / count < 58
    assert count > 0.3 * len(start) * 9
    assert found["twist_after"][0] == pytest.approx(0.0, abs=0.1)
    still = twist.twist_sums(start, start, truth, BODY)["untwisted_after"]
    assert still[0] / still[1] < 0.1
    assert cases.joint_errors_mm(start, truth, BODY).max() < 1.0


def test_exchanged_legs_are_nearer_to_the_other_legs_places() -> None:
    start, truth = PERSONAL.start("exchanged", 7), PERSONAL.truth(7)
    before = twist.leg_sums(start, start, truth, BODY)["exchanged_share"]
    after = twist.leg_sums(start, truth, truth, BODY)["exchanged_share"]
    assert before[0] == before[1] > 0
    assert after[0] == 0


@pytest.mark.parametrize("target", [0.0, 30.0, 160.0])
def test_a_scaled_start_has_the_error_that_was_asked_for(target: float) -> None:
    start, truth = RENDERED.start("bad", 2), RENDERED.truth(2)
    found = cases.joint_errors_mm(cases.at_error(start, truth, BODY, target), truth, BODY)
    assert found == pytest.approx(target, abs=0.02 * target + 0.01)


@given(factor=st.floats(0.5, 2.0))
@settings(max_examples=8, deadline=None)
def test_another_focal_length_leaves_the_pelvis_where_it_is_in_the_picture(factor: float) -> None:
    start = cases.take_frames(RENDERED.start("typical", 5), [0, 6])
    moved = cases.with_focal_length(start, factor, BODY)
    for sequence in (start, moved):
        pelvis = pose_body(BODY, parameters_of_sequence(sequence, BODY)).joints[:, :1].double()
        camera = torch.tensor(sequence.world_to_camera)
        seen = pelvis @ camera[:, :3, :3].mT + camera[:, None, :3, 3]
        pixels = seen @ torch.tensor(sequence.intrinsics).mT
        place = (pixels[..., :2] / pixels[..., 2:]).numpy()
        if sequence is start:
            expected, depth = place, seen[..., 2]
    assert place == pytest.approx(expected, abs=0.02)
    assert seen[..., 2].numpy() == pytest.approx(factor * depth.numpy(), rel=1e-4)


def test_a_cover_hides_the_share_that_was_asked_for() -> None:
    case = cases.load_case(RENDERED, 0, "typical", [0, 5], None)
    other = cases.load_case(RENDERED, 3, "typical", [0, 5], None)
    hidden = cases.covered(case, 0.3, other, seed=1)
    for before, after, picture, old in zip(
        case.masks, hidden.masks, hidden.pictures, case.pictures, strict=True
    ):
        seen = before == 1
        share = 1 - ((after == 1) & seen).sum() / seen.sum()
        assert share == pytest.approx(0.3, abs=0.06)
        assert (picture != old).any(-1)[after != before].mean() > 0.9
        assert (picture == old).all(-1)[after == before].mean() > 0.5


def test_rows_of_the_same_people_are_compared_person_by_person() -> None:
    random = np.random.default_rng(3)
    plain = {k: {"epe": (float(v), 10.0)} for k, v in enumerate(random.uniform(5, 50, 12))}
    doubled = {k: {"epe": (2 * sums["epe"][0], 10.0)} for k, sums in plain.items()}
    paired = rows.ratio_of_rows(doubled, plain, "epe")
    alone = rows.ratio_with_interval(doubled, "epe")
    assert paired is not None
    assert (paired.low, paired.mean, paired.high) == pytest.approx((2.0, 2.0, 2.0))
    assert alone is not None
    assert alone.high - alone.low > 1.0


def test_an_answer_is_asked_once_and_then_remembered(tmp_path: Path) -> None:
    asked = []

    def measure(stage: rows.Stage, person: int) -> dict[str, dict[str, tuple[float, float]]]:
        asked.append(person)
        return {"row": {"epe": (1.5 * person, 1.0)}}

    stage = rows.Stage(RENDERED, None, None, (1, 4), 2)  # type: ignore[arg-type]
    question = rows.Question("made up", measure)
    first = rows.answer(question, stage, tmp_path, "weights a", lambda text: None)
    again = rows.answer(question, stage, tmp_path, "weights a", lambda text: None)
    assert asked == [1, 4]
    assert first == again == {"row": {1: {"epe": (1.5, 1.0)}, 4: {"epe": (6.0, 1.0)}}}
    rows.answer(question, stage, tmp_path, "weights b", lambda text: None)
    assert asked == [1, 4, 1, 4]


def test_every_table_has_its_place_on_the_page() -> None:
    text = (BENCHMARKS.parent / "docs/questions.md").read_text(encoding="utf-8")
    filled = page.fill_page(text, {table.name: f"({table.name})" for table in page.TABLES})
    assert page.fill_page(filled, {"twist": "(twist)"}) == filled
    with pytest.raises(ValueError, match="0 places for table nowhere"):
        page.fill_page(text, {"nowhere": ""})
