# SPDX-License-Identifier: Apache-2.0
"""A place where jobs run, or a process that stands by: what the broker knows of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..child_processes import ChildProcess
from .schedule import Job

__all__ = ["Worker"]


@dataclass(eq=False)
class Worker:
    """One place where jobs run, whichever process fills it just now; or one that stands by."""

    device: str
    is_standby: bool = False
    """Whether its processes wait, loaded, to take a dead worker's place; they get no jobs."""
    token: str = ""
    process: ChildProcess | None = None
    identity: bytes | None = None
    state: Literal["down", "starting", "idle", "busy"] = "down"
    """A standby that is `idle` has loaded everything."""
    is_to_take_over: bool = False
    """Whether its process was a standby that has not been told yet that it is a worker now."""
    job: Job | None = None
    description: str = ""
    models: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    signs: int = 0
    started_at: float = 0.0
    heard_at: float = 0.0
    sign_at: float = 0.0
    """When its job last gave a sign."""
    assigned_at: float = 0.0
    start_again_at: float = 0.0
    failed_starts: int = 0
    """Processes in a row that ended before they could work."""
    deaths_in_a_row: int = 0
    """Processes that ended since a job last came to its end here."""
    died_without_job: bool = False
    """Whether its last process ended when it had none, perhaps of its rehearsal."""
    folder: Path = Path(os.devnull)
    """For its process's temporary files; goes with the process."""
    last_words: str = ""
    """Why its last process ended, for people."""

    def take_process_of(self, standby: Worker, now: float) -> None:
        """Go on with the process of a standby, which is left without one.

        Args:
            standby: of the same device; its process runs.
            now: by the monotonic clock, seconds.
        """
        self.token, self.process, self.identity = standby.token, standby.process, standby.identity
        self.folder, self.heard_at, self.signs = standby.folder, standby.heard_at, 0
        self.state, self.started_at, self.is_to_take_over = "starting", now, True
        standby.token, standby.process, standby.identity = "", None, None
        standby.state, standby.failed_starts = "down", 0
