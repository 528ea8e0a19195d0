# SPDX-License-Identifier: Apache-2.0
"""The output of a batch: results that appear whole or not at all, and so say what has been done.

```
OUTPUT/journal.jsonl        what happened (`journal`)
OUTPUT/summary.csv          a row a job
OUTPUT/report.html          the page
OUTPUT/NAME/NAME.npz        a finished job: its sequence (with a shot, one for each person),
OUTPUT/NAME/summary.json    figures, and what was refined from what (`summary`)
OUTPUT/.batch/              lock, logs, jobs under way, and what is done of them (`checkpoint`)
```
A job works in a folder of its own under `.batch`; renaming that folder to `OUTPUT/NAME` is what
finishes it. A batch killed before the rename has no result of the job, one killed after it all; the
windows that were done of an unfinished one are kept, and the next run goes on after them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

from posefit_shared.sequence import SequenceError
from posefit_shared.shot import read_shot

from .. import __version__
from .folder_lock import FolderLock
from .jobs import BatchError, Job
from .journal import Journal, read_journal
from .summary import SUMMARY_FILE, JobSummary, read_summary

__all__ = ["OutputFolder", "fingerprint", "is_disk_full"]

RESERVED = ("journal.jsonl", "summary.csv", "report.html")


class OutputFolder:
    """The output of a batch, locked for this process.

    Args:
        path: made if it is not there.

    Raises:
        BatchError: another batch holds it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inside = path / ".batch"
        try:
            self._inside.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self._inside / "lock")
            # What lies there belongs to batches that were killed: this one has the lock.
            for name in ("work", "replaced"):
                shutil.rmtree(self._inside / name, ignore_errors=True)
            self._work.mkdir(exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            self.journal = Journal(path / "journal.jsonl")
        except OSError as error:
            raise BatchError(
                f"{path} cannot be written ({error.strerror or error}): choose another --output"
            ) from error

    @property
    def logs(self) -> Path:
        """Where each job's messages go, a file a job."""
        return self._inside / "logs"

    @property
    def _work(self) -> Path:
        return self._inside / "work"

    def kept(self, job: Job, stamp: str) -> Path:
        """Where what is done of an unfinished job is kept; what other files or settings, or another
        version, gave is taken away.

        Args:
            job: which.
            stamp: its fingerprint.
        """
        of_job = self._inside / "kept" / job.name
        mine = of_job / f"{stamp}-{__version__}"
        for other in of_job.glob("*"):
            if other != mine:
                shutil.rmtree(other, ignore_errors=True)
        return mine

    def jobs_written_down(self) -> set[str]:
        """Jobs that the journal calls done."""
        records = read_journal(self.path / "journal.jsonl")
        return {str(record.get("job")) for record in records if record.get("event") == "done"}

    def log_file(self, job: Job) -> Path:
        """Where a job's messages go."""
        return self.logs / f"{job.name}.log"

    def result(self, job: Job) -> Path:
        """The folder of a finished job."""
        return self.path / job.name

    def summary(self, job: Job) -> JobSummary | None:
        """What came out of a finished job; None if it has no result."""
        return read_summary(self.result(job))

    def is_done(self, job: Job) -> bool:
        """Whether the job's result is there and was made from these very files and settings."""
        summary = self.summary(job)
        return summary is not None and summary.fingerprint == fingerprint(job)

    def begin(self, job: Job) -> Path:
        """An empty folder for a job to work in.

        Raises:
            BatchError: something that no batch wrote stands where the result would go.
        """
        result = self.result(job)
        if job.name in RESERVED or (result.exists() and not (result / SUMMARY_FILE).is_file()):
            raise BatchError(
                f"{result} is there already and is no result of a batch: move it away, or give "
                "the job another name"
            )
        work = self._work / job.name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return work

    def finish(self, job: Job, work: Path) -> None:
        """Make a job's work its result; one of before makes room for it."""
        result = self.result(job)
        for path in [*work.iterdir(), work]:
            _to_disk(path)
        replaced = None
        if result.exists():
            replaced = self._inside / "replaced"
            replaced.mkdir(exist_ok=True)
            replaced /= job.name
            result.rename(replaced)
        work.rename(result)
        _to_disk(self.path)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
        shutil.rmtree(self._inside / "kept" / job.name, ignore_errors=True)

    def abandon(self, job: Job, *, for_good: bool) -> None:
        """Take away what an unfinished job has written.

        Args:
            job: which.
            for_good: it is not tried again, so nothing is kept to go on from.
        """
        shutil.rmtree(self._work / job.name, ignore_errors=True)
        if for_good:
            shutil.rmtree(self._inside / "kept" / job.name, ignore_errors=True)

    def free_megabytes(self) -> int:
        """Room on the disk."""
        return shutil.disk_usage(self.path).free >> 20

    def close(self) -> None:
        """Give the folder free."""
        self.journal.close()
        self._lock.release()


def fingerprint(job: Job) -> str:
    """Tells whether a result was made from these files and settings.

    Files count by name, size and time of change, not by path: a batch may go on where the same
    disk is mounted elsewhere.
    """
    parts: list[object] = [job.body, job.uv, sorted(job.settings.to_map().items())]
    for path in job.input_files():
        parts.append(_stamp(path))
    if job.shot is not None:
        parts.extend(_stamp(path) for path in _files_of_shot(job.shot))
    words = json.dumps(parts, ensure_ascii=True, default=str)
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def _files_of_shot(path: Path) -> list[Path]:
    try:
        shot = read_shot(path)
    except SequenceError:  # running the job says what is wrong
        return []
    return [*(camera.footage for camera in shot.cameras), *shot.people]


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError:
        return path.name, -1, 0
    if not path.is_dir():
        return path.name, state.st_size, state.st_mtime_ns
    with os.scandir(path) as entries:
        states = [entry.stat() for entry in entries if entry.is_file()]
    latest = max((entry.st_mtime_ns for entry in states), default=0)
    return path.name, sum(entry.st_size for entry in states), latest


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, was a lack of room."""
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def _to_disk(path: Path) -> None:
    """Wait until a file, or a folder's entries, are on the disk, where the system can say so."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except (OSError, PermissionError):  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if is_disk_full(error):  # others: file systems that cannot do it for folders
            raise
    finally:
        os.close(handle)
