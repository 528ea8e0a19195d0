# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a job will still take: as the backend says, or worked out from how far it has come."""

from __future__ import annotations

LEAST_FRACTION = 0.01
"""Less than this says nothing yet about the rest."""


class TimeLeft:
    """The time that is left of one job; counts down between reports."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._ends_at: float | None = None

    def report(self, now: float, fraction: float, eta_s: float | None = None) -> None:
        """Take in how far the job is.

        Args:
            now: the time of the report, seconds of any clock that runs evenly.
            fraction: how much is done, 0 to 1.
            eta_s: what the backend expects to be left; none: it is worked out here.
        """
        if self._first is None:
            self._first = (now, fraction)
        if eta_s is None:
            began, before = self._first
            done = fraction - before
            if done < LEAST_FRACTION:
                return
            eta_s = (now - began) * (1 - fraction) / done
        self._ends_at = now + max(eta_s, 0.0)

    def seconds(self, now: float) -> float | None:
        """Seconds that are left; none where nothing is known."""
        return None if self._ends_at is None else max(self._ends_at - now, 0.0)


def duration_words(seconds: float) -> str:
    """A length of time as people say it: `8 s`, `3 min`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds < 59.5 else "1 min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
