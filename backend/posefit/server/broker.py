# SPDX-License-Identifier: Apache-2.0
"""The broker: two sockets, one loop, and an end that leaves nothing behind.

One thread does everything and never computes: it moves bytes between clients (`FrontDesk`) and
workers (`JobDesk`, `Supervisor`). It does not import torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket as sockets
import sys
import time
from pathlib import Path
from typing import Any

import zmq

from posefit_shared.codec import CodecError, decode, encode, open_envelope
from posefit_shared.messages import Failure, Heartbeat, Limits, Message, ProtocolError, Refused

from ..child_processes import ChildProcess
from ..worker.messages import (
    WORKER_LIMITS,
    WORKER_MESSAGES,
    Alive,
    StandbyReady,
    WorkerHello,
    WorkerReady,
)
from .bell import ring_at_end
from .config import ServeConfig, ServeError, check_config
from .front_desk import FrontDesk
from .gate import Gate, open_gate, user_of
from .job_desk import JobDesk
from .keeper_line import KeeperLine
from .metrics_port import MetricsPort
from .scratch import scratch_folder
from .sessions import SessionTable
from .store import ContentStore
from .supervisor import Supervisor
from .workers import Worker

__all__ = ["serve"]

logger = logging.getLogger(__name__)

TICK_S = 0.1
"""How often the broker looks after workers and sessions."""
REPORT_S = 1.0
"""How often the metrics are brought up to date."""
MAX_MESSAGES_A_TURN = 64
"""Messages taken from one socket before the other gets its turn."""
MAX_SOCKET_PATH = 90
"""Longest path that every system accepts for a local socket, with room to spare."""


def serve(
    config: ServeConfig,
    early: list[ChildProcess] | None = None,
    *,
    keeper: KeeperLine | None = None,
) -> int:
    """Run a backend until SIGTERM or SIGINT.

    Args:
        config: where to listen and what to allow.
        early: workers' processes that have been started already; those that are taken leave it.
        keeper: the process that starts this one again when it dies; it has processes of its own.

    Returns:
        Exit status: 0 after an orderly end.

    Raises:
        ServeError: the address may not be used or is taken, or a media root is not there.
    """
    check_config(config)
    gate = open_gate(config, keeper)
    try:
        with scratch_folder() as folder, ring_at_end(config.exit_with_stdin) as bell:
            waiting: list[ChildProcess] = early or []
            if keeper is not None:
                waiting = [*keeper.spares]
            broker = _Broker(config, gate, folder, bell, waiting, keeper)
            try:
                broker.run()
            finally:
                broker.close()
    finally:
        if config.launch_keys is not None:
            config.launch_keys.unlink(missing_ok=True)
    return 0


class _Broker:
    """Sockets and loop of one backend."""

    def __init__(
        self,
        config: ServeConfig,
        gate: Gate | None,
        folder: Path,
        bell: sockets.socket,
        early: list[ChildProcess],
        keeper: KeeperLine | None,
    ) -> None:
        self._gate = gate
        self._config, self._limits, self._bell = config, config.limits, bell
        self._context, self._keeper = zmq.Context(), keeper
        self._ready_file: Path | None = None
        self._metrics = MetricsPort(config.metrics) if config.metrics else None
        self._last_heartbeat = self._last_report = 0.0
        try:
            self._front = self._open_router(self._limits.wire.part_bytes)
            self._back = self._open_router(-1)
            if gate is not None:
                gate.guard(self._front, self._context)
            self.address = self._bind_front(config.bind)
            worker_address = self._bind_back(folder)
        except BaseException:
            self._context.destroy(linger=0)
            if self._metrics is not None:
                self._metrics.close()
            raise
        self._sessions = SessionTable(self._front, self._limits.wire.result_window)
        store = ContentStore(
            folder / "content", self._limits.content_bytes, self._limits.wire.upload_bytes
        )
        self._jobs = JobDesk(self._limits, self._sessions, store, self._send_to_worker)
        self._supervisor = Supervisor(
            config,
            worker_address,
            store.folder,
            self._jobs.worker_died,
            self._send_to_worker,
            early,
            keeper,
        )
        self._jobs.supervisor = self._supervisor
        roots = tuple(root.resolve() for root in config.media_roots)
        self._desk = FrontDesk(self._limits, roots, self._sessions, store, self._jobs)

    def run(self) -> None:
        """Serve until the bell rings."""
        self._supervisor.start()
        if self._keeper is not None:
            self._keeper.remember(config={"bind": self.address})
        self._announce()
        poller = zmq.Poller()
        door = self._gate and self._gate.socket
        for source in (self._front, self._back, self._bell, door):
            if source is not None:
                poller.register(source, zmq.POLLIN)
        next_tick = time.monotonic()
        while True:
            patience = max(0.0, next_tick - time.monotonic())
            ready = dict(poller.poll(int(patience * 1000) + 1))
            if self._bell.fileno() in ready:
                logger.info("the backend was told to end")
                return
            if self._gate is not None and door in ready:
                self._gate.answer()
            if self._back in ready:
                self._drain(self._back, WORKER_LIMITS, self._hear_worker)
            if self._front in ready:
                self._drain(self._front, self._limits.wire, self._hear_client)
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_S
                self._tick()

    def close(self) -> None:
        """End the workers, tell the clients, free the port."""
        self._supervisor.stop()
        farewell = Refused("shutdown", "The backend is shutting down.")
        for session in self._sessions.all():
            self._sessions.send(session, farewell)
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        if self._metrics is not None:
            self._metrics.close()
        for socket in (self._front, self._back):
            socket.close(linger=100 if socket is self._front else 0)
        if self._gate is not None and self._gate.socket is not None:
            self._gate.socket.close(linger=0)
        self._context.term()
        logger.info("the backend has ended")

    # Sockets

    def _open_router(self, part_bytes: int) -> zmq.Socket:
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.router_mandatory = True
        socket.sndhwm = socket.rcvhwm = 256
        socket.maxmsgsize = part_bytes
        socket.handshake_ivl = int(self._limits.handshake_s * 1000)
        return socket

    def _bind_front(self, address: str) -> str:
        self._front.ipv6 = "[" in address
        # A connection whose other end is no longer there is closed.
        self._front.heartbeat_ivl = max(1, int(self._limits.client_silence_s * 1000 / 3))
        self._front.heartbeat_timeout = int(self._limits.client_silence_s * 1000)
        try:
            self._front.bind(address.replace(":0", ":*") if address.endswith(":0") else address)
        except zmq.ZMQError as error:
            raise ServeError(
                f"cannot listen on {address} ({error.strerror}): is another backend running there? "
                "Stop it, or choose another port with --bind"
            ) from error
        return self._front.get_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def _bind_back(self, folder: Path) -> str:
        path = folder / "workers"
        is_short = len(os.fsencode(path)) < MAX_SOCKET_PATH
        has_ipc = zmq.has("ipc") and sys.platform != "win32" and is_short
        self._back.bind(f"ipc://{path}" if has_ipc else "tcp://127.0.0.1:*")
        return self._back.get_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def _announce(self) -> None:
        """Say where the backend listens: in the ready file, the log, and on standard output."""
        if self._config.ready_file is not None:
            self._ready_file = self._config.ready_file
            temporary = self._ready_file.with_name(
                f".{self._ready_file.name}.{secrets.token_hex(4)}"
            )
            try:
                temporary.write_text(f"{self.address}\n")
                temporary.replace(self._ready_file)
            except OSError as error:
                raise ServeError(
                    f"cannot write {self._ready_file} ({error.strerror}): choose another ready file"
                ) from error
        logger.info("the backend listens on %s", self.address)
        if self._metrics is not None:
            logger.info("metrics are at http://%s/metrics", self._metrics.address)
        with contextlib.suppress(OSError, ValueError, AttributeError):  # there may be no stdout
            sys.stdout.write(f"ready {self.address}\n")
            sys.stdout.flush()

    def _drain(self, socket: zmq.Socket, limits: Limits, receive: Any) -> None:
        """Handle what has arrived; the one place where any error of handling ends.

        Only `Exception` is caught, logged, and answered by a `Failure`; the broker goes on.
        """
        for _ in range(MAX_MESSAGES_A_TURN):
            try:
                identity, parts = _receive_bounded(socket, limits)
            except zmq.Again:
                return
            try:
                receive(identity, parts)
            except Exception:
                logger.exception("a message could not be handled")
                if socket is self._front and (session := self._sessions.of_identity(identity)):
                    reason = "the backend could not handle a message: see its log"
                    self._sessions.send(session, Failure("internal", reason))

    # Clients

    def _hear_client(self, identity: bytes, parts: list[Any]) -> None:
        user = ""
        if self._gate is not None:
            user = user_of(parts)
            if self._gate.name_of(user) is None:
                self._desk.turn_away(identity)
                return
        self._desk.receive(identity, parts, user)

    def _cut_off_revoked(self) -> None:
        assert self._gate is not None
        for session in self._sessions.all():
            if self._gate.name_of(session.user) is None:
                logger.warning("%s is cut off: its key has been revoked", session.label)
                self._desk.turn_away(session.identity)
                self._desk.end(session)

    # Workers

    def _hear_worker(self, identity: bytes, parts: list[Any]) -> None:
        buffers = [part.buffer for part in parts]
        worker = self._supervisor.of_identity(identity)
        try:
            # Its client compares the checksum: here nothing comes over a network.
            envelope = open_envelope(buffers, WORKER_LIMITS, is_checked=False)
            if envelope.name == WorkerHello.NAME:
                worker = self._supervisor.greet(identity, envelope.text("token") or "")
            if worker is None:
                logger.warning("something that is no worker of this backend called it")
                return
            worker.heard_at = time.monotonic()
            if envelope.name in (Alive.NAME, WorkerReady.NAME, StandbyReady.NAME):
                self._hear_of_worker(worker, decode(buffers, WORKER_LIMITS, WORKER_MESSAGES))
            elif envelope.name != WorkerHello.NAME:
                self._jobs.hear_job_message(worker, envelope, parts)
        except (CodecError, ProtocolError) as error:
            logger.warning("a message of a worker was dropped: %s", error)
        self._jobs.assign()

    def _hear_of_worker(self, worker: Worker, message: Message) -> None:
        if isinstance(message, WorkerReady):
            self._jobs.worker_is_ready(worker, message)
            self._desk.tell_status()
        elif isinstance(message, StandbyReady):
            self._supervisor.standby_is_ready(worker)
        elif isinstance(message, Alive):
            self._jobs.hear_alive(worker, message)

    def _send_to_worker(self, worker: Worker, message: Message | list[Any]) -> bool:
        if worker.identity is None:
            return False
        parts = message if isinstance(message, list) else encode(message)
        try:
            self._back.send_multipart([worker.identity, *parts], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            logger.warning("worker on %s cannot be reached: %s", worker.device, error)
            return False
        return True

    # Time

    def _tick(self) -> None:
        now = time.monotonic()
        self._supervisor.tick(now)
        self._jobs.tick(now)
        if self._gate is not None and self._gate.refresh(now):
            self._cut_off_revoked()
        for session in self._sessions.all():
            silence = now - session.heard_at
            if session.identity is not None and silence > self._limits.client_silence_s:
                logger.info("%s has gone silent", session.label)
                self._desk.lose(session)
            elif session.identity is None and (
                silence > self._limits.session_keep_s or not session.jobs
            ):
                logger.info("%s is forgotten", session.label)
                self._desk.end(session)
            elif now - session.said_at > self._limits.heartbeat_s:
                self._sessions.send(session, Heartbeat())
            self._sessions.pump(session)
        if self._metrics is not None and now - self._last_report > REPORT_S:
            self._last_report = now
            self._metrics.tell(self._desk.report())
        if now - self._last_heartbeat > self._limits.heartbeat_s:
            self._last_heartbeat = now
            if self._keeper is not None:
                self._keeper.give_sign()
            for worker in self._supervisor.everyone:
                if worker.identity is not None:
                    self._send_to_worker(worker, Heartbeat())


def _receive_bounded(socket: zmq.Socket, limits: Limits) -> tuple[bytes, list[Any]]:
    """One multipart message; parts beyond the limits are read and let go, the first one too many is
    kept so that the codec refuses the message.

    Raises:
        zmq.Again: nothing has arrived.
    """
    identity = socket.recv(zmq.NOBLOCK)
    parts: list[Any] = []
    size = 0
    while socket.get(zmq.RCVMORE):
        part = socket.recv(copy=False)
        if len(parts) <= limits.parts and size <= limits.message_bytes:
            parts.append(part)
            size += len(part)
    return identity, parts
