# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures that came are made ready bit by bit; nothing of it is Blender's."""

from __future__ import annotations

import time
from collections.abc import Generator

from ..slices import to_end


class PictureBuild:
    """Pictures on their way to PNGs."""

    source_uids: frozenset[int] = frozenset()
    """They are made from nothing of the file."""
    is_stale = False
    """And so they hold whatever is changed in it."""

    def __init__(self, making: Generator[None, None, list[bytes]]) -> None:
        """
        Args:
            making: gives them, with pauses.
        """
        self._making = making
        self._made: list[bytes] | None = None

    def until(self, deadline: float) -> bool:
        """Make them until a time, by `time.monotonic()`; true once they were all there before."""
        if self._made is not None:
            return True
        try:
            next(self._making)
            while time.monotonic() < deadline:
                next(self._making)
        except StopIteration as done:
            self._made = done.value
        return False

    def to_end(self) -> list[bytes]:
        """All of them, made at once as far as they are missing."""
        if self._made is None:
            self._made = to_end(self._making)
        return self._made

    def drop(self) -> None:
        """Nothing is to be removed, and what is made holds on."""
