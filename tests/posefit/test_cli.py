# SPDX-License-Identifier: Apache-2.0
"""The command line: what cannot be done is one sentence and exit status 2, never a traceback."""

import json

import numpy as np
import pytest
import synthetic_clip as made
from PIL import Image

from posefit.cli import main
from posefit_shared.sequence import read_sequence, write_sequence


@pytest.fixture(scope="module")
def clip(free_body, tmp_path_factory):
    """A sequence file and a folder of images, names with spaces."""
    folder = tmp_path_factory.mktemp("a clip")
    rng = np.random.default_rng(1)
    truth = made.true_sequence(free_body, 3, rng)
    footage = made.filmed(free_body, truth)
    frames = folder / "frames of the clip"
    frames.mkdir()
    for k in range(3):
        Image.fromarray(footage.read(k)).save(frames / f"f {k:03d}.png")
    write_sequence(folder / "truth.npz", truth)
    write_sequence(folder / "start.npz", made.disturbed(truth, rng, angle=0.05, shift_m=0.01))
    return folder


def refused(capsys, *words: str) -> str:
    assert main(list(words)) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    sentence = [line for line in said.splitlines() if line.startswith("posefit: ")]
    assert len(sentence) == 1
    return sentence[0]


def test_evaluate_prints_the_promised_keys(clip, capsys):
    status = main(["evaluate", "--predicted", str(clip / "start.npz"),
                   "--reference", str(clip / "truth.npz")])  # fmt: skip
    assert status == 0
    result = json.loads(capsys.readouterr().out)
    for key in ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pa_pve_mm", "root_error_mm", "root_depth_mm",
                "vertex_2d_px", "accel_mm_per_s2", "foot_slide_mm_per_s"):  # fmt: skip
        assert key in result
    assert {"mean", "median", "p95", "frames"} <= set(result["pve_mm"])
    assert result["pve_mm"]["mean"] > 1


def test_refine_writes_a_sequence_with_status_and_confidence(clip, tmp_path, capsys):
    status = main(["refine", "--sequence", str(clip / "start.npz"),
                   "--frames", str(clip / "frames of the clip"), "--output",
                   str(tmp_path / "new folder" / "out.npz"), "--displacement", "flow",
                   "--no-keypoints", "--rounds", "1", "--crop-size", "128"])  # fmt: skip
    assert status == 0
    result = read_sequence(tmp_path / "new folder" / "out.npz")
    assert len(result.status) == 3
    assert result.confidence.shape == (3, 24)


def test_a_missing_sequence_is_one_sentence(clip, capsys):
    words = refused(capsys, "refine", "--sequence", "none.npz", "--frames", str(clip), "--output",
                    "out.npz")  # fmt: skip
    assert "no sequence file at none.npz" in words


def test_missing_and_empty_footage_are_one_sentence(clip, tmp_path, capsys):
    asked = ("refine", "--sequence", str(clip / "start.npz"), "--output", "o.npz", "--frames")
    words = refused(capsys, *asked, "no.mp4")
    assert "no footage at no.mp4" in words
    (tmp_path / "empty.mp4").touch()
    words = refused(capsys, *asked, str(tmp_path / "empty.mp4"))
    assert "empty" in words


def test_footage_without_a_person_is_one_sentence(tmp_path, capsys):
    for k in range(2):
        Image.new("RGB", (160, 120), (90, 90, 90)).save(tmp_path / f"{k}.png")
    words = refused(capsys, "estimate", str(tmp_path), "--output", str(tmp_path / "out.npz"))
    assert "person" in words
    assert not (tmp_path / "out.npz").exists()


def test_half_of_what_is_needed_is_one_sentence(clip, capsys):
    words = refused(capsys, "refine", "--sequence", str(clip / "start.npz"), "--output", "o.npz")
    assert "--sequence and --frames are needed" in words


def test_a_setting_out_of_range_is_one_sentence(clip, capsys):
    words = refused(capsys, "refine", "--sequence", str(clip / "start.npz"), "--frames", str(clip),
                    "--output", "o.npz", "--rounds", "99")  # fmt: skip
    assert "rounds is 99, expected 1 to 10" in words


def test_an_absent_server_is_one_sentence(clip, capsys, monkeypatch):
    monkeypatch.setattr("posefit.commands.remote._CONNECT_S", 0.5)
    words = refused(capsys, "refine", "--sequence", str(clip / "start.npz"), "--frames",
                    str(clip / "frames of the clip"), "--output", "o.npz", "--server",
                    "tcp://127.0.0.1:9")  # fmt: skip
    assert "127.0.0.1:9" in words


def test_an_address_of_the_network_is_refused_for_want_of_keys(capsys):
    words = refused(capsys, "serve", "--bind", "tcp://0.0.0.0:5557")
    assert "0.0.0.0" in words


def test_an_unknown_table_is_one_sentence(capsys):
    assert "no table 'speed'" in refused(capsys, "bench", "--only", "speed")


def test_the_doctor_finds_everything_that_the_tests_use(capsys):
    assert main(["doctor"]) == 0
    assert "LACKS" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["OutOfMemoryError", "RuntimeError"])
def test_memory_that_runs_out_is_one_sentence(name, capsys, monkeypatch, tmp_path):
    kind = type(name, (RuntimeError,), {})

    def refine_files(*arguments, **options):
        raise kind("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("posefit.commands.refining.refine_files", refine_files)
    assert "memory ran out: choose" in refused(capsys, "refine", "--output", str(tmp_path / "o"))


def test_an_error_that_nobody_expected_is_not_called_a_lack_of_memory(monkeypatch, tmp_path):
    def refine_files(*arguments, **options):
        raise RuntimeError("something else")

    monkeypatch.setattr("posefit.commands.refining.refine_files", refine_files)
    with pytest.raises(RuntimeError, match="something else"):
        main(["refine", "--output", str(tmp_path / "o")])
