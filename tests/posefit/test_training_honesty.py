# SPDX-License-Identifier: Apache-2.0
"""What is said about the network: calibration is measured rightly, the card holds measurements."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from posefit.displacement.weights import Calibration, save_network

from .test_displacement_network import TINY, tiny_network

ROOT = Path(__file__).parents[2]


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of the repository as a module."""
    path = ROOT / name
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def calibration(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("benchmarks/calibration.py", monkeypatch)


def honest_answers(module: ModuleType, rng: np.random.Generator, count: int, factor: float = 1.0):
    """Pixels of a network whose errors are Laplace distributed with `factor` times its σ."""
    sigma = rng.uniform(0.5, 8.0, count)
    error = rng.laplace(0, factor * sigma[:, None] / np.sqrt(2), (count, 2))
    chance = rng.uniform(0, 1, count)
    seen = (rng.uniform(0, 1, count) < chance).astype(float)
    return module.Answers(sigma, error, chance, seen)


def test_an_honest_network_is_measured_as_honest(calibration, rng) -> None:
    answers = honest_answers(calibration, rng, 60_000)
    assert calibration.coverage(answers) == pytest.approx([0.5, 0.8, 0.95], abs=0.01)
    assert calibration.expected_calibration_error(answers)[0] < 0.02
    rows = calibration.scale_groups(answers)
    assert [r["found_mean_px"] for r in rows] == pytest.approx(
        [r["said_mean_px"] for r in rows], rel=0.05
    )
    assert rows[0]["sigma_px"] < rows[-1]["sigma_px"]


def test_a_network_that_is_too_sure_is_found_out(calibration, rng) -> None:
    answers = honest_answers(calibration, rng, 20_000, factor=2.0)
    assert (calibration.coverage(answers) < np.array([0.35, 0.6, 0.8])).all()
    liar = calibration.Answers(answers.sigma, answers.error, 1.0 - answers.chance, answers.seen)
    assert calibration.expected_calibration_error(liar)[0] > 0.3


def test_the_plot_is_drawn_from_the_figures(calibration, rng, tmp_path, monkeypatch) -> None:
    people = [honest_answers(calibration, rng, 2000) for _ in range(3)]
    monkeypatch.setattr(calibration, "DRAWS", 20)
    plot = script("benchmarks/calibration_plot.py", monkeypatch)
    plot.draw({"good": calibration.measured(people)}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_the_model_card_says_what_was_measured_and_what_was_not(tmp_path, monkeypatch) -> None:
    module = script("tools/training/model_card.py", monkeypatch)
    notes = {"progress": json.dumps({"steps": 4321, "samples": 8642, "seconds": 90.0})}
    with torch.no_grad():
        save_network(tmp_path / "network.safetensors", tiny_network(), TINY, Calibration(), notes)
    results = tmp_path / "results"
    results.mkdir()
    bare = module.card(tmp_path, results)
    assert "4,321 steps" in bare
    assert bare.count("not measured") + bare.count("Not measured") == 3
    figures = {"epe_start": 9.87, "epe": 1.23, "visibility_accuracy": 0.456}
    (results / "network_validation.json").write_text(json.dumps({"figures": figures}))
    told = module.card(tmp_path, results)
    assert "| 9.87 | 1.23 |" in told
    assert "45.6%" in told


def test_the_shipped_card_is_what_the_script_writes_today(monkeypatch) -> None:
    module = script("tools/training/model_card.py", monkeypatch)
    folder = ROOT / "backend/posefit/assets/displacement"
    shipped = (folder / "MODEL_CARD.md").read_text()
    assert shipped == module.card(folder, ROOT / "benchmarks/results"), (
        "run tools/training/model_card.py: weights or results have changed"
    )
