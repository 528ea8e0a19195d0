# SPDX-License-Identifier: Apache-2.0
"""The broker's end of the line to its keeper, and the processes that are the keeper's children."""

from __future__ import annotations

import array
import io
import json
import logging
import os
import select
import socket as sockets
import subprocess
import time
from typing import Any

from .keeper import DATAGRAM_BYTES

__all__ = ["KeeperLine", "KeptProcess"]

logger = logging.getLogger(__name__)

ANSWER_S = 5.0
"""Longest wait for the keeper, which has nothing else to do."""
_MOST_FILES = 64


class KeptProcess:
    """A process that the keeper has started, as far as `subprocess.Popen` is needed here."""

    def __init__(self, line: KeeperLine, pid: int, stdin: int) -> None:
        """Nothing is said yet.

        Args:
            line: where its end is told.
            pid: the process; it leads a process group of its own.
            stdin: the writing end of its standard input, which is closed with this.
        """
        self.pid, self.returncode = pid, None
        self.stdin = io.FileIO(stdin, "wb")
        self._line = line

    def poll(self) -> int | None:
        """Its exit status, once it has ended."""
        if self.returncode is None:
            self._line.hear()
            self.returncode = self._line.ended.pop(self.pid, None)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        deadline = time.monotonic() + (ANSWER_S if timeout is None else timeout)
        while (status := self.poll()) is None:
            if not self._line.hear(max(0.0, deadline - time.monotonic())):
                raise subprocess.TimeoutExpired("worker", timeout or ANSWER_S)
        return status


class KeeperLine:
    """What a broker says to its keeper and hears of it; used by the broker's thread only."""

    def __init__(self, socket: sockets.socket) -> None:
        """Take what the keeper says first.

        Args:
            socket: to the keeper, connected.
        """
        self._socket = socket
        self.ended: dict[int, int] = {}
        """Exit statuses that nobody has asked for yet."""
        words, files = self._receive()
        self.config: dict[str, Any] = words["config"]
        self.remembered: dict[str, Any] = words["remembered"]
        self.keeper: int = words["keeper"]
        """Its process."""
        pairs = zip(words["spares"], files, strict=True)
        self.spares = [KeptProcess(self, pid, file) for pid, file in pairs]
        """Processes that have begun already and wait for work; the last is to be taken first."""
        socket.settimeout(ANSWER_S)

    def give_sign(self) -> None:
        """Say that this broker lives."""
        self._say({"do": "sign"})

    def remember(self, **what: Any) -> None:
        """Let the next broker know, in `remembered`."""
        self._say({"do": "remember", "what": what})

    def start(self) -> KeptProcess:
        """A new process that outlives this broker until it is released.

        Raises:
            OSError: it cannot be started.
        """
        self._say({"do": "start"})
        deadline = time.monotonic() + ANSWER_S
        while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            words, files = self._receive()
            if "started" in words:
                return KeptProcess(self, words["started"], files[0])
            if "refused" in words:
                raise OSError(0, words["refused"])
            self._note(words)
        raise OSError(0, "the keeper does not answer")

    def release(self, process: Any) -> None:
        """A process, if it is a kept one, is a worker from now on and ends with this broker."""
        if isinstance(process, KeptProcess):
            self._say({"do": "release", "pid": process.pid})

    def hear(self, patience_s: float = 0.0) -> bool:
        """Take in what the keeper has said; whether that was anything."""
        has_heard = False
        while select.select([self._socket], [], [], 0.0 if has_heard else patience_s)[0]:
            words, _ = self._receive()
            self._note(words)
            has_heard = True
        return has_heard

    def _note(self, words: dict[str, Any]) -> None:
        if "ended" in words:
            self.ended[words["ended"]] = words["status"]

    def _say(self, words: dict[str, Any]) -> None:
        try:
            self._socket.send(json.dumps(words).encode())
        except OSError as error:  # it is dead, and so will this process be
            logger.error("the keeper cannot be reached: %s", error)

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        files = array.array("i")
        room = sockets.CMSG_SPACE(_MOST_FILES * files.itemsize)
        data, passed, _, _ = self._socket.recvmsg(DATAGRAM_BYTES, room)
        for level, kind, content in passed:
            if (level, kind) == (sockets.SOL_SOCKET, sockets.SCM_RIGHTS):
                files.frombytes(content[: len(content) - len(content) % files.itemsize])
        for file in files:
            os.set_inheritable(file, False)
        return json.loads(data), files.tolist()
