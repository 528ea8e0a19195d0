# SPDX-License-Identifier: Apache-2.0
"""Events on their way from a client's worker thread to whoever asks for them.

Progress that nobody has taken yet is replaced by newer progress of the same job, so that an
unattended inbox does not grow without end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..messages import Progress


class Inbox:
    """Events in order; any thread may put, look and take."""

    def __init__(self) -> None:
        self._events: deque[Any] = deque()
        self._changed = threading.Condition()

    def put(self, event: Any) -> None:
        """Add an event and wake those who wait."""
        with self._changed:
            if isinstance(event, Progress):
                self._events = deque(
                    kept
                    for kept in self._events
                    if not (isinstance(kept, Progress) and kept.job == event.job)
                )
            self._events.append(event)
            self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait look again, as when the connection's state has changed."""
        with self._changed:
            self._changed.notify_all()

    def take_all(self) -> list[Any]:
        """Everything that has arrived, oldest first."""
        with self._changed:
            events = list(self._events)
            self._events.clear()
            return events

    def take_first(
        self, matches: Callable[[Any], bool], deadline: float, give_up: Callable[[], bool]
    ) -> Any | None:
        """The oldest event that matches, waiting for it until a deadline.

        Args:
            matches: tells the wanted events.
            deadline: `time.monotonic()` at which waiting ends.
            give_up: asked after every wake-up; true ends the waiting.

        Returns:
            The event, or None when the deadline has come or `give_up` said so.
        """
        with self._changed:
            while True:
                for position, event in enumerate(self._events):
                    if matches(event):
                        del self._events[position]
                        return event
                remaining = deadline - time.monotonic()
                if remaining <= 0 or give_up():
                    return None
                self._changed.wait(min(remaining, 1.0))
