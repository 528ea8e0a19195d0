# SPDX-License-Identifier: Apache-2.0
"""When a process that stands by is started: not before the workers run, not without end, and not
on a machine that is short of memory.

A standby has loaded what a worker loads and waits without a job; when a worker dies or is killed,
it takes its place at once (`Supervisor`). On a GPU it has not touched the device.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from .workers import Worker

__all__ = ["has_memory_to_spare", "may_start", "pause_after_death"]

logger = logging.getLogger(__name__)

PAUSE_LIMIT_S = 300.0
"""Longest pause before another standby is started."""
BUSY_GRACE_S = 30.0
"""Time after its start in which a worker that is busy need not share the machine with a standby
that loads."""
MEMORY_TO_SPARE = 2 << 30
"""Free memory, bytes, without which no standby is started; one takes a seventh of it."""
LOOK_AGAIN_S = 60.0
"""Pause after which a machine that was short of memory is looked at again."""


def pause_after_death(pause_s: float, deaths_in_a_row: int) -> float:
    """How long no other standby is started after one has taken a worker's place, or has died.

    Args:
        pause_s: the shortest one, seconds.
        deaths_in_a_row: processes that ended without a job having come to its end in between: a
            job that kills whatever runs it does not use up one standby after the other.
    """
    return min(pause_s * 2 ** min(max(deaths_in_a_row - 1, 0), 10), PAUSE_LIMIT_S)


def may_start(standby: Worker, workers: Sequence[Worker], pause_s: float, now: float) -> bool:
    """Whether this standby's process may be started now; moves its time if it may not.

    Args:
        standby: which has no process.
        workers: all of the backend.
        pause_s: how long the workers of its device must have been ready.
        now: by the monotonic clock, seconds.
    """
    if now < standby.start_again_at:
        return False
    served = [worker for worker in workers if worker.device == standby.device]
    if any(_needs_the_machine(worker, now) for worker in served):
        standby.start_again_at = now + pause_s
        return False
    if not has_memory_to_spare():
        if not standby.last_words:
            logger.warning("no standby for %s: less than 2 GiB of memory are free", standby.device)
        standby.last_words = "less than 2 GiB of memory are free"
        standby.start_again_at = now + LOOK_AGAIN_S
        return False
    return True


def _needs_the_machine(worker: Worker, now: float) -> bool:
    """Whether a worker is on its way, or at a job that somebody may have waited for meanwhile."""
    is_new = now - worker.started_at < BUSY_GRACE_S
    return worker.state in ("starting", "down") or (worker.state == "busy" and is_new)


def has_memory_to_spare() -> bool:
    """Whether the machine has room for a process that only waits; true where nobody tells."""
    if sys.platform != "linux":
        return True
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 >= MEMORY_TO_SPARE
    return True
