# SPDX-License-Identifier: Apache-2.0
"""A batch from beginning to end: what is left to do is handed out, what comes back is kept.

Nothing here computes. A job is finished by the output folder (`OutputFolder.finish`), which makes
the order of things simple: journal `started`, work, rename, journal `done`. A batch that is killed
between any two of them finds out by looking at the folder.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .executor import Event, Executor, Finished, Progress
from .folder import OutputFolder, fingerprint, is_disk_full
from .jobs import BatchError, Job
from .summary import JobSummary

__all__ = ["BatchResult", "Display", "DiskFullError", "run_jobs"]

logger = logging.getLogger(__name__)

_TICK_S = 0.5
_LOSSES = 20
"""So many machines may go away under a job before it is given up."""


class DiskFullError(BatchError):
    """There is no room for results; what is done is kept."""


class Display(Protocol):
    """Shows how a batch goes."""

    def begin(self, total: int, done: int) -> None:
        """Jobs in all, and those that were done before."""

    def progress(self, name: str, fraction: float, stage: str) -> None:
        """A job goes on."""

    def done(self, job: Job, summary: JobSummary | None, seconds: float) -> None:
        """A job has its result."""

    def failed(self, job: Job, words: str, *, again: bool) -> None:
        """A job has failed, for good or to be tried again."""


@dataclass(frozen=True)
class BatchResult:
    """What became of the jobs."""

    done: int
    """Jobs that have a result, those of earlier runs too."""
    before: int
    """Of them, those that were done before."""
    failed: dict[str, str] = field(default_factory=dict)
    """Sentence of each job that failed, by name."""


@dataclass
class _UnderWay:
    job: Job
    folder: Path
    attempt: int
    began_at: float


class _Run:
    """One run of a batch; its state lives as long as the run."""

    def __init__(
        self, folder: OutputFolder, executor: Executor, display: Display, retries: int
    ) -> None:
        self.folder, self.executor, self.display, self.retries = folder, executor, display, retries
        self.waiting: deque[tuple[Job, int]] = deque()
        self.under_way: dict[str, _UnderWay] = {}
        self.failed: dict[str, str] = {}
        self.losses: Counter[str] = Counter()
        self.done = 0

    def go(self) -> None:
        """Hand out jobs until none is left."""
        while self.waiting or self.under_way:
            while self.waiting and len(self.under_way) < self.executor.slots:
                self._start(*self.waiting.popleft())
            if self.under_way:
                for event in self.executor.events(_TICK_S):
                    self._take(event)

    def _start(self, job: Job, attempt: int) -> None:
        words = job.problem
        work = None
        if not words:
            try:
                work = self.folder.begin(job)
            except BatchError as error:
                words = str(error)
        self.folder.journal.write("started", job.name, attempt=attempt)
        if work is None:
            self._fail(job, "refused", words, attempt)
            return
        self.under_way[job.name] = _UnderWay(job, work, attempt, time.monotonic())
        stamp = fingerprint(job)
        kept = self.folder.kept(job, stamp)
        self.executor.submit(job, work, stamp, self.folder.log_file(job), kept)

    def _take(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.display.progress(event.name, event.fraction, event.stage)
            return
        entry = self.under_way.pop(event.name)
        if isinstance(event, Finished):
            self._finish(entry)
        elif event.kind == "disk":
            raise DiskFullError
        else:
            again = self._fail(entry.job, event.kind, event.words, entry.attempt)
            self.folder.abandon(entry.job, for_good=not again)

    def _finish(self, entry: _UnderWay) -> None:
        seconds = time.monotonic() - entry.began_at
        self.folder.finish(entry.job, entry.folder)
        self.folder.journal.write("done", entry.job.name, seconds=round(seconds, 2))
        self.done += 1
        self.display.done(entry.job, self.folder.summary(entry.job), seconds)

    def _fail(self, job: Job, kind: str, words: str, attempt: int) -> bool:
        """Write a failure down; whether the job is tried again."""
        again = kind == "broke" and attempt <= self.retries
        number = attempt
        if kind == "lost":
            self.losses[job.name] += 1
            again = self.losses[job.name] <= _LOSSES
            attempt -= 1
        self.folder.journal.write("failed", job.name, attempt=number, words=words, again=again)
        if again:
            self.waiting.append((job, attempt + 1))
        else:
            if kind == "broke":
                words += f" (its messages: {self.folder.log_file(job)})"
            self.failed[job.name] = words
        self.display.failed(job, words, again=again)
        return again


def run_jobs(
    jobs: Sequence[Job],
    folder: OutputFolder,
    executor: Executor,
    display: Display,
    *,
    retries: int = 1,
) -> BatchResult:
    """Do all jobs that have no result yet.

    Args:
        jobs: no two of one name.
        folder: their output.
        executor: runs them; it is closed at the end, however that comes.
        display: told how it goes.
        retries: how often a job that broke is tried again; one that was refused in words is not.

    Raises:
        DiskFullError: there is no room; running the same batch again goes on.
        KeyboardInterrupt: it was stopped; running the same batch again goes on.
    """
    run = _Run(folder, executor, display, retries)
    before = 0
    try:
        written = folder.jobs_written_down()
        folder.journal.write("opened", jobs=len(jobs))
        for job in jobs:
            if not job.problem and folder.is_done(job):
                before += 1
                if job.name not in written:  # killed between the rename and the journal
                    folder.journal.write("done", job.name, found=True)
            else:
                run.waiting.append((job, 1))
        display.begin(len(jobs), before)
        run.go()
        folder.journal.write("closed", done=before + run.done, failed=len(run.failed))
    except KeyboardInterrupt:
        folder.journal.write("stopped", done=before + run.done)
        raise
    except (OSError, DiskFullError) as error:
        if isinstance(error, OSError) and not is_disk_full(error):
            raise
        raise DiskFullError(
            f"the disk of {folder.path} is full ({folder.free_megabytes()} MB free): free some "
            f"space and run the same command again; {before + run.done} of {len(jobs)} jobs are "
            "done and kept"
        ) from error
    finally:
        executor.close()
    return BatchResult(before + run.done, before, run.failed)
