# SPDX-License-Identifier: Apache-2.0
"""The client of a backend: submit, poll, cancel; no call but `wait` and `close` ever blocks.

One worker thread owns the socket, which is made and closed there. What the user of the client wants
crosses to it in a `queue.Queue`, what the backend answers comes back in an `Inbox`. The thread
connects again by itself; `conversation` decides what is said. Only this module of the package
imports zmq.

    with Client("tcp://127.0.0.1:5557") as client:
        job = client.submit(request)
        result = client.wait(job, timeout_s=600)
"""

from __future__ import annotations

import logging
import os
import queue
import socket as sockets
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import __version__
from .addresses import check_address
from .codec import CodecError, decode, encode
from .content import ContentKind, read_content
from .conversation import Conversation, PendingJob
from .inbox import Inbox
from .messages import (
    Cancelled,
    Failure,
    Message,
    Priority,
    Progress,
    ProtocolError,
    Refused,
    Request,
    Result,
    Submit,
    Welcome,
)

__all__ = [
    "BackendError", "BackendTimeout", "BackendUnavailable", "Client", "ClientConfig",
    "ConnectionState", "CurveKeys", "JobFailed", "StateChanged",
]  # fmt: skip

logger = logging.getLogger(__name__)

StateName = Literal["connecting", "ready", "lost", "refused", "closed"]


class BackendError(RuntimeError):
    """Something about the backend that the user can act on; the text is a plain sentence."""


class BackendUnavailable(BackendError):  # noqa: N818  # the project's name for it
    """There is no backend to talk to."""


class BackendTimeout(BackendError):  # noqa: N818  # the project's name for it
    """The backend did not finish in the time given."""


class JobFailed(BackendError):  # noqa: N818  # the project's name for it
    """A job ended without a result."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        """`cancelled`, or the failure's kind as the backend named it."""


@dataclass(frozen=True)
class CurveKeys:
    """Keys of both ends for an encrypted connection, each 40 characters of Z85."""

    public_key: str
    secret_key: str
    server_key: str


@dataclass(frozen=True)
class ConnectionState:
    """Where the connection stands."""

    name: StateName
    reason: str
    """In words for people."""


@dataclass(frozen=True)
class StateChanged:
    """Event: the connection is not what it was."""

    state: ConnectionState


@dataclass(frozen=True)
class ClientConfig:
    """Times of a client, seconds."""

    hello_timeout_s: float = 3.0
    """Silence after `Hello` that counts as no backend."""
    silence_limit_s: float = 10.0
    """Silence of a backend that counts as lost."""
    retry_s: float = 0.25
    """Pause before connecting again; doubles up to `retry_limit_s`."""
    retry_limit_s: float = 4.0
    lost_limit_s: float = 20.0
    """How long `wait` goes on without a connection before it gives up."""


@dataclass(frozen=True)
class _Stop:
    """Order to the worker thread to end."""

    keep_jobs: bool


class Client:
    """One connection to one backend; any thread of the process that made it may use it."""

    def __init__(
        self,
        address: str,
        *,
        curve_keys: CurveKeys | None = None,
        name: str = "client",
        session: str | None = None,
        config: ClientConfig = ClientConfig(),  # noqa: B008  # frozen
    ) -> None:
        """Prepare a client; nothing happens before `start`.

        Args:
            address: where the backend listens, `tcp://127.0.0.1:5557`.
            curve_keys: keys for an encrypted connection; without them only loopback is allowed.
            name: what this client calls itself in the backend's log.
            session: token of an earlier session whose jobs should be found again.
            config: time limits.

        Raises:
            AddressError: the address is malformed or needs keys.
        """
        self.address = check_address(address, has_keys=curve_keys is not None)
        self._inbox = Inbox()
        self._commands: queue.Queue[Any] = queue.Queue()
        self._state = ConnectionState("connecting", f"Connecting to {address}.")
        self._lost_since = time.monotonic()
        self._process = os.getpid()
        self._config = config
        self._wake_in, self._wake_out = sockets.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._conversation = Conversation(name, __version__, session, self._inbox.put)
        self._keys = curve_keys
        self._thread = threading.Thread(target=self._run, name="posefit-client", daemon=True)
        self._is_started, self._is_closed = False, False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands, and why in plain words."""
        return self._state

    @property
    def welcome(self) -> Welcome | None:
        """What the backend said of itself, while there is a connection."""
        return self._conversation.welcome

    @property
    def session(self) -> str | None:
        """Token that finds this client's jobs again; keep it secret."""
        return self._conversation.session

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._check_usable()
        if not self._is_started:
            self._is_started = True
            self._thread.start()

    def close(self, timeout: float = 2.0, *, keep_jobs: bool = False) -> None:
        """Leave the backend and stop the worker thread; never blocks longer than `timeout`.

        Args:
            timeout: seconds to wait for the thread.
            keep_jobs: let unfinished jobs run on, to be found through `session`.
        """
        if self._is_closed or os.getpid() != self._process:
            return
        self._is_closed = True
        if self._is_started:
            self._order(_Stop(keep_jobs))
            self._thread.join(timeout)
            if self._thread.is_alive():
                logger.warning("the client's thread has not ended within %.1f s", timeout)
                return
        self._state = ConnectionState("closed", "This client is closed.")
        self._wake_in.close()
        self._wake_out.close()

    def submit(self, request: Request, priority: Priority = "normal") -> str:
        """Hand over a job; it is sent as soon as the backend is there and has what it needs.

        Args:
            request: one of the request records of `messages`.
            priority: `interactive`, `normal` or `batch`.

        Returns:
            The id under which events of this job come back.

        Raises:
            BackendUnavailable: the backend has refused this client, or the client is closed.
            CodecError: the request is larger than the backend accepts.
        """
        self._check_usable()
        if self._state.name == "refused":
            raise BackendUnavailable(self._state.reason)
        job_id = uuid.uuid4().hex
        welcome = self.welcome
        message = Submit(job_id, request, priority)
        parts = encode(message, welcome.limits) if welcome else encode(message)
        self._order(PendingJob(job_id, parts, request.content_hashes()))
        return job_id

    def cancel(self, job_id: str) -> None:
        """Ask for a job to be stopped; `Cancelled` comes back as an event."""
        self._check_usable()
        self._order(lambda: self._conversation.cancel(job_id))

    def upload(self, source: bytes | str | Path, kind: ContentKind = "media") -> str:
        """Make a content known to the backend; it travels only if the backend lacks it.

        Jobs that name the hash wait for it by themselves. Files are read here once to hash them.

        Args:
            source: the bytes, or the path of a file, which must not change while it is in use.
            kind: what it is, for people.

        Returns:
            The content hash to put into requests.

        Raises:
            BackendError: the file cannot be read.
        """
        self._check_usable()
        try:
            content = read_content(source, kind)
        except OSError as error:
            raise BackendError(
                f"cannot read {source!s} ({error.strerror or error}): check the path"
            ) from error
        self._order(lambda: self._conversation.upload(content))
        return content.content_hash

    def poll(self) -> list[Any]:
        """Events since the last call, oldest first; never blocks.

        They are `StateChanged` and the messages `Accepted`, `Progress`, `Result`, `Failure`,
        `Cancelled` and `Stored`.
        """
        events = self._inbox.take_all()
        for event in events:
            self._acknowledge(event)
        return events

    def wait_ready(self, timeout_s: float = 10.0) -> Welcome:
        """What the backend says of itself, once it is there.

        Raises:
            BackendUnavailable: it was not there in time, or has refused this client.
        """
        deadline = time.monotonic() + timeout_s
        self._inbox.take_first(
            lambda _: False, deadline, lambda: self._state.name in ("ready", "refused", "closed")
        )
        welcome = self.welcome
        if self._state.name != "ready" or welcome is None:
            raise BackendUnavailable(self._state.reason)
        return welcome

    def wait(
        self,
        job_id: str,
        timeout_s: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Result:
        """The final result of a job, waiting for it; for programs without a loop of their own.

        Args:
            job_id: as `submit` gave it.
            timeout_s: longest time to wait; None waits while the backend is there.
            on_progress: called in this thread with each progress report.

        Raises:
            BackendTimeout: the time is over; the job goes on until it is cancelled.
            BackendUnavailable: the backend is gone for longer than `lost_limit_s`.
            JobFailed: the job failed or was cancelled.
        """
        deadline = time.monotonic() + (timeout_s if timeout_s is not None else 1e9)
        while True:
            event = self._inbox.take_first(
                lambda event: getattr(event, "job", None) == job_id, deadline, self._is_hopeless
            )
            if event is None:
                self._raise_for_waiting(timeout_s)
            self._acknowledge(event)
            if isinstance(event, Result) and event.final:
                return event
            if isinstance(event, Failure):
                raise JobFailed(event.kind, event.message)
            if isinstance(event, Cancelled):
                raise JobFailed("cancelled", "the job was cancelled")
            if isinstance(event, Progress) and on_progress is not None:
                on_progress(event)

    def _raise_for_waiting(self, timeout_s: float | None) -> None:
        if self._is_hopeless():
            raise BackendUnavailable(self._state.reason)
        raise BackendTimeout(
            f"the job did not finish within {timeout_s:g} s: wait longer, or cancel it"
        )

    def _is_hopeless(self) -> bool:
        """Whether waiting for an answer makes no sense any more."""
        if self._state.name in ("refused", "closed"):
            return True
        lost_s = time.monotonic() - self._lost_since
        return self._state.name != "ready" and lost_s > self._config.lost_limit_s

    def _acknowledge(self, event: Any) -> None:
        if isinstance(event, Result) and not self._is_closed:
            self._order(lambda: self._conversation.acknowledge(event))

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise BackendUnavailable(
                "this client belongs to another process: make a new one after a fork"
            )
        if self._is_closed:
            raise BackendUnavailable("this client is closed: make a new one")

    def _order(self, command: Any) -> None:
        """Hand something to the worker thread and wake it."""
        self._commands.put(command)
        try:
            self._wake_in.send(b"\0")
        except (BlockingIOError, OSError):
            logger.debug("the worker thread has been woken already")

    # The worker thread

    def _set_state(self, name: StateName, reason: str) -> None:
        if name != "ready" and self._state.name == "ready":
            self._lost_since = time.monotonic()
        changed = (name, reason) != (self._state.name, self._state.reason)
        self._state = ConnectionState(name, reason)
        if changed:
            self._inbox.put(StateChanged(self._state))
        self._inbox.wake()

    def _run(self) -> None:
        context = zmq.Context()
        try:
            _Connection(self, context).run()
        finally:
            self._conversation.lose_connection()
            context.destroy(linger=0)
            self._set_state("closed", "This client is closed.")


class _Connection:
    """The worker thread's life: connect, talk, lose the connection, connect again."""

    def __init__(self, client: Client, context: zmq.Context) -> None:
        self._client, self._context = client, context
        self._config: ClientConfig = client._config
        self._conversation: Conversation = client._conversation
        self._stop: _Stop | None = None
        self._retry_s = self._config.retry_s
        self._heard = self._said = 0.0

    def run(self) -> None:
        """Go from connection to connection until told to stop."""
        while self._stop is None:
            socket = self._open_socket()
            monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            try:
                self._talk(socket, monitor)
            finally:
                self._close_socket(socket, monitor)
            if self._stop is None:
                self._pause()

    def _open_socket(self) -> zmq.Socket:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 64
        socket.reconnect_ivl = int(self._config.retry_s * 1000)
        socket.ipv6 = "[" in self._client.address
        keys = self._client._keys
        if keys is not None:
            socket.curve_publickey = keys.public_key.encode()
            socket.curve_secretkey = keys.secret_key.encode()
            socket.curve_serverkey = keys.server_key.encode()
        socket.connect(self._client.address)
        return socket

    def _close_socket(self, socket: zmq.Socket, monitor: zmq.Socket) -> None:
        if self._stop is not None and self._conversation.welcome is not None:
            self._send(socket, encode(self._conversation.goodbye(self._stop.keep_jobs)))
            socket.linger = 200  # long enough for a goodbye to a backend that is there
        self._conversation.lose_connection()
        socket.disable_monitor()
        monitor.close(linger=0)
        socket.close()

    def _pause(self) -> None:
        """Wait before the next attempt; orders are still taken."""
        until = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, self._config.retry_limit_s)
        poller = zmq.Poller()
        poller.register(self._client._wake_out, zmq.POLLIN)
        is_refused = self._client.state.name == "refused"
        while self._stop is None and (is_refused or time.monotonic() < until):
            left_ms = max(0.0, until - time.monotonic()) * 1000
            poller.poll(None if is_refused else left_ms)
            self._take_orders()

    def _talk(self, socket: zmq.Socket, monitor: zmq.Socket) -> None:
        """One connection, from `Hello` until it is lost, refused or no longer wanted."""
        poller = zmq.Poller()
        for source in (socket, monitor, self._client._wake_out):
            poller.register(source, zmq.POLLIN)
        self._heard = self._said = time.monotonic()
        self._send(socket, encode(self._conversation.hello()))
        while self._stop is None:
            ready = dict(poller.poll(self._patience_ms()))
            self._take_orders()
            if socket in ready and not self._receive(socket):
                return
            if monitor in ready and self._is_disconnected(monitor):
                self._lose("The backend at {} has closed the connection; trying again.")
                return
            if self._is_silent():
                return
            self._speak(socket)

    def _patience_ms(self) -> int:
        """Until the next heartbeat or deadline."""
        welcome = self._conversation.welcome
        return int(1000 * (min(welcome.heartbeat_s, 1.0) if welcome else 0.25)) // 2 + 1

    def _is_disconnected(self, monitor: zmq.Socket) -> bool:
        event = recv_monitor_message(monitor, flags=zmq.NOBLOCK)
        return event["event"] == zmq.EVENT_DISCONNECTED

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
        self._client._set_state("lost", reason.format(self._client.address))

    def _take_orders(self) -> None:
        """Everything that users of the client have asked for since the last time."""
        try:
            while self._client._wake_out.recv(4096):
                pass
        except (BlockingIOError, OSError):
            pass  # no more wake-up bytes: what was meant
        while True:
            try:
                order = self._client._commands.get_nowait()
            except queue.Empty:
                return
            if isinstance(order, _Stop):
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
            except (CodecError, ProtocolError) as error:
                logger.warning("an answer of the backend was dropped: %s", error)
                continue
            if isinstance(message, Refused):
                self._refuse(message)
                return False
            self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self._retry_s = self._config.retry_s
            self._conversation.open_session(message)
            self._client._set_state(
                "ready", f"Connected to {self._client.address} ({message.device or 'unknown'})."
            )
        else:
            self._conversation.receive(message)

    def _refuse(self, message: Refused) -> None:
        if message.kind == "protocol_version":
            self._client._set_state("refused", message.reason)
        elif message.kind != "hello_first":
            self._client._set_state("lost", message.reason)

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
            socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            logger.warning("a message was dropped because the connection is jammed")
            return False
        self._said = time.monotonic()
        return True
