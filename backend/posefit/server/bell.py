# SPDX-License-Identifier: Apache-2.0
"""How a broker that waits on sockets hears that it is to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket as sockets
import sys
import threading
from collections.abc import Iterator

__all__ = ["ring_at_end"]


@contextlib.contextmanager
def ring_at_end(with_stdin: bool) -> Iterator[sockets.socket]:
    """A socket that becomes readable when the process is told to end.

    Outside the main thread signals cannot be caught and do not ring.

    Args:
        with_stdin: whether the end of standard input rings as well.
    """
    ring, bell = sockets.socketpair()
    with ring, bell:
        ring.setblocking(False)
        bell.setblocking(False)
        if with_stdin:
            threading.Thread(target=_ring_with_stdin, args=(ring,), daemon=True).start()
        if threading.current_thread() is not threading.main_thread():
            yield bell
            return
        previous_fd = signal.set_wakeup_fd(ring.fileno(), warn_on_full_buffer=False)
        names = [signal.SIGINT, signal.SIGTERM]
        previous = {name: signal.signal(name, lambda *_: None) for name in names}
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(previous_fd)
            for name, handler in previous.items():
                signal.signal(name, handler)


def _ring_with_stdin(ring: sockets.socket) -> None:
    """Wait until whoever started this process closes its end, or is gone."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no stdin ends at once
        while os.read(sys.stdin.fileno(), 4096):
            pass
    with contextlib.suppress(OSError):  # the backend has ended meanwhile
        ring.send(b"\0")
