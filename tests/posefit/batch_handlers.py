# SPDX-License-Identifier: Apache-2.0
"""Jobs of batches that need no engine: what a job does is said by the first word of its name."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posefit.batch.jobs import Job
from posefit.batch.summary import JobSummary, write_summary
from posefit.errors import RefinementError


@dataclass(frozen=True)
class Machine:
    """As the engine's."""

    device: str = "cpu"
    rasterizer: str = "warp"
    pictures: int = 2


def look_at_job(job: Job, machine: Machine, progress) -> dict[str, list[str]]:
    """See nothing much, or do what the name says: blind, vanish."""
    what = job.name.partition("-")[0]
    note(job, f"looked {os.getpid()}")
    if what == "blind":
        raise RefinementError("no footage")
    if what == "vanish" and len(notes(job)) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seen": np.array([job.name])}


def begin_chunks(job: Job, machine: Machine, chunk_frames: int, records, progress) -> list[str]:
    """Jobs called parts are three; anything else is one."""
    if not job.name.startswith("parts-"):
        return []
    note(job, f"divided {chunk_frames}")
    records["shared"] = np.zeros(3)
    return ["a", "b", "c"]


def do_chunk(job: Job, chunk: str, machine: Machine, records, progress) -> dict[str, np.ndarray]:
    """Note who did it; the second part kills its process the first time."""
    assert "shared" in records
    note(job, f"part {chunk}")
    if chunk == "b" and notes(job).count("part b") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {f"part-{chunk}": np.ones(2)}


def run_job(
    job: Job, folder: Path, machine: Machine, fingerprint: str, progress, records
) -> JobSummary:
    """Copy the sequence, or do what the name says: refuse, break, crash, hang, fill, resume…"""
    assert job.sequence is not None
    what = job.name.partition("-")[0]
    note(job, f"began {os.getpid()}")
    if len(records):
        note(job, f"given {sorted(records)}")
    print("words that libraries print")  # noqa: T201
    progress(0.5, "half done")
    if what == "refuse":
        raise RefinementError("the body lies wholly outside the picture")
    if what == "break":
        raise ValueError("a mistake\nin several lines")
    if what == "crash" or (what == "flaky" and len(notes(job)) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "resume":
        records[f"step-{len(records)}"] = {"done": np.arange(3)}
        if len(records) < 3:
            os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(7)
    if what == "hang":
        time.sleep(600)
    if what == "fill":
        raise RefinementError("could not write") from OSError(errno.ENOSPC, "no room")
    if what in ("slow", "long"):
        for _ in range(6 if what == "slow" else 40):
            time.sleep(0.05)
            progress(0.6, "slowly")
    (folder / f"{job.name}.npz").write_bytes(job.sequence.read_bytes())
    summary = JobSummary(job.name, fingerprint, outputs=(f"{job.name}.npz",), status={"kept": 2})
    write_summary(folder, summary)
    note(job, "ended")
    return summary


def note(job: Job, words: str) -> None:
    """Add a line beside the job's sequence."""
    assert job.sequence is not None
    with job.sequence.with_suffix(".notes").open("a") as handle:
        handle.write(words + "\n")


def notes(job: Job) -> list[str]:
    """What was noted of a job."""
    assert job.sequence is not None
    path = job.sequence.with_suffix(".notes")
    return path.read_text().splitlines() if path.is_file() else []
