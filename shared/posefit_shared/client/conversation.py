# SPDX-License-Identifier: Apache-2.0
"""The client's side of the protocol without its socket: what to say next, and what an answer means.

`client` owns the socket and moves bytes; this module decides. It remembers unfinished jobs and
content, so that after a lost connection the same jobs are found again, or submitted again to a
backend that has restarted (once; a job that takes the backend down twice is given up).
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from .. import messages
from ..codec import Buffer, encode
from ..content import Content
from ..messages import (
    PROTOCOL_VERSION,
    Acknowledge,
    Cancel,
    Failure,
    Goodbye,
    Have,
    Heartbeat,
    Hello,
    Message,
    Missing,
    Result,
    Stored,
    UploadChunk,
    UploadDone,
    Welcome,
)

MAX_RESUBMISSIONS = 1
"""How often a job that a backend had accepted is given to one that has restarted."""
MAX_DAMAGES = 8
"""Connections in a row on which something arrived damaged and no result came, before jobs fail."""
MAX_ENDED = 10_000
"""Ended jobs that are remembered: more than a backend keeps for one client."""
MAX_UPLOAD_ROUNDS = 3
"""How often a job may come back because content is missing."""


@dataclass
class PendingJob:
    """A job that has not ended."""

    job: str
    parts: list[Buffer]
    content_hashes: tuple[str, ...]
    is_sent: bool = False
    is_accepted: bool = False
    is_cancelled: bool = False
    resubmissions: int = 0
    upload_rounds: int = 0
    revisions: set[int] = field(default_factory=set)


@dataclass
class Upload:
    """A content on its way."""

    content: Content
    is_asked: bool = False
    is_wanted: bool = False
    is_complete: bool = False
    offset: int = 0
    file: BinaryIO | None = None

    def close(self) -> None:
        """Let go of the file; the upload can start again from the beginning."""
        if self.file is not None:
            self.file.close()
        self.file = None
        self.offset, self.is_asked, self.is_wanted, self.is_complete = 0, False, False, False


class Conversation:
    """One client's jobs, uploads and credit; used by one thread only."""

    def __init__(
        self, name: str, version: str, session: str | None, emit: Callable[[Any], None]
    ) -> None:
        """Start without a connection.

        Args:
            name: what this client calls itself, for the backend's log.
            version: its version.
            session: token of an earlier session to find again, or None.
            emit: takes the events that the user of the client should see.
        """
        self._name, self._version, self._emit = name, version, emit
        self.session = session
        self.welcome: Welcome | None = None
        self._credit = 0
        self.damages = 0
        """Connections in a row that damaged a message, since the last result."""
        self._jobs: dict[str, PendingJob] = {}
        self._ended: OrderedDict[str, bool] = OrderedDict()
        """Jobs that have ended; whether by being cancelled."""
        self._contents: dict[str, Content] = {}
        self._uploads: dict[str, Upload] = {}
        self._stored: set[str] = set()
        self._outbox: deque[Message] = deque()

    # What the user of the client wants

    def hello(self) -> Hello:
        """The first message of a connection."""
        return Hello(PROTOCOL_VERSION, self._name, self._version, self.session)

    def submit(self, job: PendingJob) -> None:
        """Send a job as soon as what it needs is there."""
        self._jobs[job.job] = job

    def cancel(self, job_id: str) -> None:
        """Stop a job; one that was never sent ends here."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        if not job.is_sent:
            self._end(job_id, messages.Cancelled(job_id))
            return
        job.is_cancelled = True
        self._say(Cancel(job_id))

    def upload(self, content: Content) -> None:
        """Make a content known, and send it if the backend lacks it."""
        self._contents[content.content_hash] = content
        if content.content_hash in self._stored:
            self._emit(Stored(content.content_hash))
        else:
            self._uploads.setdefault(content.content_hash, Upload(content))

    def acknowledge(self, result: Result) -> None:
        """Tell the backend that a result has been taken by the user."""
        # Also before the welcome, should that come later than a result that waited.
        self._outbox.append(Acknowledge(result.job, result.revision))

    def ask_report(self) -> None:
        """Ask the backend how it does."""
        self._say(messages.AskReport())

    def heartbeat(self) -> None:
        """Say that this side is still here."""
        self._say(Heartbeat())

    def goodbye(self, keep_jobs: bool) -> Goodbye:
        """The last message of a session."""
        return Goodbye(keep_jobs)

    def _say(self, message: Message) -> None:
        if self.welcome is not None:
            self._outbox.append(message)

    # What goes out

    def next_parts(self) -> list[Buffer] | None:
        """The next message to send, or None while there is nothing that may be sent."""
        if self.welcome is None:
            return None
        if self._outbox:
            return encode(self._outbox.popleft())
        message = self._next_upload_message()
        if message is not None:
            return encode(message, self.welcome.limits)
        return self._next_submission()

    def _next_upload_message(self) -> Message | None:
        fresh = [key for key, upload in self._uploads.items() if not upload.is_asked]
        if fresh:
            asked = fresh[:64]
            for content_hash in asked:
                self._uploads[content_hash].is_asked = True
            return Have(tuple(asked))
        for content_hash, upload in list(self._uploads.items()):
            if upload.is_wanted and not upload.is_complete and self._credit > 0:
                return self._next_piece(content_hash, upload)
        return None

    def _next_piece(self, content_hash: str, upload: Upload) -> Message | None:
        assert self.welcome is not None
        try:
            if upload.file is None:
                upload.file = upload.content.open()
            data = upload.file.read(self.welcome.limits.chunk_bytes)
        except OSError as error:
            self._fail_upload(content_hash, f"the file cannot be read ({error.strerror})")
            return None
        if not data:
            upload.is_complete = True
            return UploadDone(content_hash, upload.offset, upload.content.kind)
        piece = UploadChunk(content_hash, upload.offset, np.frombuffer(data, np.uint8))
        upload.offset += len(data)
        self._credit -= 1
        return piece

    def _next_submission(self) -> list[Buffer] | None:
        if self._credit <= 0:
            return None
        for job in self._jobs.values():
            if not job.is_sent and not any(item in self._uploads for item in job.content_hashes):
                job.is_sent = True
                self._credit -= 1
                return job.parts
        return None

    # What comes in

    def lose_connection(self) -> None:
        """Forget what belonged to the connection; jobs and contents stay."""
        self.welcome = None
        self._credit = 0
        self._outbox.clear()
        for upload in self._uploads.values():
            upload.close()

    def note_damage(self) -> None:
        """Something was not understood: jobs that were sent are given up after a while."""
        self.damages += 1
        if self.damages <= MAX_DAMAGES:
            return
        self.damages = 0
        reason = "messages to or from the backend arrive damaged: check the network between them"
        for job in [job for job in self._jobs.values() if job.is_sent]:
            self._end(job.job, Failure("lost", reason, job=job.job))

    def forget(self) -> None:
        """Let go of jobs and contents: nobody will ask any more."""
        self._jobs.clear()
        self._contents.clear()
        self._uploads.clear()

    def open_session(self, welcome: Welcome) -> None:
        """A backend has let this client in, perhaps again."""
        self.welcome, self.session, self._credit = welcome, welcome.session, welcome.credit
        if not welcome.resumed:
            self._stored.clear()
        known = set(welcome.jobs)
        # A backend still knows jobs whose last acknowledgement was lost with the connection.
        for job_id in known - self._jobs.keys() - self._ended.keys():
            self._jobs[job_id] = _job_of_an_earlier_client(job_id)
        for job in list(self._jobs.values()):
            if job.is_sent and job.job not in known:
                self._submit_again(job)
            elif job.is_cancelled:
                self._say(Cancel(job.job))

    def _submit_again(self, job: PendingJob) -> None:
        """A job that the backend does not know any more: it has restarted meanwhile."""
        if job.is_cancelled:
            self._end(job.job, messages.Cancelled(job.job))
            return
        if job.is_accepted:
            job.resubmissions += 1
        if job.resubmissions > MAX_RESUBMISSIONS:
            reason = "the backend was restarted twice while this job ran: it was given up"
            self._end(job.job, Failure("lost", reason, job=job.job))
            return
        job.is_sent, job.is_accepted = False, False
        job.revisions.clear()
        for content_hash in job.content_hashes:
            self._want(content_hash)

    def receive(self, message: Message) -> None:
        """Take in one message of the backend."""
        if isinstance(message, messages.Credit):
            self._credit += message.amount
        elif isinstance(message, messages.Status) and self.welcome is not None:
            self.welcome = dataclasses.replace(
                self.welcome,
                device=message.device,
                models=message.models,
                kinds=message.kinds,
            )
        elif isinstance(message, Missing):
            self._receive_missing(message)
        elif isinstance(message, Stored):
            self._receive_stored(message)
        elif isinstance(message, Result):
            self._receive_result(message)
        elif isinstance(message, Failure):
            self._receive_failure(message)
        elif isinstance(message, messages.Cancelled):
            self._say(Acknowledge(message.job))
            self._end(message.job, message)
        elif isinstance(message, (messages.Accepted, messages.Progress)):
            self._receive_sign_of_life(message)
        elif isinstance(message, messages.Report):
            self._emit(message)

    def _receive_sign_of_life(self, message: messages.Accepted | messages.Progress) -> None:
        if message.job in self._jobs:
            self._jobs[message.job].is_accepted = True
            self._emit(message)
        elif self._ended.get(message.job) and isinstance(message, messages.Accepted):
            self._say(Cancel(message.job))  # the first word about it came before the job

    def _receive_missing(self, message: Missing) -> None:
        for content_hash in message.asked:
            upload = self._uploads.get(content_hash)
            if upload is not None and content_hash in message.hashes:
                upload.is_wanted = True
            elif upload is not None:
                self._receive_stored(Stored(content_hash))
        job = self._jobs.get(message.job or "")
        if job is None:
            return
        job.is_sent = False
        job.upload_rounds += 1
        self._stored.difference_update(message.hashes)
        if job.upload_rounds > MAX_UPLOAD_ROUNDS or not all(map(self._want, message.hashes)):
            reason = "the backend lacks a file that this job names, and the client cannot send it"
            self._end(job.job, Failure("content", reason, job=job.job))

    def _want(self, content_hash: str) -> bool:
        """Start an upload that a job needs; false if this client does not have the content."""
        if content_hash in self._stored or content_hash in self._uploads:
            return True
        if content_hash not in self._contents:
            return False
        self._uploads[content_hash] = Upload(self._contents[content_hash])
        return True

    def _receive_stored(self, message: Stored) -> None:
        upload = self._uploads.pop(message.content_hash, None)
        if upload is not None:
            upload.close()
            self._stored.add(message.content_hash)
            self._emit(message)

    def _receive_result(self, result: Result) -> None:
        job = self._jobs.get(result.job)
        self.damages = 0
        if job is None or result.revision <= max(job.revisions, default=-1):
            self.acknowledge(result)  # known already, or overtaken by a later one
            return
        job.is_accepted = True
        job.revisions.add(result.revision)
        if result.final:
            self._end(result.job, result)
        else:
            self._emit(result)

    def _receive_failure(self, failure: Failure) -> None:
        if failure.job is not None:
            self._say(Acknowledge(failure.job))
            self._end(failure.job, failure)
        elif failure.content_hash is not None:
            self._fail_upload(failure.content_hash, failure.message)
        else:
            self._emit(failure)

    def _fail_upload(self, content_hash: str, reason: str) -> None:
        """An upload came to nothing, and with it the jobs that need it."""
        upload = self._uploads.pop(content_hash, None)
        if upload is None:
            return
        upload.close()
        self._contents.pop(content_hash, None)
        self._emit(Failure("content", reason, content_hash=content_hash))
        for job in list(self._jobs.values()):
            if content_hash in job.content_hashes and not job.is_sent:
                self._end(job.job, Failure("content", reason, job=job.job))

    def _end(self, job_id: str, event: Message) -> None:
        if self._jobs.pop(job_id, None) is not None:
            self._ended[job_id] = isinstance(event, messages.Cancelled)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
            self._emit(event)


def _job_of_an_earlier_client(job_id: str) -> PendingJob:
    """A job found again through a session token; it cannot be submitted a second time."""
    return PendingJob(job_id, [], (), True, True, resubmissions=MAX_RESUBMISSIONS)
