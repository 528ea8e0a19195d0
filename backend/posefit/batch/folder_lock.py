# SPDX-License-Identifier: Apache-2.0
"""A lock on a folder, held by the operating system: it ends with the process, however that ends.

The file stays where it is; what counts is whether somebody holds it. What lies in it says who.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from .jobs import BatchError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["FolderLock"]

logger = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_LOCKED_BYTE = 1 << 20
"""Which byte is locked on Windows, beyond the words, so that others can read those."""


class FolderLock:
    """The lock, taken.

    Args:
        path: the lock's file.

    Raises:
        BatchError: another batch holds it.
    """

    def __init__(self, path: Path) -> None:
        handle = path.open("a+b")  # not inherited by the processes that are started
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                logger.warning(
                    "%s cannot be locked on this file system: see to it that one batch alone "
                    "writes there", path.parent,
                )  # fmt: skip
            else:
                holder = _words(handle)
                handle.close()
                raise BatchError(
                    f"another batch{holder} is writing to {path.parent.parent}: wait for it, stop "
                    "it, or choose another --output"
                ) from error
        if before := _words(handle):
            logger.info("going on after the batch%s, which did not end by itself", before)
        handle.truncate(0)
        record = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}
        handle.write(json.dumps(record).encode())
        handle.flush()
        self._handle = handle

    def release(self) -> None:
        """Let others have the folder."""
        if not self._handle.closed:
            self._handle.truncate(0)
            self._handle.close()


def _lock(handle: Any) -> None:
    if sys.platform == "win32":
        handle.seek(_LOCKED_BYTE)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _words(handle: Any) -> str:
    """Who wrote themselves into the lock; empty where nobody did."""
    handle.seek(0)
    try:
        record = json.loads(handle.read(4096))
        return f" (process {record['pid']} on {record['host']} since {record['since']})"
    except (ValueError, KeyError, TypeError, OSError):
        return ""
