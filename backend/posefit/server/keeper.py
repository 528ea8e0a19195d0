# SPDX-License-Identifier: Apache-2.0
"""The process that `posefit serve` is: it starts the broker, and again when the broker dies.

It does nothing else, so that nothing it does can kill it: no clients, no ZeroMQ, no torch. It is
the parent of the processes that stand by; a broker that is killed takes its workers along, but not
these: the next broker's worker is one of them, loaded already. What a broker must not forget (its
port, the keys of this launch) is remembered here, in memory alone.

Over a socket that only the two have, the broker says in JSON, one datagram each:

    {"do": "start"}                start a process that stands by; answered by {"started": pid} with
                                   its standard input, or {"refused": words}
    {"do": "release", "pid": N}    that process is a worker now: it ends with this broker
    {"do": "remember", …}          for the next broker
    {"do": "sign"}                 it lives: said a few times within the silence that is allowed

and is told {"ended": pid, "status": N} of processes that are the keeper's children. The first
datagram to a broker is its settings, with what was remembered and the processes that wait.
"""

from __future__ import annotations

import array
import contextlib
import json
import logging
import os
import select
import signal
import socket as sockets
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..child_processes import kill_process
from ..worker.crash_report import write_crash_report
from ..worker.start import start_process
from .bell import ring_at_end

__all__ = ["can_keep", "keep"]

logger = logging.getLogger(__name__)

BROKER = "posefit.server.kept"
"""Module that runs a broker with a keeper."""
DEATHS_LIMIT = 10
"""Brokers in a row that may die young before no other is started."""
YOUNG_S = 10.0
"""A broker that lived longer does not count among them."""
PAUSE_S, PAUSE_LIMIT_S = 0.5, 30.0
"""Pause before the second broker in a row is started again, which doubles, and the longest one."""
STOP_S = 15.0
"""Time for a broker to end by itself, its workers included."""
DATAGRAM_BYTES = 65536
_MOST_FAULTS = 1 << 20
_FINAL = (0, 2)
"""Exit statuses after which another try makes no sense: it was told to end, or cannot start."""


def can_keep() -> bool:
    """Whether this system can hand an open file to another process."""
    return hasattr(sockets, "AF_UNIX") and sys.platform != "win32"


def keep(config: dict[str, Any]) -> int:
    """Run a backend until SIGTERM or SIGINT, or until its brokers die too often.

    Args:
        config: of `ServeConfig`, as `config.to_map` writes it.

    Returns:
        Exit status: 0 after an orderly end, 2 where the backend cannot start, 1 where it would not
        stay alive.
    """
    with ring_at_end(config["exit_with_stdin"]) as bell:
        before = signal.signal(signal.SIGCHLD, lambda *_: None)  # rings
        keeper = _Keeper(config, bell)
        try:
            return keeper.run()
        finally:
            signal.signal(signal.SIGCHLD, before)
            keeper.close()


@dataclass
class _Spare:
    process: subprocess.Popen[bytes]
    is_released: bool = False


@dataclass
class _Keeper:
    config: dict[str, Any]
    bell: sockets.socket
    remembered: dict[str, Any] = field(default_factory=dict)
    spares: dict[int, _Spare] = field(default_factory=dict)
    broker: subprocess.Popen[bytes] | None = None
    line: sockets.socket | None = None
    """To the broker that lives."""
    heard_at: float = 0.0
    """When the broker last gave a sign, by the monotonic clock."""
    is_to_end: bool = False

    def run(self) -> int:
        deaths = 0
        while True:
            began = time.monotonic()
            status = self._one_broker()
            if status in _FINAL or self.is_to_end:
                return max(status, 0) if status in _FINAL else 0
            deaths = deaths + 1 if time.monotonic() - began < YOUNG_S else 1
            if deaths >= DEATHS_LIMIT:
                logger.error("the broker died %d times in a row: the backend ends", deaths)
                return 1
            pause_s = 0.0 if deaths == 1 else min(PAUSE_S * 2 ** (deaths - 2), PAUSE_LIMIT_S)
            logger.error(
                "the broker has ended (%s); it is started again in %g s, and %d loaded processes "
                "wait for it", _words(status), pause_s, len(self.spares),
            )  # fmt: skip
            if self._is_told_to_end(pause_s):
                return 0

    def close(self) -> None:
        """End what is left, and remove what a killed broker could not."""
        if self.broker is not None:
            self.broker.kill()
            self.broker.wait()
        for spare in self.spares.values():
            kill_process(spare.process)
        for name in ("ready_file", "launch_keys"):
            if self.config[name] and "config" in self.remembered:  # a broker has listened
                Path(self.config[name]).unlink(missing_ok=True)

    def _one_broker(self) -> int:
        """Start a broker and wait for its end; its exit status."""
        if not self.spares:
            with contextlib.suppress(OSError):  # the broker will try as well, and say why
                self._start_spare()
        mine, its = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_DGRAM)
        with mine, its, tempfile.TemporaryFile() as faults:
            for end in (mine, its):
                end.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 4 * DATAGRAM_BYTES)
            self.broker = subprocess.Popen(
                [sys.executable, "-m", BROKER, str(its.fileno()), str(faults.fileno())],
                pass_fds=[its.fileno(), faults.fileno()], stdin=subprocess.PIPE,
            )  # fmt: skip
            its.close()
            self.line = mine
            self._say(
                {"config": {**self.config, **self.remembered.get("config", {})},
                 "remembered": self.remembered, "keeper": os.getpid(), "spares": [*self.spares]},
                [_input_of(spare.process) for spare in self.spares.values()],
            )  # fmt: skip
            mine.setblocking(False)  # a broker that is frozen must not freeze its keeper
            status = self._watch(self.broker)
            with contextlib.suppress(OSError):
                while True:  # what it has said last
                    self._hear(mine)
            self.line = None
            if status not in _FINAL and not self.is_to_end:
                faults.seek(0)
                self._report(status, faults.read(_MOST_FAULTS).decode("utf-8", "replace"))
        assert self.broker.stdin is not None
        self.broker.stdin.close()
        self.broker = None
        for spare in [one for one in self.spares.values() if one.is_released]:
            kill_process(spare.process)
        self._reap()
        return status

    def _report(self, status: int, faults: str) -> None:
        """Write down a death that nobody asked for."""
        if self.config["crash_folder"]:
            write_crash_report(
                Path(self.config["crash_folder"]), f"the broker has ended ({_words(status)})",
                kind="broker", traceback=faults,
            )  # fmt: skip

    def _watch(self, broker: subprocess.Popen[bytes]) -> int:
        """Wait until the broker has ended, and see that it does when it is to."""
        assert self.line is not None
        silence_s = float(self.config["limits"]["broker_silence_s"])
        deadline = float("inf")
        looked_at = self.heard_at = time.monotonic()
        while (status := broker.poll()) is None:
            ready, _, _ = select.select([self.bell, self.line], [], [], min(1.0, silence_s / 4))
            looked_at, before = time.monotonic(), looked_at
            if looked_at - before > silence_s / 2:
                self.heard_at = looked_at  # this process was stopped as well: no sign of anything
            if self.bell in ready and self._is_told_to_end(0.0) and deadline == float("inf"):
                deadline = looked_at + STOP_S
                broker.terminate()
            if self.line in ready:
                self._hear(self.line)
            self._reap()
            if looked_at > deadline:
                logger.warning("the broker did not end within %g s and is killed", STOP_S)
                broker.kill()
            elif looked_at - self.heard_at > silence_s and deadline == float("inf"):
                logger.error("the broker hung: no sign of it for %g s; it is killed", silence_s)
                broker.kill()
        return status

    def _is_told_to_end(self, patience_s: float) -> bool:
        """Whether it rings for the end, and not for a child's, within a time."""
        deadline = time.monotonic() + patience_s
        while select.select([self.bell], [], [], max(0.0, deadline - time.monotonic()))[0]:
            rung = self.bell.recv(4096)
            self._reap()
            if any(byte != signal.SIGCHLD for byte in rung):
                self.is_to_end = True
                break
        return self.is_to_end

    def _hear(self, line: sockets.socket) -> None:
        order = json.loads(line.recv(DATAGRAM_BYTES))
        self.heard_at = time.monotonic()
        if order["do"] == "release":
            if order["pid"] in self.spares:
                self.spares[order["pid"]].is_released = True
        elif order["do"] == "remember":
            self.remembered.update(order["what"])
        elif order["do"] == "start":
            try:
                process = self._start_spare()
            except OSError as error:
                self._say({"refused": error.strerror or "it cannot be started"})
            else:
                self._say({"started": process.pid}, [_input_of(process)])

    def _start_spare(self) -> subprocess.Popen[bytes]:
        process = start_process(self.config["handlers"].partition(":")[0])
        self.spares[process.pid] = _Spare(process)
        return process

    def _reap(self) -> None:
        """Take note of processes that have ended, and tell the broker."""
        for pid, spare in list(self.spares.items()):
            if (status := spare.process.poll()) is not None:
                del self.spares[pid]
                if spare.process.stdin is not None:
                    spare.process.stdin.close()
                self._say({"ended": pid, "status": status})

    def _say(self, words: dict[str, Any], files: list[int] | None = None) -> None:
        if self.line is None:
            return
        with contextlib.suppress(OSError):  # the broker is dead: its end is noticed elsewhere
            passed = [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, array.array("i", files or []))]
            self.line.sendmsg([json.dumps(words).encode()], passed if files else [])


def _input_of(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    return process.stdin.fileno()


def _words(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
