# SPDX-License-Identifier: Apache-2.0
"""Jobs, and which of them runs next.

A job of a more urgent class goes first, so an artist's frame overtakes a batch; only a class that
has had no turn for `STARVED_S` gets one in between. Within a class sessions take turns, so nobody
waits for another's hundred jobs; within a session jobs keep their order.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from posefit_shared.messages import PRIORITIES, Priority

__all__ = ["Job", "KeptResult", "Schedule"]

STARVED_S = 600.0
"""How long more urgent jobs may keep a whole class waiting."""
REMEMBERED_TURNS = 1000
"""Sessions whose last turn is remembered; the longest ago are forgotten first."""


@dataclass(eq=False)
class KeptResult:
    """A result until its client has acknowledged it."""

    revision: int
    is_final: bool
    parts: list[Any]
    size: int
    is_sent: bool = False


@dataclass(eq=False)
class Job:
    """One job from its submission until its client has everything."""

    job: str
    session: str
    kind: str
    priority: Priority
    parts: list[Any]
    """The client's `Submit` as it came, passed on to the worker untouched."""
    size: int
    """Bytes of `parts`."""
    content_hashes: tuple[str, ...] = ()
    attempts: int = 0
    next_revision: int = 0
    cancelled_at: float | None = None
    submitted_at: float = field(default_factory=time.monotonic)
    results: OrderedDict[int, KeptResult] = field(default_factory=OrderedDict)
    end: Any = None
    """`Failure` or `Cancelled`, until it is acknowledged."""
    end_is_sent: bool = False
    is_ended: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether the client has everything, so that the job can be forgotten."""
        return self.is_ended and not self.results and self.end is None


class Schedule:
    """Jobs that wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing waits yet.

        Args:
            clock: seconds; tests have their own.
        """
        self._clock = clock
        self._served_at: dict[str, float] = {priority: -math.inf for priority in PRIORITIES}
        """When a class last had a turn, or began to wait."""
        self._classes: dict[str, OrderedDict[str, deque[Job]]] = {
            priority: OrderedDict() for priority in PRIORITIES
        }
        self._last_turns: dict[str, int] = {}
        """When each session last had its turn, counted in turns."""

    def __len__(self) -> int:
        return sum(len(jobs) for turns in self._classes.values() for jobs in turns.values())

    def counts(self) -> dict[str, int]:
        """Jobs that wait, by priority."""
        return {
            priority: sum(len(jobs) for jobs in turns.values())
            for priority, turns in self._classes.items()
        }

    def add(self, job: Job, *, first: bool = False) -> None:
        """Let a job wait; `first` puts it ahead of its session's others (after a failed try)."""
        turns = self._classes[job.priority]
        if not turns:
            self._served_at[job.priority] = self._clock()
        jobs = turns.setdefault(job.session, deque())
        jobs.appendleft(job) if first else jobs.append(job)

    def remove(self, job: Job) -> bool:
        """Take a job out; false if it did not wait."""
        turns = self._classes[job.priority]
        jobs = turns.get(job.session, deque())
        if job not in jobs:
            return False
        jobs.remove(job)
        if not jobs:
            del turns[job.session]
        return True

    def take(self) -> Job | None:
        """The job that runs next, or None: of the session that has waited longest for a turn."""
        now = self._clock()
        waiting = [priority for priority, turns in self._classes.items() if turns]
        if not waiting:
            return None
        starved = [one for one in waiting[1:] if now - self._served_at[one] > STARVED_S]
        priority = starved[0] if starved else waiting[0]
        self._served_at[priority] = now
        turns = self._classes[priority]
        session = min(turns, key=lambda key: self._last_turns.get(key, 0))
        job = turns[session].popleft()
        if not turns[session]:
            del turns[session]
        self._note_turn(session)
        return job

    def _note_turn(self, session: str) -> None:
        self._last_turns[session] = max(self._last_turns.values(), default=0) + 1
        if len(self._last_turns) > REMEMBERED_TURNS:
            del self._last_turns[min(self._last_turns, key=self._last_turns.__getitem__)]

    def ahead_of(self, job: Job) -> int:
        """How many waiting jobs are likely to run before this one."""
        ahead = 0
        for priority, turns in self._classes.items():
            if priority == job.priority:
                own = turns.get(job.session, deque())
                place = own.index(job) if job in own else len(own)
                others = (len(jobs) for key, jobs in turns.items() if key != job.session)
                return ahead + place + sum(min(count, place + 1) for count in others)
            ahead += sum(len(jobs) for jobs in turns.values())
        return ahead
