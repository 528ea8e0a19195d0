# SPDX-License-Identifier: Apache-2.0
"""`posefit import` and the import job: one person, everybody, and refusals in one sentence."""

import json
import os
import pickle
from fractions import Fraction

import av
import numpy as np
import pytest
from import_layouts import moving
from PIL import Image

from posefit.cli import main
from posefit.commands.importing import import_for_client
from posefit.importers import FORMATS, ImporterError
from posefit.worker.job_context import JobContext, JobFolders
from posefit.worker.jobs import run_job
from posefit_shared.messages import ImportRequest, MediaReference
from posefit_shared.sequence import read_sequence
from posefit_shared.shot import read_shot


def romp_like(path, ids=(3, 8)):
    """A video with two people, the second in fewer frames, as ROMP has it."""
    pictures = {}
    for k in range(4):
        here = [i for i in ids if not (i == ids[-1] and k == 1)]
        count = len(here)
        pictures[f"{k:08d}.png"] = {
            "cam": np.array([[0.5, 0.1, 0.2]] * count, np.float32),
            "smpl_thetas": np.stack([moving(i).poses[0].reshape(72) for i in here]),
            "smpl_betas": np.zeros((count, 10), np.float32),
            "track_ids": np.array(here),
        }
    np.savez(path, results=pictures)
    return path


@pytest.fixture
def footage(tmp_path):
    folder = tmp_path / "the frames"
    folder.mkdir()
    for k in range(4):
        Image.new("RGB", (320, 240)).save(folder / f"{k:03d}.png")
    return folder


def test_the_command_says_what_it_took_the_file_for_and_writes_a_person(tmp_path, footage, caplog):
    path, output = romp_like(tmp_path / "video_results.npz"), tmp_path / "new" / "seq.npz"
    words = ["import", str(path), "--output", str(output), "--footage", str(footage)]
    with caplog.at_level("INFO"):
        assert main(words) == 0
    assert "results of ROMP or BEV (romp)" in caplog.text
    assert "2 people" in caplog.text
    sequence = read_sequence(output)
    assert (sequence.person_id, sequence.image_size) == (3, (320, 240))
    assert main([*words, "--person", "1"]) == 0
    assert read_sequence(output).person_id == 8
    assert read_sequence(output).frame_indices.tolist() == [0, 2, 3]


def test_footage_whose_pixels_are_not_square_is_refused_with_the_way_out(tmp_path, capsys):
    path, clip = romp_like(tmp_path / "video_results.npz"), tmp_path / "dv.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        (stream.width, stream.height), stream.pix_fmt = (72, 58), "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        container.mux(stream.encode(av.VideoFrame(72, 58, "yuv420p")))
        container.mux(stream.encode())
    words = ["import", str(path), "--output", str(tmp_path / "a.npz"), "--footage", str(clip)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "72×58 pixels are not square (16:15), so it is shown at 77×58" in said
    assert "setsar=1" in said


def test_a_folder_as_output_gets_everybody_and_a_shot(tmp_path, footage):
    path = romp_like(tmp_path / "video_results.npz")
    status = main(
        ["import", str(path), "--output", str(tmp_path / "all"), "--footage", str(footage)]
    )
    assert status == 0
    shot = read_shot(tmp_path / "all" / "shot.json")
    assert [read_sequence(p).person_id for p in shot.people] == [3, 8]
    assert shot.cameras[0].footage == footage


class Evil:
    def __reduce__(self):
        return os.system, ("touch it-ran",)


def make_bad(folder, kind):
    path = folder / "bad.pkl"
    if kind == "evil":
        path.write_bytes(pickle.dumps({"pose": Evil()}))
    elif kind == "text":
        path.write_text("no result")
    elif kind == "other":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif kind == "folder":
        path = folder
    return path


@pytest.mark.parametrize("kind", ["evil", "text", "other", "folder", "missing"])
def test_what_cannot_be_imported_is_one_sentence_and_status_2(tmp_path, kind, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = make_bad(tmp_path, kind)
    assert main(["import", str(path), "--output", str(tmp_path / "o.npz")]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("posefit: ")]) == 1
    assert not (tmp_path / "o.npz").exists()
    assert not (tmp_path / "it-ran").exists()


def test_a_person_or_format_that_is_not_there_is_refused_in_words(tmp_path, footage, capsys):
    path = romp_like(tmp_path / "v.npz")
    common = ["import", str(path), "--output", str(tmp_path / "o.npz"), "--footage", str(footage)]
    assert main([*common, "--person", "5"]) == 2
    assert "the file has 2" in capsys.readouterr().err
    assert main([*common, "--format", "wham"]) == 2
    assert "is not as results of WHAM should be" in capsys.readouterr().err
    assert main([*common, "--format", "xyz"]) == 2
    assert ", ".join(FORMATS) in capsys.readouterr().err


def test_a_worker_runs_the_import_job(tmp_path):
    path = romp_like(tmp_path / "v.npz")
    context = JobContext(
        "job", "import", device="cpu", folders=JobFolders(tmp_path, [tmp_path], tmp_path),
        send=lambda message: None, is_cancelled=lambda: False,
    )  # fmt: skip
    request = ImportRequest(MediaReference(path=str(path)), image_size=(320, 240))
    assert run_job(request, context).sequence.person_id == 3
    with pytest.raises(ImporterError, match="--footage"):
        run_job(ImportRequest(MediaReference(path=str(path))), context)


def test_the_import_job_gives_a_sequence_and_says_what_it_did(tmp_path):
    path = romp_like(tmp_path / "v.npz")
    request = ImportRequest(MediaReference(path=str(path)), person=1, image_size=(320, 240))
    result = import_for_client(path, request, "free")
    assert result.sequence.person_id == 8
    assert (result.report["format"], result.report["people"]) == ("romp", 2)
    assert json.dumps(result.report)
