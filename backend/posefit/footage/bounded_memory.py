# SPDX-License-Identifier: Apache-2.0
"""How much memory FFmpeg may take for a film whose file claims whatever it likes.

A file of 3 kB whose tables speak of 89 million pictures takes 3 GB before one of them is looked
at. So while a film is opened and its packets are listed this process may not grow by more than
such a file can be worth (Linux), and nothing that FFmpeg asks for at once may be larger than the
largest picture (everywhere).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import av

from ..picture_files import MAX_PIXELS

__all__ = ["bounded_memory", "bound_single_allocations", "room_for"]

logger = logging.getLogger(__name__)

ROOM_BYTES = 512 << 20
"""For any film: a few pictures that are as large as pictures may be."""
ROOM_PER_BYTE = 64
"""And so many bytes more for each that the file has: a table's entry takes 4 there, 24 here."""
MOST_ROOM = 4 << 30
LARGEST_ALLOCATION = 4 * MAX_PIXELS + (128 << 20)
"""A picture of as many pixels as are allowed, with 4 bytes for each, and a little."""

_lock = threading.RLock()


def room_for(file_bytes: int) -> int:
    """Bytes that opening a film of this size may take."""
    return min(ROOM_BYTES + ROOM_PER_BYTE * file_bytes, MOST_ROOM)


@contextlib.contextmanager
def bounded_memory(room: int) -> Iterator[None]:
    """Within this the process has so many bytes more at most than it has now; one at a time.

    Allocations beyond fail as if memory had run out: FFmpeg and Python say so. Other threads'
    count as well. Does nothing where the system does not keep such a bound.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    with _lock:
        before, most = resource.getrlimit(resource.RLIMIT_DATA)
        bound = _data_bytes() + room
        is_lower = all(limit == resource.RLIM_INFINITY or bound < limit for limit in (before, most))
        if is_lower:
            resource.setrlimit(resource.RLIMIT_DATA, (bound, most))
        try:
            yield
        finally:
            if is_lower:
                resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def _data_bytes() -> int:
    """What counts against the bound already."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


@functools.cache
def bound_single_allocations() -> bool:
    """Let FFmpeg allocate no more at once than a picture takes; whether its library was found."""
    folder = Path(av.__file__).parent
    places = (folder.parent / "av.libs", folder / ".dylibs", folder)
    for library in (path for place in places for path in sorted(place.glob("*avutil*"))):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(str(library)).av_max_alloc(ctypes.c_size_t(LARGEST_ALLOCATION))
            return True
    logger.info("FFmpeg's library is not beside PyAV: its single allocations stay unbounded")
    return False
