# SPDX-License-Identifier: Apache-2.0
"""What a whole batch came to: `summary.csv`, and the figures of its page; one job in memory."""

from __future__ import annotations

import csv
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..whole_files import replace_file
from .folder import OutputFolder
from .jobs import Job
from .summary import CHANGE_EDGES_MM, CONFIDENCE_EDGES, JobSummary, WorstFrame

__all__ = ["BatchFigures", "ShownFrame", "gather"]

COLUMNS = (
    "name", "state", "frames", "refined", "kept", "no_person", "failed", "median_change_mm",
    "median_confidence", "least_sure_frame", "its_confidence", "its_part", "seconds", "result",
    "why",
)  # fmt: skip
SHOWN_FRAMES = 24
SHOWN_JOBS = 200


@dataclass(frozen=True)
class ShownFrame:
    """One of the worst frames of all, with the job it is in."""

    job: str
    """The job's name, which is its folder too."""
    worst: WorstFrame
    """The frame."""


@dataclass
class BatchFigures:
    """Figures over all jobs of a batch."""

    jobs: int = 0
    """Jobs of the batch."""
    done: int = 0
    """Those with a result."""
    seconds: float = 0.0
    """Time that the jobs took, added up."""
    status: dict[str, int] = field(default_factory=dict)
    """Frames by what became of them."""
    change_mm: list[int] = field(default_factory=lambda: [0] * len(CHANGE_EDGES_MM))
    """Frames by change."""
    confidence: list[int] = field(default_factory=lambda: [0] * len(CONFIDENCE_EDGES))
    """Frames by confidence."""
    failed: dict[str, str] = field(default_factory=dict)
    """Sentence of each job that failed."""
    worst: list[ShownFrame] = field(default_factory=list)
    """The least sure frames of all jobs, the worst first."""
    shown_jobs: list[JobSummary] = field(default_factory=list)
    """The jobs with the least confidence, the worst first."""

    @property
    def frames(self) -> int:
        """Frames of all jobs that are done."""
        return sum(self.status.values())

    def add(self, summary: JobSummary) -> None:
        """Count a job in."""
        self.done += 1
        self.seconds += summary.seconds
        for word, count in summary.status.items():
            self.status[word] = self.status.get(word, 0) + count
        self.change_mm = [a + b for a, b in zip(self.change_mm, summary.change_mm, strict=True)]
        self.confidence = [a + b for a, b in zip(self.confidence, summary.confidence, strict=True)]


def gather(jobs: Sequence[Job], folder: OutputFolder, failed: Mapping[str, str]) -> BatchFigures:
    """Read every job's figures, and write the table of them.

    Args:
        jobs: of the batch.
        folder: its output.
        failed: sentences of the jobs that failed in this run.

    Raises:
        OSError: the table cannot be written.
    """
    figures = BatchFigures(jobs=len(jobs), failed=dict(failed))
    worst: list[tuple[float, int, ShownFrame]] = []
    least: list[tuple[float, int, JobSummary]] = []

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8-sig", newline="", errors="backslashreplace") as handle:
            table = csv.writer(handle)
            table.writerow(COLUMNS)
            for number, job in enumerate(jobs):
                summary = None if job.name in failed else folder.summary(job)
                table.writerow(_row(job, summary, failed.get(job.name, ""), folder.path))
                if summary is None:
                    continue
                figures.add(summary)
                for place, frame in enumerate(summary.worst):
                    entry = ShownFrame(job.name, frame)
                    # The heap's first is the surest; jobs that come first win a draw.
                    _keep(worst, (-frame.confidence, -(number * 1000 + place), entry), SHOWN_FRAMES)
                sure = 2.0 if summary.median_confidence is None else summary.median_confidence
                _keep(least, (-sure, -number, summary), SHOWN_JOBS)

    replace_file(folder.path / "summary.csv", write)
    figures.worst = [entry for _, _, entry in sorted(worst, reverse=True)]
    figures.shown_jobs = [summary for _, _, summary in sorted(least, reverse=True)]
    return figures


def _keep(heap: list, entry: tuple, count: int) -> None:
    if len(heap) < count:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def _row(job: Job, summary: JobSummary | None, words: str, output: Path) -> list[object]:
    if summary is None:
        return [job.name, "failed" if words else "not done", *[""] * 12, words]
    status, worst = summary.status, summary.worst[:1]
    least = [worst[0].frame, worst[0].confidence, worst[0].why] if worst else ["", "", ""]
    confidence = "" if summary.median_confidence is None else summary.median_confidence
    return [
        job.name, "done", summary.frames,
        *(status.get(word, 0) for word in ("refined", "kept", "no_person", "failed")),
        summary.median_change_mm, confidence, *least, summary.seconds,
        " ".join(f"{job.name}/{name}" for name in summary.outputs), "",
    ]  # fmt: skip
