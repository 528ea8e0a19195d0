# SPDX-License-Identifier: Apache-2.0
"""What clients say, and what the backend makes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posefit_shared.codec import CodecError, Envelope, open_envelope
from posefit_shared.messages import (
    PROTOCOL_VERSION,
    Accepted,
    Acknowledge,
    AskReport,
    Cancel,
    Credit,
    Failure,
    Goodbye,
    Have,
    Heartbeat,
    Hello,
    Message,
    Missing,
    ProtocolError,
    Refused,
    Report,
    Status,
    Stored,
    Submit,
    UploadChunk,
    UploadDone,
    Welcome,
    read_message,
)

from .. import __version__
from ..worker.media_paths import MediaError, resolve_media_path
from .config import ServeLimits
from .job_desk import JobDesk
from .schedule import Job
from .sessions import Session, SessionTable
from .store import ContentStore, StoreError
from .watching import report_of

__all__ = ["FrontDesk"]

logger = logging.getLogger(__name__)

MAX_UPLOADS = 16
"""Uploads that one client may have under way."""


class FrontDesk:
    """Receives clients' messages; used by the broker's thread only."""

    def __init__(
        self,
        limits: ServeLimits,
        media_roots: tuple[Path, ...],
        sessions: SessionTable,
        store: ContentStore,
        jobs: JobDesk,
    ) -> None:
        self._limits, self._media_roots = limits, media_roots
        self._sessions, self._store, self._jobs = sessions, store, jobs
        self._answers: dict[type[Message], Callable[[Session, Any], None]] = {
            Heartbeat: lambda session, message: None,
            Goodbye: self._part,
            Have: self._tell_missing,
            UploadChunk: self._take_piece,
            UploadDone: self._finish_upload,
            Acknowledge: lambda session, message: self._jobs.acknowledge(
                session, message.job, message.revision
            ),
            Cancel: lambda session, message: self._jobs.cancel(session, message.job),
            AskReport: lambda session, message: self._sessions.send(session, Report(self.report())),
        }

    def turn_away(self, identity: bytes | None) -> None:
        """Tell a connection that its key is no longer allowed."""
        if identity is not None:
            reason = "this client's key has been revoked by the backend's operator"
            self._sessions.answer(identity, Refused("revoked", reason))

    def receive(self, identity: bytes, parts: list[Any], user: str = "") -> None:
        """Take in one message of a client; whatever it holds is answered in words.

        Args:
            identity: its connection.
            parts: the message.
            user: public key of the client on an encrypted connection; a session belongs to the
                key that opened it.
        """
        session = self._sessions.of_identity(identity)
        envelope = None
        try:
            envelope = open_envelope([part.buffer for part in parts], self._limits.wire)
            if envelope.name == Hello.NAME:
                self._greet(identity, envelope, user)
            elif session is None:
                reason = "this connection has not said hello, or its session is over: say hello"
                self._sessions.answer(identity, Refused("hello_first", reason))
            else:
                self._answer(session, envelope, parts)
        except (CodecError, ProtocolError) as error:
            self._complain(identity, session, envelope, str(error))

    def _complain(
        self, identity: bytes, session: Session | None, envelope: Envelope | None, reason: str
    ) -> None:
        """Answer a message that makes no sense, and give its credit back."""
        logger.warning("a message of %s was refused: %s", session and session.label, reason)
        reason = reason[:1900]
        if session is None:
            self._sessions.answer(identity, Refused("protocol", reason))
            return
        job_id = envelope.text("job") if envelope else None
        if job_id is not None and job_id in session.jobs:
            job_id = None  # the job itself is sound; only this message about it is not
        self._sessions.send(session, Failure("protocol", reason, job=job_id))
        if envelope is not None and envelope.name in (Submit.NAME, UploadChunk.NAME):
            self._sessions.send(session, Credit(1))

    def _answer(self, session: Session, envelope: Envelope, parts: list[Any]) -> None:
        session.heard_at = time.monotonic()
        message = read_message(envelope.name, envelope.fields)
        if isinstance(message, Submit):
            self._submit(session, message, parts)
        elif type(message) in self._answers:
            self._answers[type(message)](session, message)
        else:
            raise ProtocolError(f"a client may not send '{message.NAME}'")

    # Sessions

    def _greet(self, identity: bytes, envelope: Envelope, user: str) -> None:
        if refusal := _refusal_of_version(envelope):
            self._sessions.answer(identity, Refused("protocol_version", refusal))
            return
        hello = Hello.from_map(envelope.fields)
        session = self._sessions.of_token(hello.session or "")
        if session is not None and session.user != user:
            session = None
        is_resumed = session is not None
        if session is not None:
            self._abandon_uploads(session)
            self._sessions.attach(session, identity)
        elif reason := self._reason_to_refuse(identity, user):
            self._sessions.answer(identity, Refused("full", reason))
            return
        else:
            session = self._sessions.open(identity, hello.client_name, user)
        logger.info(
            "%s %s (%s)", session.label, "is back" if is_resumed else "connects",
            hello.client_version,
        )  # fmt: skip
        self._sessions.send(session, self._welcome(session, is_resumed))
        self._sessions.pump(session)

    def _reason_to_refuse(self, identity: bytes, user: str) -> str:
        """Why another session cannot be opened, or nothing."""
        previous = self._sessions.of_identity(identity)
        if previous is not None and not previous.jobs:
            self.end(previous)  # one connection is one session
        if len(self._sessions) >= self._limits.sessions:
            return f"the backend serves {self._limits.sessions} clients already: try again later"
        if user and self._sessions.count_of(user) >= self._limits.sessions_per_key:
            count = self._limits.sessions_per_key
            return f"{count} clients use this key already: close one, or use another key"
        return ""

    def _welcome(self, session: Session, is_resumed: bool) -> Welcome:
        status = self._status()
        return Welcome(
            PROTOCOL_VERSION,
            __version__,
            session.token,
            resumed=is_resumed,
            jobs=tuple(session.jobs)[:4096],
            device=status.device,
            models=status.models,
            kinds=status.kinds,
            limits=self._limits.wire,
            credit=self._limits.credit,
            heartbeat_s=self._limits.heartbeat_s,
            accepts_paths=bool(self._media_roots),
        )

    def _status(self) -> Status:
        workers = self._jobs.supervisor.workers if self._jobs.supervisor else []
        ready = [worker for worker in workers if worker.description]
        device = ", ".join(worker.description for worker in ready)[:128] or "starting"
        if not ready:
            return Status(device)
        return Status(device, ready[0].models, ready[0].kinds)

    def report(self) -> dict[str, Any]:
        """How this backend does, for whoever watches over it."""
        return report_of(self._sessions, self._jobs, self._store)

    def tell_status(self) -> None:
        """Let every client know that the workers are not what they were."""
        status = self._status()
        for session in self._sessions.all():
            self._sessions.send(session, status)

    def _part(self, session: Session, message: Goodbye) -> None:
        logger.info("%s leaves", session.label)
        if message.keep_jobs and session.jobs:
            self.lose(session)
        else:
            self.end(session)

    def end(self, session: Session) -> None:
        """A client will not come back: nothing of it stays."""
        self._abandon_uploads(session)
        self._jobs.end_session(session)

    def lose(self, session: Session) -> None:
        """A client has been silent for too long: its jobs go on, its uploads do not."""
        self._abandon_uploads(session)
        self._sessions.detach(session)

    # Content

    def _tell_missing(self, session: Session, message: Have) -> None:
        for content_hash in message.hashes:  # whoever asks begins from the start
            if (incoming := session.uploads.pop(content_hash, None)) is not None:
                self._store.abandon(incoming)
        missing = self._store.lacks(message.hashes)
        self._sessions.send(session, Missing(missing, asked=message.hashes))

    def _take_piece(self, session: Session, message: UploadChunk) -> None:
        try:
            self._store_piece(session, message)
        except StoreError as error:
            self._fail_upload(session, message.content_hash, str(error))
        self._sessions.send(session, Credit(1))

    def _store_piece(self, session: Session, message: UploadChunk) -> None:
        if len(message.data) > self._limits.wire.chunk_bytes:
            raise StoreError(
                f"a piece of an upload has {len(message.data)} bytes, expected at most "
                f"{self._limits.wire.chunk_bytes}"
            )
        incoming = session.uploads.get(message.content_hash)
        if incoming is None:
            if message.offset != 0:
                return  # the rest of an upload that has failed already
            if len(session.uploads) >= MAX_UPLOADS:
                raise StoreError(f"{MAX_UPLOADS} uploads are under way already: finish one first")
            incoming = self._store.begin(message.content_hash)
            session.uploads[message.content_hash] = incoming
        self._store.append(incoming, message.offset, message.data.data)

    def _finish_upload(self, session: Session, message: UploadDone) -> None:
        content_hash = message.content_hash
        incoming = session.uploads.pop(content_hash, None)
        if incoming is None and message.size == 0:
            incoming = self._store.begin(content_hash)
        try:
            if incoming is None:
                raise StoreError("an upload ended of which nothing is here: upload it again")
            self._store.finish(incoming, message.size)
        except StoreError as error:
            failure = Failure("content", str(error), content_hash=content_hash)
            self._sessions.send(session, failure)
        else:
            logger.info("%s stored %s %s…", session.label, message.kind, content_hash[:12])
            self._sessions.send(session, Stored(content_hash))

    def _fail_upload(self, session: Session, content_hash: str, reason: str) -> None:
        incoming = session.uploads.pop(content_hash, None)
        if incoming is not None:
            self._store.abandon(incoming)
        self._sessions.send(session, Failure("content", reason, content_hash=content_hash))

    def _abandon_uploads(self, session: Session) -> None:
        for incoming in session.uploads.values():
            self._store.abandon(incoming)
        session.uploads.clear()

    # Jobs

    def _submit(self, session: Session, message: Submit, parts: list[Any]) -> None:
        self._sessions.send(session, Credit(1))
        if message.job in session.jobs:
            self._sessions.send(session, Accepted(message.job))
            self._sessions.pump(session)
            return
        size = sum(len(part) for part in parts)
        if reason := self._jobs.reason_to_refuse(session, size):
            self._sessions.send(session, Failure("busy", reason, job=message.job))
            return
        hashes = message.payload.content_hashes()
        if missing := self._store.lacks(hashes):
            self._sessions.send(session, Missing(missing, job=message.job))
            return
        try:
            self._check_media(message)
        except MediaError as error:
            self._sessions.send(session, Failure("media", str(error), job=message.job))
            return
        job = Job(
            message.job, session.token, message.kind, message.priority, parts, size, hashes
        )  # fmt: skip
        ahead = self._jobs.submit(session, job)
        self._sessions.send(session, Accepted(message.job, ahead))
        self._jobs.assign()

    def _check_media(self, message: Submit) -> None:
        for media in message.payload.media_references():
            if media.path is not None:
                resolve_media_path(media.path, self._media_roots)


def _refusal_of_version(envelope: Envelope) -> str:
    """Why a client's protocol will not do, or nothing; reads as little of the message as it can."""
    version = envelope.fields.get("protocol")
    if not isinstance(version, list) or not version or not isinstance(version[0], int):
        raise ProtocolError("hello names no protocol version, expected [major, minor]")
    if version[0] == PROTOCOL_VERSION[0]:
        return ""
    older = "client" if version[0] < PROTOCOL_VERSION[0] else "backend"
    return (
        f"the client speaks protocol {version[0]} and this backend (posefit {__version__}) speaks "
        f"protocol {PROTOCOL_VERSION[0]}: update the {older}"
    )
