# SPDX-License-Identifier: Apache-2.0
"""A network between a client and a backend: cut, held up, slowed down, or out of order."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import zmq


class Network:
    """Passes bytes on from a port of its own to a backend's; any thread may change how."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        """How long every piece is held up."""
        self.bytes_per_s = 0.0
        """How much gets through; 0: everything."""
        self.is_swallowing = False
        """Whether bytes vanish while connections stay, as behind a router without power."""
        self.swaps: dict[str, int] = {"there": 0, "back": 0}
        """How many of the next pieces to the backend, and from it, change places within."""
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
            for source, target, way in ((near, far, "there"), (far, near, "back")):
                arguments = (source, target, way)
                threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                if self.delay_s:
                    time.sleep(self.delay_s)
                if self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
                if self.swaps[way] and len(data) >= 8:
                    self.swaps[way] -= 1
                    third = len(data) // 3
                    data = data[:third] + data[2 * third :] + data[third : 2 * third]
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


class Post:
    """Carries whole messages between clients and a backend, those of one moment in any order."""

    def __init__(self, address: str, seed: int) -> None:
        self._dice = random.Random(seed)
        self._context = zmq.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self.address = f"tcp://127.0.0.1:{self._front.bind_to_random_port('tcp://127.0.0.1')}"
        self._backend = address
        self._lines: dict[bytes, zmq.Socket] = {}
        self._is_closed = False
        self.exchanged = 0
        """Messages that went before one that had come earlier."""
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closed = True
        self._thread.join(10)
        self._context.destroy(linger=0)

    def _carry(self) -> None:
        while not self._is_closed:
            time.sleep(0.03)  # what comes meanwhile goes on together
            for identity, *parts in self._shuffled(self._front):
                if identity not in self._lines:
                    line = self._context.socket(zmq.DEALER)
                    line.connect(self._backend)
                    self._lines[identity] = line
                self._lines[identity].send_multipart(parts)
            for identity, line in self._lines.items():
                for parts in self._shuffled(line):
                    self._front.send_multipart([identity, *parts])

    def _shuffled(self, source: zmq.Socket) -> list[list[bytes]]:
        arrived = []
        with contextlib.suppress(zmq.Again):
            while True:
                arrived.append(source.recv_multipart(zmq.NOBLOCK))
        order = list(range(len(arrived)))
        self._dice.shuffle(order)
        self.exchanged += sum(b < a for a, b in zip(order, order[1:], strict=False))
        return [arrived[k] for k in order]


@contextlib.contextmanager
def post_before(address: str, seed: int) -> Iterator[Post]:
    """A post before a backend's address."""
    post = Post(address, seed)
    try:
        yield post
    finally:
        post.close()
