# SPDX-License-Identifier: Apache-2.0
"""Clients: who is connected, who may come back, and what is on its way to each.

Sending never blocks and nothing is dropped without notice: what does not fit into a connection's
queue waits in the session, results wait for acknowledgements, and a connection that is gone is
reported by the socket (`ROUTER_MANDATORY`) and ends the attachment, not the session.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import zmq

from posefit_shared.codec import encode
from posefit_shared.messages import Message, Progress

from .schedule import Job
from .store import IncomingContent

__all__ = ["Session", "SessionTable"]

logger = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Messages that may wait for a connection before it counts as stuck."""


@dataclass(eq=False)
class Session:
    """One client, connected or expected back."""

    token: str
    name: str
    user: str = ""
    """Public key of the client; empty without encryption."""
    identity: bytes | None = None
    heard_at: float = field(default_factory=time.monotonic)
    said_at: float = 0.0
    jobs: dict[str, Job] = field(default_factory=dict)
    uploads: dict[str, IncomingContent] = field(default_factory=dict)
    waiting: deque[Message] = field(default_factory=deque)
    """Small messages that did not fit into the connection's queue."""

    @property
    def held_bytes(self) -> int:
        """Memory of its jobs: requests that have not ended, results that it has not taken."""
        requests = sum(job.size for job in self.jobs.values() if not job.is_ended)
        return requests + sum(
            kept.size for job in self.jobs.values() for kept in job.results.values()
        )

    @property
    def label(self) -> str:
        """How the log names it, without the secret."""
        return f"{self.name}#{self.token[:4]}"


class SessionTable:
    """All sessions, and the only place that writes to clients."""

    def __init__(self, socket: zmq.Socket, result_window: int) -> None:
        self._socket, self._result_window = socket, result_window
        self._by_token: dict[str, Session] = {}
        self._by_identity: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def all(self) -> list[Session]:
        """Every session, connected or not."""
        return list(self._by_token.values())

    def of_identity(self, identity: bytes) -> Session | None:
        """The session behind a connection."""
        return self._by_identity.get(identity)

    def of_token(self, token: str) -> Session | None:
        """The session that a token opens."""
        return self._by_token.get(token)

    def count_of(self, user: str) -> int:
        """How many sessions one key has open."""
        return sum(session.user == user for session in self._by_token.values())

    def open(self, identity: bytes, name: str, user: str) -> Session:
        """A new session for a connection."""
        session = Session(secrets.token_hex(16), name, user)
        self._by_token[session.token] = session
        self.attach(session, identity)
        return session

    def attach(self, session: Session, identity: bytes) -> None:
        """Bind a session to a connection; what was under way on an earlier one is sent again."""
        self.detach(session)
        previous = self._by_identity.get(identity)
        if previous is not None and previous is not session:
            self.detach(previous)
        session.identity, session.heard_at = identity, time.monotonic()
        self._by_identity[identity] = session
        for job in session.jobs.values():
            job.end_is_sent = False
            for result in job.results.values():
                result.is_sent = False

    def detach(self, session: Session) -> None:
        """Note that a client is gone; its jobs run on."""
        if session.identity is not None:
            self._by_identity.pop(session.identity, None)
            session.identity = None
        session.waiting.clear()

    def forget(self, session: Session) -> None:
        """End a session."""
        self.detach(session)
        self._by_token.pop(session.token, None)

    def send(self, session: Session, message: Message) -> None:
        """Send a small message, now or when the connection takes it."""
        if session.identity is None:
            return
        if not session.waiting and self._write(session, encode(message)):
            return
        if isinstance(message, Progress):
            return  # newer progress will say more
        session.waiting.append(message)
        if len(session.waiting) > MAX_WAITING:
            logger.warning("%s does not take its messages and is cut off", session.label)
            self.detach(session)

    def pump(self, session: Session) -> None:
        """Send what waits: small messages, ends of jobs, then results within the window."""
        while session.waiting and session.identity is not None:
            if not self._write(session, encode(session.waiting[0])):
                return
            session.waiting.popleft()
        for job in session.jobs.values():
            if job.end is not None and not job.end_is_sent and session.identity is not None:
                job.end_is_sent = self._write(session, encode(job.end))
        self._pump_results(session)

    def _pump_results(self, session: Session) -> None:
        results = [kept for job in session.jobs.values() for kept in job.results.values()]
        window = self._result_window - sum(kept.is_sent for kept in results)
        for kept in results:
            if window <= 0 or session.identity is None:
                return
            if not kept.is_sent:
                if not self._write(session, kept.parts):
                    return
                kept.is_sent = True
                window -= 1

    def answer(self, identity: bytes, message: Message) -> None:
        """Send to a connection that has no session."""
        try:
            self._socket.send_multipart([identity, *encode(message)], zmq.NOBLOCK)
        except (zmq.Again, zmq.ZMQError) as error:
            logger.debug("an answer to a stranger was dropped: %s", error)

    def _write(self, session: Session, parts: list[Any]) -> bool:
        """Put a message into a connection's queue; false if it is full or gone."""
        assert session.identity is not None
        try:
            self._socket.send_multipart([session.identity, *parts], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            logger.info("%s is gone", session.label)
            self.detach(session)
            return False
        session.said_at = time.monotonic()
        return True
