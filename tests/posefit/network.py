# SPDX-License-Identifier: Apache-2.0
"""A network between a client and a backend that can be cut, held up, slowed down and garbled."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


class Network:
    """Passes bytes on from a port of its own to a backend's; any thread may change how."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        """How long every piece is held up."""
        self.bytes_per_s = 0.0
        """How much gets through; 0: everything."""
        self.is_swallowing = False
        """Whether bytes vanish while connections stay, as behind a router without power."""
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._is_up = True
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection and take no new ones."""
        self._is_up = False
        for pair in self._pairs:
            for one in pair:
                _hang_up(one)
        self._pairs.clear()

    def mend(self) -> None:
        """Take connections again."""
        self._is_up, self.is_swallowing = True, False

    def close(self) -> None:
        self._is_closed = True
        self.cut()
        _hang_up(self._listener)

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._is_up:
                _hang_up(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._port))
            except OSError:  # the backend is away
                _hang_up(near)
                continue
            self._pairs.append((near, far))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                if self.delay_s:
                    time.sleep(self.delay_s)
                if self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
                if not self.is_swallowing:
                    target.sendall(data)
        _hang_up(source)
        _hang_up(target)


def _hang_up(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextlib.contextmanager
def network_before(port: int) -> Iterator[Network]:
    """A network before a backend's port."""
    network = Network(port)
    try:
        yield network
    finally:
        network.close()
