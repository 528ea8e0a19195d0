# SPDX-License-Identifier: Apache-2.0
"""A batch: nothing is lost or done twice whatever dies, and one bad job stops no other."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import batch_handlers
import pytest
from wire_backend import is_alive

from posefit.batch import BatchError, read_jobs
from posefit.batch.command import BatchConfig, run_batch
from posefit.batch.folder import OutputFolder
from posefit.batch.journal import Journal, read_journal
from posefit.batch.local_processes import LocalProcesses, ProcessLimits
from posefit.batch.runner import DiskFullError

HERE = Path(__file__).resolve().parent


class Recorder:
    """A display that keeps what it is told."""

    def __init__(self):
        self.before = 0
        self.words: list[tuple[str, str]] = []

    def begin(self, total, done):
        self.before = done

    def progress(self, name, fraction, stage):
        self.words.append((name, stage))

    def done(self, job, summary, seconds):
        self.words.append((job.name, "done"))

    def failed(self, job, words, *, again):
        self.words.append((job.name, "again" if again else "failed"))


@pytest.fixture(autouse=True)
def _handlers_are_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


def write_table(folder: Path, *names: str) -> Path:
    """A table of jobs whose sequences hold their names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clip.mp4").write_bytes(b"not looked at")
    table = folder / "jobs.csv"
    with table.open("w") as handle:
        handle.write("name,sequence,footage\n")
        for name in names:
            (folder / f"{name}.npz").write_text(name)
            handle.write(f"{name},{name}.npz,clip.mp4\n")
    return table


def run(table: Path, output: Path, *, workers=1, retries=1, limits=None, display=None):
    return run_batch(
        BatchConfig(table, output, retries=retries),
        display=display or Recorder(),
        make_executor=lambda _: LocalProcesses(
            ["cpu"] * workers, {}, limits or ProcessLimits(hang_seconds=60), "batch_handlers"
        ),
    )


def events(output: Path, name: str) -> list[str]:
    return [r["event"] for r in read_journal(output / "journal.jsonl") if r.get("job") == name]


def notes(table: Path, name: str) -> list[str]:
    return batch_handlers.notes(batch_handlers.Job(name, table.parent / f"{name}.npz"))


def test_bad_jobs_stop_no_other_and_say_why(tmp_path):
    names = ("refuse-1", "good-1", "crash-1", "break-1", "flaky-1", "good-2")
    table, output, seen = write_table(tmp_path / "in", *names), tmp_path / "out", Recorder()
    result = run(table, output, workers=2, display=seen)
    assert result.done == 3
    for name in ("good-1", "good-2", "flaky-1"):
        assert (output / name / f"{name}.npz").read_text() == name
    assert result.failed["refuse-1"] == "the body lies wholly outside the picture"
    assert "killed" in result.failed["crash-1"]
    assert result.failed["break-1"].startswith("ValueError: a mistake (its messages: ")
    assert events(output, "refuse-1") == ["started", "failed"]  # words would be the same again
    assert events(output, "crash-1") == ["started", "failed"] * 2
    assert events(output, "flaky-1") == ["started", "failed", "started", "done"]
    assert ("flaky-1", "again") in seen.words
    assert ("good-1", "half done") in seen.words
    log = (output / ".batch/logs/break-1.log").read_text()
    assert "Traceback" in log
    assert "words that libraries print" in log
    assert not list((output / ".batch/work").iterdir())
    rows = {
        row["name"]: row
        for row in csv.DictReader((output / "summary.csv").open(encoding="utf-8-sig"))
    }
    assert [rows[name]["state"] for name in names] == [
        "failed",
        "done",
        "failed",
        "failed",
        "done",
        "done",
    ]
    assert rows["refuse-1"]["why"] == "the body lies wholly outside the picture"
    page = (output / "report.html").read_text()
    assert "Failed: 3" in page
    assert "the body lies wholly outside the picture" in page


def test_a_job_that_hangs_is_given_up(tmp_path):
    table = write_table(tmp_path / "in", "hang-1", "good-1")
    limits = ProcessLimits(hang_seconds=3.0)
    result = run(table, tmp_path / "out", retries=0, limits=limits)
    assert result.done == 1
    assert "hung: no sign of progress for 3 s" in result.failed["hang-1"]
    (began,) = notes(table, "hang-1")
    assert not is_alive(int(began.split()[1]))


def test_a_second_run_does_what_is_left_and_nothing_else(tmp_path):
    table, output = write_table(tmp_path / "in", "good-1", "refuse-1"), tmp_path / "out"
    assert run(table, output).failed.keys() == {"refuse-1"}
    write_table(tmp_path / "in", "good-1", "refuse-1", "good-2")
    (tmp_path / "in/good-1.npz").write_text("good-1")
    os.utime(tmp_path / "in/good-1.npz", (1, 1))
    assert run(table, output).before == 0  # its file is another now
    assert notes(table, "good-1").count("ended") == 2
    seen = Recorder()
    result = run(table, output, display=seen)
    assert (result.before, result.done) == (2, 2)
    assert notes(table, "good-1").count("ended") == 2
    assert notes(table, "good-2").count("ended") == 1
    assert len(notes(table, "refuse-1")) == 3  # what failed may have been mended


def test_another_setting_makes_another_result(tmp_path):
    table, output = write_table(tmp_path / "in", "good-1"), tmp_path / "out"
    run(table, output)
    table.write_text("name,sequence,footage,rounds\ngood-1,good-1.npz,clip.mp4,3\n")
    assert run(table, output).before == 0
    assert run(table, output).before == 1
    assert sorted(p.name for p in output.iterdir()) == [
        ".batch", "good-1", "journal.jsonl", "report.html", "summary.csv",
    ]  # fmt: skip


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_done_twice(tmp_path):
    names = [f"slow-{k}" for k in range(6)]
    table, output = write_table(tmp_path / "in", *names), tmp_path / "out"
    command = [sys.executable, str(HERE / "batch_program.py"), str(table), str(output), "2"]
    finished: dict[str, int] = {}
    for pause in (0.3, 1.7, 2.3, 2.9, 60, 60):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            process.communicate(timeout=pause)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        for name in names:
            if (output / name).exists():
                assert (output / name / f"{name}.npz").read_text() == name
                inode = (output / name).stat().st_ino
                assert finished.setdefault(name, inode) == inode
    assert process.returncode == 0
    assert set(finished) == set(names)
    for name in names:
        happened = events(output, name)
        assert happened.count("done") == 1
        assert happened[-1] == "done"
    for name in names:
        for line in notes(table, name):
            if line.startswith("began"):
                assert not is_alive(int(line.split()[1]))


def test_a_job_that_is_killed_goes_on_from_what_it_had_done(tmp_path):
    table, output = write_table(tmp_path / "in", "resume-1"), tmp_path / "out"
    first = run(table, output, retries=0)
    assert "killed" in first.failed["resume-1"]
    assert run(table, output, retries=2).done == 1
    given = [line for line in notes(table, "resume-1") if line.startswith("given")]
    # What is given up for good is begun from nothing the next time.
    assert given == ["given ['step-0']", "given ['step-0', 'step-1']"]
    assert not list((output / ".batch/kept").iterdir())


def test_the_jobs_of_a_killed_batch_end_with_it(tmp_path):
    table, output = write_table(tmp_path / "in", "hang-1"), tmp_path / "out"
    command = [sys.executable, str(HERE / "batch_program.py"), str(table), str(output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: notes(table, "hang-1"))
    process.kill()
    process.wait()
    job = int(notes(table, "hang-1")[0].split()[1])
    wait_until(lambda: not is_alive(job))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stopped_batch_leaves_no_process_and_goes_on_later(tmp_path, name):
    table, output = write_table(tmp_path / "in", "good-1", "hang-1"), tmp_path / "out"
    command = [sys.executable, str(HERE / "batch_program.py"), str(table), str(output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: notes(table, "hang-1"))
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in said  # which the command line puts into words
    assert not is_alive(int(notes(table, "hang-1")[0].split()[1]))
    assert [r["event"] for r in read_journal(output / "journal.jsonl")][-1] == "stopped"
    write_table(tmp_path / "in", "good-1")
    os.utime(tmp_path / "in/clip.mp4", (5, 5))
    os.utime(tmp_path / "in/good-1.npz", (5, 5))
    assert run(table, output).done == 1


def test_a_full_disk_is_one_sentence_and_keeps_what_is_done(tmp_path):
    table, output = write_table(tmp_path / "in", "good-1", "fill-1", "good-2"), tmp_path / "out"
    with pytest.raises(DiskFullError, match="disk of .*out is full .* 1 of 3 jobs are done"):
        run(table, output)
    assert notes(table, "good-2") == []
    assert events(output, "fill-1") == ["started"]
    table.write_text(table.read_text().replace("fill-1,", "good-3,"))
    result = run(table, output)
    assert (result.before, result.done, result.failed) == (1, 3, {})


def test_a_journal_on_a_full_disk_is_the_same_sentence(tmp_path, monkeypatch):
    table, output = write_table(tmp_path / "in", "good-1"), tmp_path / "out"
    output.mkdir()
    (output / "journal.jsonl").symlink_to("/dev/full")
    monkeypatch.setattr(Journal, "_take_away_half_a_line", lambda self: None)
    with pytest.raises(DiskFullError, match="is full .* 0 of 1 jobs are done"):
        run(table, output)


def test_a_log_on_a_full_disk_is_the_same_sentence(tmp_path):
    table, output = write_table(tmp_path / "in", "break-1"), tmp_path / "out"
    (output / ".batch/logs").mkdir(parents=True)
    (output / ".batch/logs/break-1.log").symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match="is full .* 0 of 1 jobs are done"):
        run(table, output)


def test_it_is_said_how_a_process_ended(tmp_path):
    table = write_table(tmp_path / "in", "exit-1")
    failed = run(table, tmp_path / "out", retries=0).failed
    assert "the worker process exited with status 7" in failed["exit-1"]


def test_half_a_line_of_the_journal_is_taken_away(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.write("started", "a")
    journal.write("done", "a", seconds=1.0)
    journal.close()
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        journal = Journal(path)
        journal.write("started", "名\udcff")
        journal.close()
        records = list(read_journal(path))
        assert len(records) == whole[:cut].count(b"\n") + 1
        assert records[-1]["job"] == "名\udcff"
        assert path.read_bytes().endswith(b"\n")
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_two_batches_do_not_share_a_folder(tmp_path):
    table, output = write_table(tmp_path / "in", "hang-1"), tmp_path / "out"
    command = [sys.executable, str(HERE / "batch_program.py"), str(table), str(output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: notes(table, "hang-1"))
        with pytest.raises(BatchError, match=rf"another batch \(process {process.pid} on "):
            run(table, output)
    finally:
        process.kill()
        process.wait()
    write_table(tmp_path / "in", "good-1")
    assert run(table, output).done == 1  # the lock ended with its process


def test_what_no_batch_wrote_is_never_overwritten(tmp_path):
    table, output = write_table(tmp_path / "in", "good-1", "good-2"), tmp_path / "out"
    (output / "good-1").mkdir(parents=True)
    (output / "good-1/precious.txt").write_text("mine")
    result = run(table, output)
    assert "is no result of a batch" in result.failed["good-1"]
    assert result.done == 1
    assert (output / "good-1/precious.txt").read_text() == "mine"


def test_a_result_cut_off_before_its_rename_is_not_taken_for_one(tmp_path):
    table, output = write_table(tmp_path / "in", "good-1"), tmp_path / "out"
    left = output / ".batch/work/good-1"
    left.mkdir(parents=True)
    (left / "good-1.npz").write_text("half")
    (output / ".batch/replaced/good-1").mkdir(parents=True)
    run(table, output)
    assert (output / "good-1/good-1.npz").read_text() == "good-1"
    assert not (output / ".batch/replaced").exists()


def test_processes_are_renewed_after_some_jobs(tmp_path):
    names = [f"good-{k}" for k in range(4)]
    table = write_table(tmp_path / "in", *names)
    run(table, tmp_path / "out", limits=ProcessLimits(60, 0, jobs_a_process=2))
    assert len({notes(table, name)[0] for name in names}) == 2


def test_the_output_is_free_again_after_a_failure_to_start(tmp_path):
    table, output = write_table(tmp_path / "in", "good-1"), tmp_path / "out"

    def broken(config):
        raise BatchError("no cluster")

    with pytest.raises(BatchError, match="no cluster"):
        run_batch(BatchConfig(table, output), make_executor=broken)
    OutputFolder(output).close()


def test_a_table_gives_its_jobs_in_order(tmp_path):
    table = write_table(tmp_path, "a", "b")
    assert [job.name for job in read_jobs(table)] == ["a", "b"]


def wait_until(is_true, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.05)
