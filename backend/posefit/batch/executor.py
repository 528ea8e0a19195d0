# SPDX-License-Identifier: Apache-2.0
"""What a batch wants of whatever runs its jobs: processes of this machine, or a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from .jobs import Job

__all__ = ["Event", "Executor", "Failed", "Finished", "Progress"]


@dataclass(frozen=True)
class Progress:
    """A job goes on."""

    name: str
    """Of the job."""
    fraction: float
    """0 to 1."""
    stage: str
    """What is being done."""


@dataclass(frozen=True)
class Finished:
    """A job's folder holds its whole result."""

    name: str
    """Of the job."""


@dataclass(frozen=True)
class Failed:
    """A job has ended without a result."""

    name: str
    """Of the job."""
    kind: Literal["refused", "broke", "lost", "disk"]
    """`refused` would be refused again; `broke` may go well the next time; `lost` with its machine,
    which says nothing of the job; `disk`: no room."""
    words: str
    """Why."""


Event = Progress | Finished | Failed


class Executor(Protocol):
    """Runs jobs; used by one thread."""

    @property
    def slots(self) -> int:
        """How many jobs may be under way at once."""
        ...

    def submit(self, job: Job, folder: Path, fingerprint: str, log: Path, kept: Path) -> None:
        """Begin a job whose result goes to `folder`.

        Args:
            job: what.
            folder: empty.
            fingerprint: goes into the result.
            log: where its messages go.
            kept: folder for what it has done so far (`checkpoint`), which outlives a kill.
        """
        ...

    def events(self, timeout_s: float) -> list[Event]:
        """What has happened since, waiting for it if need be; each job ends in one event."""
        ...

    def close(self) -> None:
        """Stop everything, jobs under way too."""
        ...
