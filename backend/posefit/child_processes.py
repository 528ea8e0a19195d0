# SPDX-License-Identifier: Apache-2.0
"""How child processes are ended, and what is said of those that ended by themselves."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import IO, Protocol

__all__ = ["ChildProcess", "die_with_parent", "kill_process", "words_for_exit"]

PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the signal that this process gets when its parent dies."""


class ChildProcess(Protocol):
    """What is needed of `subprocess.Popen`, whoever started the process."""

    @property
    def pid(self) -> int:
        """The process."""
        ...

    @property
    def stdin(self) -> IO[bytes] | None:
        """Its standard input, if that is a pipe."""
        ...

    def poll(self) -> int | None:
        """Its exit status, once it has ended; negative for a signal."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """The same, after waiting."""
        ...


def die_with_parent(parent: int) -> None:
    """Ask Linux to end this process with its parent; elsewhere standard input tells."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(3)  # it died before the request


def kill_process(process: ChildProcess | None) -> None:
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
