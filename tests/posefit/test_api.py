# SPDX-License-Identifier: Apache-2.0
"""posefit from Python gives what the commands give, and loads nothing heavy before it must."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic_clip as made
from PIL import Image

import posefit
from posefit.cli import main

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs/examples/refine.ipynb"
FRAMES = 3
SETTINGS = posefit.RefineSettings(displacement="flow", keypoints=False, rounds=1, crop_size=128)
WORDS = ("--displacement", "flow", "--no-keypoints", "--rounds", "1", "--crop-size", "128")


@pytest.fixture(scope="module")
def clip(free_body, tmp_path_factory):
    """`start.npz`, `truth.npz` and a folder `frames`."""
    folder = tmp_path_factory.mktemp("a clip")
    rng = np.random.default_rng(1)
    truth = made.true_sequence(free_body, FRAMES, rng)
    footage = made.filmed(free_body, truth)
    (folder / "frames").mkdir()
    for k in range(FRAMES):
        Image.fromarray(footage.read(k)).save(folder / "frames" / f"{k}.png")
    posefit.write_sequence(folder / "truth.npz", truth)
    posefit.write_sequence(folder / "start.npz", made.disturbed(truth, rng, 0.05, 0.01))
    return folder


def test_refining_gives_what_the_command_gives(clip, tmp_path, free_body):
    told: list[float] = []
    found = posefit.refine_motion(
        clip / "start.npz", clip / "frames", settings=SETTINGS, body=free_body,
        progress=lambda fraction, stage: told.append(fraction),
    )  # fmt: skip
    assert told[-1] == 1.0
    words = ["--sequence", str(clip / "start.npz"), "--frames", str(clip / "frames")]
    assert main(["refine", *words, "--output", str(tmp_path / "out.npz"), *WORDS]) == 0
    expected = posefit.read_sequence(tmp_path / "out.npz")
    np.testing.assert_array_equal(found.sequence.poses, expected.poses)
    np.testing.assert_array_equal(found.sequence.confidence, expected.confidence)
    assert found.sequence.status == expected.status


def test_what_is_opened_before_is_taken_and_left_open(clip, free_body):
    motion = posefit.read_sequence(clip / "start.npz")
    with posefit.open_footage(clip / "frames") as footage:
        drawn = posefit.draw_motion(motion, footage, 1, body=free_body)
        plain = footage.read(1)
    assert drawn.shape == plain.shape
    assert (drawn != plain).any(-1).mean() > 0.02


def test_evaluating_gives_what_the_command_prints(clip, free_body, capsys):
    result = posefit.evaluate_motion(clip / "start.npz", clip / "truth.npz", body=free_body)
    assert main(["evaluate", "--predicted", str(clip / "start.npz"), "--reference",
                 str(clip / "truth.npz")]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["mpjpe_mm"]["mean"] == pytest.approx(
        result["mpjpe_mm"]["mean"]
    )


def test_a_shot_gives_a_view_for_each_camera(clip, free_body, tmp_path):
    from posefit.api import _views

    motion = posefit.read_sequence(clip / "start.npz")
    camera = {
        "image_size": list(made.SIZE), "intrinsics": made.camera()[0].tolist(),
        "world_to_camera": made.camera()[1].tolist(), "footage": str(clip / "frames"),
    }  # fmt: skip
    cameras = [{**camera, "name": name} for name in ("left", "right")]
    (tmp_path / "shot.json").write_text(json.dumps({"cameras": cameras}))
    assert [view.name for view in _views(motion, tmp_path / "shot.json")] == ["left", "right"]


def test_a_motion_is_imported_with_what_to_know_of_it(clip):
    (person,) = posefit.import_motion(clip / "start.npz")
    assert len(person.sequence) == FRAMES


def test_errors_are_sentences_of_one_family(clip):
    with pytest.raises(posefit.PosefitError, match="no footage at"):
        posefit.refine_motion(clip / "start.npz", clip / "none.mp4")
    with pytest.raises(posefit.PosefitError, match="no footage at"):
        posefit.estimate_motion(clip / "none.mp4")


def test_importing_posefit_loads_nothing_heavy():
    code = (
        "import sys, posefit; assert 'refine_motion' in dir(posefit); posefit.RefineSettings(); "
        "print([name for name in ('torch', 'warp', 'cv2', 'av') if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == "[]"


def test_every_name_that_is_promised_is_there():
    for name in posefit.__all__:
        assert getattr(posefit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'refine_all'"):
        posefit.refine_all  # noqa: B018


@pytest.mark.slow
def test_the_example_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert len(posefit.read_sequence(tmp_path / "refined.npz").status) == 6
    assert (tmp_path / "before and after.jpg").stat().st_size > 10_000
