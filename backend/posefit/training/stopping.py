# SPDX-License-Identifier: Apache-2.0
"""Being told to stop: SIGTERM and Ctrl-C end a run after its step, so that it can save."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["StopRequest"]

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Remembers the first signal between `listen` and `forget`; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        """Signal that came, or None."""
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether the run shall end."""
        return self.signal_number is not None

    def listen(self) -> None:
        """Takes the signals from now on; only the main thread can."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        self._before = {one: signal.signal(one, self._take) for one in SIGNALS}

    def forget(self) -> None:
        """Leaves the signals to whom they belonged before."""
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
            logger.info("%s: saving and ending", signal.Signals(number).name)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
