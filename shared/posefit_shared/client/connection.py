# SPDX-License-Identifier: Apache-2.0
"""The client's connection, step by step: one thread makes, uses and closes its socket.

It goes from connection to connection, moves bytes between the socket and the `Conversation`, and
tells the client's `Link` how it stands. Its life is a generator that yields what it waits for, so
that a thread may wait (`run_connection`), or a host in which no second thread may run Python take a
step now and then (`Stepper`). Of this package only this module imports zmq.
"""

from __future__ import annotations

import logging
import queue
import socket as sockets
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from ..codec import CodecError, decode, encode
from ..key_files import CurveKeys
from ..messages import Failure, Message, ProtocolError, Refused, Status, Welcome
from .conversation import Conversation, PendingJob
from .state import ClientConfig, StateName

logger = logging.getLogger(__name__)


_DAMAGED = "What this client and the backend at {} say to each other arrives damaged; trying again."
MAX_BROKEN_OFF = 3
"""Handshakes without keys that are broken off in a row, before that counts as an answer; never of
a backend that has let this client in: then it is gone, and something before it answers the door."""
_WATCHED = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_CLOSED = "The backend at {} has closed the connection; trying again."
_KEYS_WANTED = (
    "The backend at {} lets in known keys only: give this client its key file (posefit keys new)."
)
_BROKEN_OFF = (
    "The backend at {} broke off the handshake; if it lets in known keys only, give this client "
    "its key file. Trying again."
)
_NO_DOWNGRADE = (
    "The backend at {} offers no encryption, and this client has keys: nothing was sent. Start it "
    "with --curve, or leave the key file out on your own machine."
)
_WRONG_KEY = (
    "The backend at {} broke off the handshake; it may not be the one that this client's key file "
    "was made for. Trying again."
)


_STEP_S = 0.02
"""How long a step goes on while there is always something to do."""


@dataclass(frozen=True)
class Stop:
    """Order to the connection to end."""

    keep_jobs: bool


@dataclass
class Link:
    """What a client and its connection share."""

    address: str
    conversation: Conversation
    """Used by the connection only, once that lives."""
    set_state: Callable[[StateName, str], None]
    keys: CurveKeys | None
    config: ClientConfig
    copies: bool = False
    """Whether large messages are copied to be sent; else pyzmq starts a thread that frees them."""
    orders: queue.Queue[Any] = field(default_factory=queue.Queue)
    """What users of the client want: `Stop`, `PendingJob`, or a function to call."""

    def __post_init__(self) -> None:
        self._bell, self.wake = sockets.socketpair()
        self._bell.setblocking(False)
        self.wake.setblocking(False)

    def order(self, wish: Any) -> None:
        """Hand something to the worker thread and wake it; for any thread."""
        self.orders.put(wish)
        try:
            self._bell.send(b"\0")
        except OSError:
            logger.debug("the worker thread has been woken already")

    def close(self) -> None:
        """Let go of the wake-up sockets, once the thread has ended."""
        self._bell.close()
        self.wake.close()


def has_encryption() -> bool:
    """Whether the ZeroMQ that this Python brings can encrypt."""
    return zmq.has("curve")


def run_connection(link: Link) -> None:
    """Body of the worker thread."""
    steps = Stepper(link)
    while not steps.has_ended:
        steps.wait()


class Stepper:
    """A connection's life, taken in steps by the thread that made this."""

    def __init__(self, link: Link) -> None:
        self._link, self._context = link, zmq.Context()
        self._life = _Connection(link, self._context).run()
        self._waiting: _Wait | None = None
        self._go_on(None)

    @property
    def has_ended(self) -> bool:
        """Whether the connection was told to stop, and has."""
        return self._waiting is None

    def wait(self, most_s: float = float("inf")) -> None:
        """Wait until there is something to do, so long at most, and do it."""
        if self._waiting is None:
            return
        left_s = min(most_s, self._waiting.until - time.monotonic())
        ms = None if left_s == float("inf") else max(0, int(1000 * left_s) + 1)
        ready = dict(self._waiting.poller.poll(ms))
        if ready or time.monotonic() >= self._waiting.until:
            self._go_on(ready)

    def step(self) -> None:
        """Do what can be done without waiting, for a bounded time."""
        end = time.monotonic() + _STEP_S
        while self._waiting is not None:
            ready = dict(self._waiting.poller.poll(0))
            if not ready and time.monotonic() < self._waiting.until:
                return
            self._go_on(ready)
            if time.monotonic() > end:
                return

    def _go_on(self, ready: _Ready | None) -> None:
        try:
            self._waiting = self._life.send(ready)
        except StopIteration:
            self._end()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._waiting = None
        self._link.conversation.lose_connection()
        self._context.destroy(linger=0)
        self._link.set_state("closed", "This client is closed.")


_Ready = dict[Any, int]
"""Which of the sockets have something."""


@dataclass(frozen=True)
class _Wait:
    """What a connection waits for."""

    poller: zmq.Poller
    until: float
    """By `time.monotonic()`; infinite: for the sockets only."""


_Waits = Generator[_Wait, Any, None]


class _Connection:
    """A connection's life: connect, talk, lose the connection, connect again."""

    def __init__(self, link: Link, context: zmq.Context) -> None:
        self._link, self._context = link, context
        self._config, self._conversation = link.config, link.conversation
        self._is_refused = False
        self._broken_off, self._was_let_in = 0, False
        self._stop: Stop | None = None
        self._retry_s = self._config.retry_s
        self._heard = self._said = 0.0

    def run(self) -> _Waits:
        """Go from connection to connection until told to stop."""
        while self._stop is None:
            socket = self._open_socket()
            monitor = socket.get_monitor_socket(_WATCHED)
            try:
                yield from self._talk(socket, monitor)
            finally:
                self._close_socket(socket, monitor)
            if self._stop is None:
                yield from self._pause()

    def _open_socket(self) -> zmq.Socket:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 64
        socket.reconnect_ivl = int(self._config.retry_s * 1000)
        socket.ipv6 = "[" in self._link.address
        keys = self._link.keys
        if keys is not None:
            socket.curve_publickey = bytes.fromhex(keys.public_key)
            socket.curve_secretkey = bytes.fromhex(keys.secret_key)
            socket.curve_serverkey = bytes.fromhex(keys.server_key)
        socket.connect(self._link.address)
        return socket

    def _close_socket(self, socket: zmq.Socket, monitor: zmq.Socket) -> None:
        if self._stop is not None and self._conversation.welcome is not None:
            self._send(socket, encode(self._conversation.goodbye(self._stop.keep_jobs)))
            socket.linger = 200  # long enough for a goodbye to a backend that is there
        self._conversation.lose_connection()
        socket.disable_monitor()
        monitor.close(linger=0)
        socket.close()

    def _pause(self) -> _Waits:
        """Wait before the next attempt; orders are still taken."""
        until = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, self._config.retry_limit_s)
        poller = zmq.Poller()
        poller.register(self._link.wake, zmq.POLLIN)
        while self._stop is None and (self._is_refused or time.monotonic() < until):
            yield _Wait(poller, float("inf") if self._is_refused else until)
            self._take_orders()

    def _talk(self, socket: zmq.Socket, monitor: zmq.Socket) -> _Waits:
        """One connection, from `Hello` until it is lost, refused or no longer wanted."""
        poller = zmq.Poller()
        for source in (socket, monitor, self._link.wake):
            poller.register(source, zmq.POLLIN)
        self._heard = self._said = time.monotonic()
        self._send(socket, encode(self._conversation.hello()))
        while self._stop is None:
            ready = yield _Wait(poller, time.monotonic() + self._patience_s())
            self._take_orders()
            if socket in ready and not self._receive(socket):
                return
            if monitor in ready:
                self._hear_of_connection(monitor)
                return
            if self._is_silent():
                return
            self._speak(socket)

    def _patience_s(self) -> float:
        """Until the next heartbeat or deadline."""
        welcome = self._conversation.welcome
        return (min(welcome.heartbeat_s, 1.0) if welcome else 0.25) / 2

    def _hear_of_connection(self, monitor: zmq.Socket) -> None:
        """Say why the connection broke or never came into being."""
        event = recv_monitor_message(monitor, flags=zmq.NOBLOCK)
        has_keys = self._link.keys is not None
        if event["event"] == zmq.EVENT_DISCONNECTED:
            self._lose(_CLOSED)
        elif event["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._give_up(
                "The backend at {} does not allow this client's key: ask its operator to "
                "(posefit keys allow)."
            )
        elif event["value"] == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            self._give_up(_NO_DOWNGRADE if has_keys else _KEYS_WANTED)
        elif has_keys:
            self._lose(_WRONG_KEY)
        else:
            # Which side notices first that only one wants keys is a matter of luck.
            self._broken_off += 1
            is_clear = self._broken_off >= MAX_BROKEN_OFF and not self._was_let_in
            words = _CLOSED if self._was_let_in else _BROKEN_OFF
            self._give_up(_KEYS_WANTED) if is_clear else self._lose(words)

    def _give_up(self, reason: str) -> None:
        """Nothing would change by trying again."""
        self._is_refused = True
        self._link.set_state("refused", reason.format(self._link.address))

    def _is_silent(self) -> bool:
        is_ready = self._conversation.welcome is not None
        limit = self._config.silence_limit_s if is_ready else self._config.hello_timeout_s
        if time.monotonic() - self._heard <= limit:
            return False
        if is_ready:
            self._lose("The backend at {} has stopped answering; trying again.")
        else:
            self._lose("No backend answers at {}: start one, or check the address.")
        return True

    def _lose(self, reason: str) -> None:
        self._link.set_state("lost", reason.format(self._link.address))

    def _take_orders(self) -> None:
        """Everything that users of the client have asked for since the last time."""
        try:
            while self._link.wake.recv(4096):
                pass
        except (BlockingIOError, OSError):
            pass  # no more wake-up bytes: what was meant
        while True:
            try:
                order = self._link.orders.get_nowait()
            except queue.Empty:
                return
            if isinstance(order, Stop):
                self._stop = order
            elif isinstance(order, PendingJob):
                self._conversation.submit(order)
            else:
                order()

    def _receive(self, socket: zmq.Socket) -> bool:
        """Take in what has arrived; false when the backend does not want to talk."""
        while True:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return True
            self._heard = time.monotonic()
            try:
                message = decode([frame.buffer for frame in frames])
            except CodecError as error:
                return self._is_damaged(str(error))
            except ProtocolError as error:
                logger.warning("an answer of the backend was dropped: %s", error)
                continue
            if isinstance(message, Refused):
                self._refuse(message)
                return False
            self._take(message)
            if isinstance(message, Failure) and message.is_about_nothing_known:
                return self._is_damaged(message.message)

    def _is_damaged(self, reason: str) -> bool:
        """Begin again on another connection, where what got lost is said again; false."""
        logger.warning("a message was damaged on its way: %s", reason)
        self._conversation.note_damage()
        self._lose(_DAMAGED)
        return False

    def _take(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self._broken_off, self._was_let_in = 0, True
            if not self._conversation.damages:
                self._retry_s = self._config.retry_s
            self._conversation.open_session(message)
        else:
            self._conversation.receive(message)
        if isinstance(message, (Welcome, Status)):
            words = f"Connected to {self._link.address} ({message.device or 'unknown'})."
            self._link.set_state("ready", words)

    def _refuse(self, message: Refused) -> None:
        self._is_refused = message.kind in ("protocol_version", "revoked")
        if self._is_refused:
            self._link.set_state("refused", message.reason)
        elif message.kind != "hello_first":
            self._link.set_state("lost", message.reason)

    def _speak(self, socket: zmq.Socket) -> None:
        """Send what may be sent, and a heartbeat when there was nothing for a while."""
        while (parts := self._conversation.next_parts()) is not None:
            if not self._send(socket, parts):
                return
        welcome = self._conversation.welcome
        if welcome is not None and time.monotonic() - self._said >= welcome.heartbeat_s:
            self._conversation.heartbeat()
            self._speak(socket)

    def _send(self, socket: zmq.Socket, parts: list[Any]) -> bool:
        try:
            socket.send_multipart(parts, zmq.NOBLOCK, copy=self._link.copies)
        except zmq.Again:
            logger.warning("a message was dropped because the connection is jammed")
            return False
        self._said = time.monotonic()
        return True
