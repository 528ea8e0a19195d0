# SPDX-License-Identifier: Apache-2.0
"""A batch gives what `posefit refine` gives, and a page that shows where to look first."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import synthetic_clip as made
from PIL import Image

from posefit.batch import Job, ray_tasks, work
from posefit.batch.gathering import BatchFigures, gather
from posefit.batch.local_processes import ProcessLimits
from posefit.batch.page import write_page
from posefit.batch.summary import (
    CHANGE_EDGES_MM,
    JobSummary,
    frame_confidence,
    histogram,
    read_summary,
    spread_worst,
    write_summary,
)
from posefit.cli import main
from posefit.keypoints.detection import Keypoints
from posefit_shared.sequence import write_sequence
from posefit_shared.settings import RefineSettings

FRAMES = 4
SETTINGS = ("--displacement", "flow", "--no-keypoints", "--rounds", "1", "--crop-size", "128")


@pytest.fixture(scope="module")
def clips(free_body, tmp_path_factory):
    """A folder with two pairs of a sequence and pictures, a shot, and one without pictures."""
    folder = tmp_path_factory.mktemp("many clips")
    for k, name in enumerate(("歩く", "run 2")):
        write_clip(free_body, folder, name, FRAMES, seed=k)
    intrinsics, world_to_camera = made.camera()
    camera = {
        "name": "one", "footage": "../run 2", "image_size": list(made.SIZE),
        "intrinsics": intrinsics.tolist(), "world_to_camera": world_to_camera.tolist(),
    }  # fmt: skip
    (folder / "shot").mkdir()
    shot = json.dumps({"cameras": [camera], "people": ["../run 2.npz"]})
    (folder / "shot/shot.json").write_text(shot)
    (folder / "lost.npz").write_bytes((folder / "歩く.npz").read_bytes())
    return folder


def write_clip(body, folder, name, frames, seed):
    """Write a disturbed sequence and its pictures, and give their paths."""
    rng = np.random.default_rng(seed)
    truth = made.true_sequence(body, frames, rng)
    footage = made.filmed(body, truth)
    (folder / name).mkdir()
    for frame in range(frames):
        Image.fromarray(footage.read(frame)).save(folder / name / f"{frame}.png")
    write_sequence(folder / f"{name}.npz", made.disturbed(truth, rng, 0.05, 0.01))
    return folder / f"{name}.npz", folder / name


@pytest.fixture(scope="module")
def output(clips, tmp_path_factory):
    output = tmp_path_factory.mktemp("batch") / "out"
    assert main(["batch", str(clips), "--output", str(output), *SETTINGS]) == 1
    return output


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_a_batch_gives_the_arrays_that_refine_gives(clips, output, tmp_path):
    for name in ("歩く", "run 2"):
        alone = tmp_path / "alone.npz"
        status = main(["refine", "--sequence", str(clips / f"{name}.npz"), "--frames",
                       str(clips / name), "--output", str(alone), *SETTINGS])  # fmt: skip
        assert status == 0
        expected, found = arrays(alone), arrays(output / name / f"{name}.npz")
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values, err_msg=key)


def test_keypoints_that_were_looked_for_before_give_the_same_arrays(clips, tmp_path, monkeypatch):
    calls = []

    def detect(footage, indices, *, box_hint, **options):
        """Landmarks about the middle of each box: the body is no photograph."""
        calls.append(len(indices))
        count, rng = len(indices), np.random.default_rng(0)
        middle = box_hint.reshape(count, 2, 2).mean(1)[:, None]
        pixels = (middle + rng.normal(size=(count, 33, 2)) * 20).astype(np.float32)
        ones = np.ones((count, 33), np.float32)
        boxes = box_hint.astype(np.float32)
        return Keypoints(indices, pixels, ones, np.zeros_like(pixels), boxes, ones[:, 0] > 0)

    monkeypatch.setattr("posefit.engine.detect_keypoints", detect)
    settings = RefineSettings(displacement="none", rounds=1, solver_iterations=2)
    job = Job("walk", clips / "歩く.npz", clips / "歩く", settings=settings)
    machine, results = work.Machine("cpu", pictures=0), []
    for given in ({}, work.look_at_job(job, machine)):
        folder = tmp_path / f"{len(results)}"
        folder.mkdir()
        work.run_job(job, folder, machine, "x", records=given)
        results.append(arrays(folder / "walk.npz"))
    assert calls == [FRAMES, FRAMES]  # the look, and the run that was given nothing
    for key, values in results[0].items():
        np.testing.assert_array_equal(results[1][key], values, err_msg=key)


def test_a_clip_done_in_parts_by_several_processes_is_the_clip_done_in_one(free_body, tmp_path):
    settings = RefineSettings(
        displacement="flow", keypoints=False, rounds=1, crop_size=128, window_frames=4,
        window_overlap=1,
    )  # fmt: skip
    job = Job("walk", *write_clip(free_body, tmp_path, "walk", 9, seed=2), settings=settings)
    order = {
        "handlers": "posefit.batch.work", "machine": {"device": "cpu", "pictures": 0},
        "limits": ProcessLimits(), "job": job.to_map(), "fingerprint": "x", "chunk_frames": 4,
    }  # fmt: skip
    begun = ray_tasks.do_job(order)
    assert [chunk.windows for chunk in begun["chunks"]] == [(0,), (1,), (2,)]
    parts = [ray_tasks.do_part(order, chunk, begun) for chunk in reversed(begun["chunks"])]
    order = {**order, "chunk_frames": 0}
    apart, whole = ray_tasks.do_job(order, begun, *parts), ray_tasks.do_job(order)
    results = [dict(np.load(io.BytesIO(one["files"]["walk.npz"]))) for one in (apart, whole)]
    assert results[0].keys() == results[1].keys()
    for key, values in results[1].items():
        np.testing.assert_array_equal(results[0][key], values, err_msg=key)


def test_a_shot_of_one_camera_gives_what_its_sequence_alone_gives(output):
    expected, found = arrays(output / "run 2/run 2.npz"), arrays(output / "shot/run 2.npz")
    for key in ("poses", "trans", "betas", "status"):
        np.testing.assert_array_equal(found[key], expected[key], err_msg=key)


def test_figures_and_pictures_lie_beside_the_result(output):
    summary = read_summary(output / "歩く")
    assert summary.frames == FRAMES
    assert sum(summary.change_mm) == FRAMES
    assert summary.outputs == ("歩く.npz",)
    for worst in summary.worst:
        for name in (worst.before, worst.after):
            with Image.open(output / "歩く" / name) as picture:
                assert min(picture.size) > 50
    assert len(summary.worst) == 1  # four frames lie nearer together than half a second


def test_the_page_shows_what_failed_and_the_worst_frames_and_fetches_nothing(output):
    page = (output / "report.html").read_text("utf-8")
    assert "no clip belongs to lost.npz" in page
    assert "歩く, frame" in page
    assert page.count('class="compare even"') == 3
    assert "3<small> of 4</small>" in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)


def test_a_finished_batch_is_told_in_one_line_and_does_nothing(clips, output, capfd):
    before = (output / "歩く/summary.json").stat().st_mtime_ns
    assert main(["batch", str(clips), "--output", str(output), *SETTINGS]) == 1
    said = capfd.readouterr().err
    assert "3 of 4 jobs are done already; 1 are left" in said
    assert "[4/4] lost: FAILED: no clip belongs to lost.npz" in said
    assert "3 of 4 jobs done, 1 failed" in said
    assert (output / "歩く/summary.json").stat().st_mtime_ns == before


def test_what_cannot_start_is_one_sentence(clips, tmp_path, capsys):
    for words, expected in (
        ((str(clips), "--output", str(clips)), "--output is the folder of jobs itself"),
        (("none.csv", "--output", str(tmp_path)), "no table or folder of jobs"),
        ((str(clips), "--output", str(tmp_path), "--workers", "0"), "expected 1 or more"),
    ):
        assert main(["batch", *words]) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert "Traceback" not in said


def test_the_worst_frames_of_all_jobs_come_first(tmp_path):
    from posefit.batch import Job
    from posefit.batch.folder import OutputFolder
    from posefit.batch.summary import WorstFrame

    folder = OutputFolder(tmp_path / "out")
    jobs = [Job(f"job-{k}") for k in range(40)]
    for k, job in enumerate(jobs[:-1]):
        (folder.path / job.name).mkdir()
        worst = WorstFrame("a.npz", k, (k * 7 % 40) / 40, "left arm", "b.jpg", "a.jpg")
        write_summary(folder.path / job.name, JobSummary(
            job.name, "x", status={"refined": 3}, worst=(worst,), median_confidence=k / 40,
        ))  # fmt: skip
    figures = gather(jobs, folder, {"job-39": "a sentence"})
    folder.close()
    sure = [shown.worst.confidence for shown in figures.worst]
    assert sure == sorted(k * 7 % 40 / 40 for k in range(39))[:24]
    assert figures.done == 39
    assert figures.frames == 117
    assert figures.shown_jobs[0].name == "job-0"


def test_words_from_outside_cannot_become_markup(tmp_path):
    figures = BatchFigures(jobs=1, failed={"<b>x": "<script>no</script>"})
    page = write_page(tmp_path, figures, "A <i>title").read_text("utf-8")
    assert "<script>no" not in page
    assert "&lt;b&gt;x" in page
    assert "A &lt;i&gt;title" in page


def test_a_frame_is_as_sure_as_its_least_sure_part_and_none_where_nothing_was_computed():
    confidence = np.full((3, 24), 0.9)
    confidence[0, [16, 18, 20]] = 0.3
    sure, why = frame_confidence(confidence, ("refined", "kept", "no_person"))
    np.testing.assert_allclose(sure, [(0.9 + 3 * 0.3) / 4, 0.9, 0.0])
    assert why[0] == "left arm"
    assert why[2] == "the person was not seen"


def test_worst_frames_are_spread_over_the_clip():
    sure = np.array([0.1, 0.11, 0.5, 0.2, np.nan])
    assert spread_worst(sure, np.arange(5) * 0.3, 3, 0.5) == [0, 3]
    assert spread_worst(np.full(3, np.nan), np.arange(3.0), 3, 0.5) == []


def test_every_value_falls_into_one_bin():
    counts = histogram(np.array([0.0, 0.99, 1.0, 7.0, 1e6, np.nan]), CHANGE_EDGES_MM)
    assert counts[0] == 2
    assert (counts[1], counts[3], counts[-1]) == (1, 1, 1)
    assert sum(counts) == 5


def test_a_broken_summary_is_no_result(tmp_path):
    write_summary(tmp_path, JobSummary("a", "print"))
    assert read_summary(tmp_path).fingerprint == "print"
    whole = (tmp_path / "summary.json").read_text()
    (tmp_path / "summary.json").write_text(whole[: len(whole) // 2])
    assert read_summary(tmp_path) is None
    shutil.rmtree(tmp_path)
    assert read_summary(tmp_path) is None
