# SPDX-License-Identifier: Apache-2.0
"""What has happened in a backend since it started, counted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Tally"]


@dataclass
class Tally:
    """What has happened since the start."""

    started_at: float = field(default_factory=time.monotonic)
    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Ended jobs by kind and outcome (`done`, `failed`, `cancelled`)."""
    job_seconds: Counter[str] = field(default_factory=Counter)
    """From submission to end, summed by kind."""
    worker_deaths: int = 0

    def ended(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a job."""
        self.jobs[kind, outcome] += 1
        self.job_seconds[kind] += seconds  # pyright: ignore[reportArgumentType]
