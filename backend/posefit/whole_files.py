# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, also where the process is killed or the disk is full."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under another name and moves it into place, whole or not at all.

    Args:
        path: the file.
        write: called with the path to write to.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
