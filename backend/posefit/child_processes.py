# SPDX-License-Identifier: Apache-2.0
"""How child processes are ended, and what is said of those that ended by themselves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

__all__ = ["kill_process", "words_for_exit"]


def kill_process(process: subprocess.Popen[Any] | None) -> None:
    """End a process and whatever it started; it must lead a process group of its own."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5.0)


def words_for_exit(status: int) -> str:
    """What to say of a process that ended by itself.

    Args:
        status: as `Popen.poll` gives it; negative for a signal.
    """
    if status == -9:
        return "the worker process was killed, perhaps because memory ran out"
    if status < 0:
        return f"the worker process crashed (signal {-status})"
    return f"the worker process exited with status {status}"
