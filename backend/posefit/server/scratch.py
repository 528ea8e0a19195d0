# SPDX-License-Identifier: Apache-2.0
"""A backend's temporary folder: private, removed at the end, and swept up after a backend that was
killed before it could do so."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["scratch_folder"]

logger = logging.getLogger(__name__)

PREFIX = "posefit-backend-"


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder that only this user can read; gone when the context ends.

    Args:
        parent: where to make it; none: the system's place for temporary files.
    """
    place = parent or Path(tempfile.gettempdir())
    _sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    with (folder / "lock").open("wb") as lock:
        _take_lock(lock)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove folders whose backend does not live any more: their lock is free."""
    if sys.platform == "win32":
        return  # there an open file cannot be locked and removed in the same way
    for folder in place.glob(f"{PREFIX}*"):
        try:
            with (folder / "lock").open("rb") as lock:
                is_free = _take_lock(lock)
        except OSError:
            continue  # another user's, or one that is just being made
        if is_free:
            logger.info("removing what an earlier backend left behind at %s", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _take_lock(file: BinaryIO) -> bool:
    """Whether the lock was free; it is held until the file is closed or the process ends."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
