# SPDX-License-Identifier: Apache-2.0
"""What a batch is to do: tables as people save them, folders as they fill them."""

import os
from pathlib import Path

import pytest

from posefit.batch import BatchError, Job, read_jobs
from posefit.batch.folder import fingerprint
from posefit_shared.settings import RefineSettings


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "jobs.csv"
    path.write_text(text, encoding)
    return path


def test_paths_are_relative_to_the_table_and_settings_override_the_defaults(tmp_path):
    defaults = Job("", body="mine.npz", settings=RefineSettings(rounds=3, keypoints=False))
    path = table(
        tmp_path,
        "name,sequence,footage,rounds,smoothness,keypoints,displacement,texture,#remark\n"
        "a,one.npz,one.mp4,5,0.5,yes,none,t.png,keep\n"
        ",sub/two.npz,/elsewhere/two.mp4,,,,,,\n",
    )
    first, second = read_jobs(path, defaults)
    assert first.sequence == tmp_path / "one.npz"
    assert first.texture == tmp_path / "t.png"
    assert first.settings == RefineSettings(
        rounds=5, smoothness=0.5, keypoints=True, displacement="none"
    )
    assert second == Job(
        "two", tmp_path / "sub/two.npz", Path("/elsewhere/two.mp4"), body="mine.npz",
        settings=defaults.settings,
    )  # fmt: skip


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8")])
def test_tables_of_other_programs_and_alphabets_are_read(tmp_path, delimiter, encoding):
    rows = [["Name", "Sequence", "Footage", "smoothness"], ["歩く 1", "a b.npz", "кадр.mp4", "0,5"]]
    text = "\r\n".join(delimiter.join(row) for row in rows) + "\r\n\r\n"
    (job,) = read_jobs(table(tmp_path, text, encoding))
    assert (job.name, job.footage, job.settings.smoothness) == (
        "歩く 1",
        tmp_path / "кадр.mp4",
        0.5,
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,a.npz,a.mp4,99", "row 2: rounds is 99, expected 1 to 10"),
        ("a,a.npz,a.mp4,many", "row 2: rounds is 'many', expected a number like 2"),
        ("a,a.npz,,2", "row 2 names no sequence with footage and no shot"),
        ("../a,a.npz,a.mp4,2", "row 2: the name '../a' cannot be a folder's"),
        ("a,a.npz,a.mp4,2,3", "row 2 has 5 cells, the header 4"),
    ],
)
def test_a_bad_row_is_a_job_that_says_why(tmp_path, row, words):
    text = f"name,sequence,footage,rounds\n{row}\nb,b.npz,b.mp4,2\n"
    bad, good = read_jobs(table(tmp_path, text))
    assert words in bad.problem
    assert not good.problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with nothing, expected a header"),
        ("walk,a.npz,b.mp4\n", "expected a header"),
        ("sequence,footage,round\n", "no setting is called 'round'"),
        ("sequence,footage\n", "no rows below its header"),
        ("sequence,footage\na.npz,a.mp4\nx/A.npz,b.mp4\n", "two jobs are called 'A'"),
    ],
)
def test_a_table_that_is_none_is_refused_in_words(tmp_path, text, words):
    with pytest.raises(BatchError, match=words):
        read_jobs(table(tmp_path, text))


def test_a_missing_table_and_an_empty_folder_are_refused_in_words(tmp_path):
    with pytest.raises(BatchError, match="no table or folder of jobs at"):
        read_jobs(tmp_path / "none.csv")
    with pytest.raises(BatchError, match="holds no jobs: put pairs"):
        read_jobs(tmp_path)
    (tmp_path / "pictures.csv").write_bytes(b"\xff\xfe\x00\x01\x80")
    with pytest.raises(BatchError, match="save it as CSV in UTF-8"):
        read_jobs(tmp_path / "pictures.csv")


def test_a_folder_holds_pairs_image_folders_and_shots(tmp_path):
    for name in (
        "walk.npz", "walk.MP4", "run.npz", "both.npz", "both.mov", "both.mp4", "alone.npz",
        "notes.txt", ".hidden.npz", "shot/shot.json", "shot/cam.mp4", "run/0.png",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    jobs = {job.name: job for job in read_jobs(tmp_path)}
    assert set(jobs) == {"walk", "run", "both", "alone", "shot"}
    assert jobs["walk"].footage == tmp_path / "walk.MP4"
    assert jobs["run"].footage == tmp_path / "run"
    assert jobs["shot"].shot == tmp_path / "shot/shot.json"
    assert "several clips belong to both.npz (both.mov, both.mp4)" in jobs["both"].problem
    assert "no clip belongs to alone.npz" in jobs["alone"].problem


def test_a_job_crosses_to_another_process_whole(tmp_path):
    job = Job("a", tmp_path / "a.npz", tmp_path / "a.mp4", settings=RefineSettings(rounds=4))
    assert Job.from_map(job.to_map()) == job
    assert (
        Job.from_map(Job("b", shot=tmp_path / "shot.json").to_map()).shot == tmp_path / "shot.json"
    )


def test_a_fingerprint_changes_with_files_and_settings_but_not_with_their_place(tmp_path):
    prints = set()
    for folder in ("here", "there"):
        (tmp_path / folder / "pictures").mkdir(parents=True)
        for name in ("a.npz", "pictures/0.png"):
            (tmp_path / folder / name).write_text("x")
        for name in ("a.npz", "pictures/0.png"):
            os.utime(tmp_path / folder / name, (9, 9))
        job = Job("a", tmp_path / folder / "a.npz", tmp_path / folder / "pictures")
        prints.add(fingerprint(job))
    assert len(prints) == 1
    (tmp_path / "there/pictures/1.png").write_text("y")
    prints.add(fingerprint(job))
    prints.add(fingerprint(Job("a", job.sequence, job.footage, settings=RefineSettings(rounds=5))))
    assert len(prints) == 3
