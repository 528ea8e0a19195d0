# SPDX-License-Identifier: Apache-2.0
"""How a batch shows that it goes on: a bar on a terminal, plain lines elsewhere; a line a job."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm

from .jobs import Job
from .summary import JobSummary

__all__ = ["LineDisplay"]


class LineDisplay:
    """A line for each job that ends, and on a terminal a bar below them.

    Args:
        stream: where to; standard error unless given.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total = self._ended = 0
        self._stages: dict[str, str] = {}
        self._bar: tqdm | None = None

    def begin(self, total: int, done: int) -> None:
        """Say what there is to do."""
        self._total, self._ended = total, done
        if done:
            self._say(f"{done} of {total} jobs are done already; {total - done} are left")
        if self._stream.isatty():
            self._bar = tqdm(
                total=total, initial=done, unit="job", file=self._stream, dynamic_ncols=True,
                bar_format="{n_fmt}/{total_fmt} |{bar:24}| {elapsed}<{remaining} {postfix}",
            )  # fmt: skip

    def progress(self, name: str, fraction: float, stage: str) -> None:
        """Show how far the jobs under way are."""
        if self._bar is not None:
            self._stages[name] = f"{name} {100 * fraction:.0f}%"
            self._bar.set_postfix_str(", ".join(list(self._stages.values())[:3]))

    def done(self, job: Job, summary: JobSummary | None, seconds: float) -> None:
        """Say what came out of a job."""
        words = "done"
        if summary is not None:
            words = f"{summary.refined} of {summary.frames} frames refined"
        self._ends(job, f"{words}, {seconds:.1f} s")

    def failed(self, job: Job, words: str, *, again: bool) -> None:
        """Say why a job failed."""
        if again:
            self._say(f"{job.name}: {words}; it is tried again")
        else:
            self._ends(job, f"FAILED: {words}")

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _ends(self, job: Job, words: str) -> None:
        self._ended += 1
        self._stages.pop(job.name, None)
        self._say(f"[{self._ended:{len(str(self._total))}}/{self._total}] {job.name}: {words}")
        if self._bar is not None:
            self._bar.update(1)

    def _say(self, line: str) -> None:
        if self._bar is not None:
            tqdm.write(line, file=self._stream)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()
