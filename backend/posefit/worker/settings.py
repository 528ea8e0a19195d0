# SPDX-License-Identifier: Apache-2.0
"""What a worker's process is told when it starts, as one line of JSON on its standard input."""

from __future__ import annotations

import gc
import importlib
import json
import os
import queue
import sys
import threading
from dataclasses import dataclass
from types import ModuleType

from .log_records import LogFormat

__all__ = ["WorkerSettings", "load_module", "next_settings", "read_settings"]


@dataclass(frozen=True)
class WorkerSettings:
    """What the broker writes on the worker's standard input."""

    address: str
    """Where the broker listens for workers."""
    token: str
    """Secret that proves to the broker whose worker this is."""
    device: str
    handlers: str
    """`module:function` that runs a job. The module may have `warm_up(device) -> WorkerInfo`;
    `rehearse(device, is_wanted)`, called once when there is no job yet, which leaves off when
    `is_wanted()` says that there is one; `stand_by(device) -> bool`, which loads as much as a
    standby may and says whether it has rehearsed; and `rest()`, which is called when nothing was to
    be done for a while."""
    content_folder: str
    own_folder: str
    """For temporary files; made and removed by the broker."""
    media_roots: list[str]
    heartbeat_s: float
    broker_silence_s: float
    """Silence of the broker after which the worker exits."""
    parent_pid: int
    """Of this process: the broker, or its keeper."""
    is_standby: bool
    """Whether to wait, loaded, until the broker says that a worker is needed."""
    is_to_rehearse: bool
    log_level: int
    log_format: LogFormat = "text"
    crash_folder: str = ""
    """Where reports of unexpected errors go; empty: nowhere."""


def read_settings(preload: str = "") -> WorkerSettings:
    """What the broker has written, once it has.

    Args:
        preload: module to import while waiting.
    """
    line = _read_line_while_loading(preload) if preload else _read_line()
    return WorkerSettings(**json.loads(line))


def next_settings() -> WorkerSettings | None:
    """What another broker writes, if one does, after the first is gone; None at the end."""
    line = _read_line()
    return WorkerSettings(**json.loads(line)) if line.endswith(b"\n") else None


def _read_line() -> bytes:
    """The first line of standard input, read unbuffered: the thread that waits for its end must not
    hold a lock that the interpreter wants at its own end."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(sys.stdin.fileno(), 1)):
        line += byte
    return line


def _read_line_while_loading(module: str) -> bytes:
    """As `_read_line`, for a process that was started before there was anything to read."""
    received: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        line = _read_line()
        if not line:
            os._exit(3)  # whoever started this process is gone, or has no use for it
        received.put(line)

    threading.Thread(target=read, daemon=True).start()
    load_module(module)
    return received.get()


def load_module(module: str) -> ModuleType:
    """Import a module that brings torch along."""
    gc.disable()  # it would look through all of torch again and again: a tenth of the start
    return importlib.import_module(module)
