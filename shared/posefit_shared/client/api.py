# SPDX-License-Identifier: Apache-2.0
"""The client of a backend: submit, poll, cancel; no call but `wait` and `close` ever blocks.

One worker thread owns the socket (`connection`), which is made and closed there. What the user of
the client wants crosses to it in a `queue.Queue`, what the backend answers comes back in an
`Inbox`. The thread connects again by itself; `conversation` decides what is said. Where no second
thread may run Python, as in Blender, `poll` does the thread's work instead.

    with Client("tcp://127.0.0.1:5557") as client:
        job = client.submit(request)
        result = client.wait(job, timeout_s=600)
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from .. import __version__
from ..addresses import AddressError, check_address
from ..codec import CodecError, encode
from ..content import Content, ContentKind, read_content
from ..key_files import CurveKeys
from ..messages import (
    Cancelled,
    Failure,
    Priority,
    Progress,
    Report,
    Request,
    Result,
    Submit,
    Welcome,
)
from .connection import Link, Stepper, Stop, has_encryption, run_connection
from .conversation import Conversation, PendingJob
from .inbox import Inbox
from .state import (
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    ClientConfig,
    ConnectionState,
    JobFailed,
    StateChanged,
    StateName,
)

logger = logging.getLogger(__name__)


class Client:
    """One connection to one backend; any thread of the process that made it may use it (without a
    thread of its own: the one that started it)."""

    def __init__(
        self,
        address: str,
        *,
        curve_keys: CurveKeys | None = None,
        name: str = "client",
        session: str | None = None,
        config: ClientConfig = ClientConfig(),  # noqa: B008  # frozen
        has_thread: bool = True,
    ) -> None:
        """Prepare a client; nothing happens before `start`.

        Args:
            address: where the backend listens, `tcp://127.0.0.1:5557`.
            curve_keys: keys for an encrypted connection; without them only loopback is allowed.
            name: what this client calls itself in the backend's log.
            session: token of an earlier session whose jobs should be found again.
            config: time limits.
            has_thread: whether a thread looks after the connection; else it goes on in `poll`,
                which must be called several times a second, and in whatever waits.

        Raises:
            BackendUnavailable: the address is malformed or needs keys.
        """
        try:
            self.address = check_address(address, has_keys=curve_keys is not None)
        except AddressError as error:
            raise BackendUnavailable(str(error)) from error
        if curve_keys is not None and not has_encryption():
            raise BackendUnavailable("this Python's ZeroMQ has no encryption: install another")
        self._inbox = Inbox()
        self._state = ConnectionState("connecting", f"Connecting to {address}.")
        self._lost_since = time.monotonic()
        self._process = os.getpid()
        self._config = config
        self._conversation = Conversation(name, __version__, session, self._inbox.put)
        self._link = Link(
            address, self._conversation, self._set_state, curve_keys, config, copies=not has_thread
        )
        self._thread: threading.Thread | None = None
        self._steps: Stepper | None = None
        if has_thread:
            self._thread = threading.Thread(
                target=run_connection, args=(self._link,), name="posefit-client", daemon=True
            )
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
            if self._thread is not None:
                self._thread.start()
            else:
                self._steps = Stepper(self._link)

    def close(self, timeout: float = 2.0, *, keep_jobs: bool = False) -> None:
        """Leave the backend and end the connection; never blocks longer than `timeout`.

        Args:
            timeout: seconds to wait for it.
            keep_jobs: let unfinished jobs run on, to be found through `session`.
        """
        if self._is_closed or os.getpid() != self._process:
            return
        self._is_closed = True
        if self._is_started:
            self._link.order(Stop(keep_jobs))
            if not self._ends_within(timeout):
                logger.warning("the client's connection has not ended within %.1f s", timeout)
                return
        self._state = ConnectionState("closed", "This client is closed.")
        self._conversation.forget()
        self._link.close()

    def submit(self, request: Request, priority: Priority = "normal") -> str:
        """Hand over a job; it is sent as soon as the backend is there and has what it needs.

        Args:
            request: one of the request records of `messages`.
            priority: `interactive`, `normal` or `batch`.

        Returns:
            The id under which events of this job come back.

        Raises:
            BackendUnavailable: the backend has refused this client, or the client is closed.
            BackendError: the request is larger than the backend accepts.
        """
        self._check_usable()
        if self._state.name == "refused":
            raise BackendUnavailable(self._state.reason)
        job_id = uuid.uuid4().hex
        welcome = self.welcome
        message = Submit(job_id, request, priority)
        try:
            parts = encode(message, welcome.limits) if welcome else encode(message)
        except CodecError as error:
            raise BackendError(str(error)) from error
        self._link.order(PendingJob(job_id, parts, request.content_hashes()))
        return job_id

    def cancel(self, job_id: str) -> None:
        """Ask for a job to be stopped; `Cancelled` comes back as an event."""
        self._check_usable()
        self._link.order(lambda: self._conversation.cancel(job_id))

    def upload(self, source: bytes | str | Path | Content, kind: ContentKind = "media") -> str:
        """Make a content known to the backend; it travels only if the backend lacks it.

        Jobs that name the hash wait for it by themselves. Files are read here once to hash them.

        Args:
            source: the bytes, or the path of a file, which must not change while it is in use; or
                what was hashed before (`content`).
            kind: what it is, for people.

        Returns:
            The content hash to put into requests.

        Raises:
            BackendError: the file cannot be read.
        """
        self._check_usable()
        try:
            content = source if isinstance(source, Content) else read_content(source, kind)
        except OSError as error:
            raise BackendError(
                f"cannot read {source!s} ({error.strerror or error}): check the path"
            ) from error
        self._link.order(lambda: self._conversation.upload(content))
        return content.content_hash

    def poll(self) -> list[Any]:
        """Events since the last call, oldest first; never blocks.

        They are `StateChanged` and the messages `Accepted`, `Progress`, `Result`, `Failure`,
        `Cancelled` and `Stored`.
        """
        if self._steps is not None and not self._is_closed:
            self._steps.step()
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
        self._take_first(
            lambda _: False, deadline, lambda: self._state.name in ("ready", "refused", "closed")
        )
        welcome = self.welcome
        if self._state.name != "ready" or welcome is None:
            raise BackendUnavailable(self._state.reason)
        return welcome

    def report(self, timeout_s: float = 10.0) -> dict[str, Any]:
        """How the backend does: sessions, jobs, workers, memory (docs/watching.md).

        Raises:
            BackendTimeout: it did not answer in time.
            BackendUnavailable: this client is closed.
        """
        self._check_usable()
        self._link.order(self._conversation.ask_report)
        deadline = time.monotonic() + timeout_s
        event = self._take_first(
            lambda event: isinstance(event, Report), deadline, lambda: self._is_closed
        )
        if event is None:
            raise BackendTimeout(f"the backend gave no report within {timeout_s:g} s: ask again")
        return event.report

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
        matches = self._is_about(job_id)
        while True:
            event = self._take_first(matches, deadline, self._is_hopeless)
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

    def _is_about(self, job_id: str) -> Callable[[Any], bool]:
        """Tells the events of one job. Results of others that come before it are acknowledged as
        they pass: the backend sends a few at a time, and the one waited for may be behind them."""
        passed: set[tuple[str, int]] = set()

        def matches(event: Any) -> bool:
            if getattr(event, "job", None) == job_id:
                return True
            if isinstance(event, Result) and (event.job, event.revision) not in passed:
                passed.add((event.job, event.revision))
                self._acknowledge(event)
            return False

        return matches

    def _take_first(
        self, matches: Callable[[Any], bool], deadline: float, give_up: Callable[[], bool]
    ) -> Any | None:
        """`Inbox.take_first`, with the connection going on meanwhile."""
        if self._steps is None:
            return self._inbox.take_first(matches, deadline, give_up)
        while True:
            event = self._inbox.take_first(matches, 0.0, give_up)
            left_s = deadline - time.monotonic()
            if event is not None or left_s <= 0 or give_up():
                return event
            self._steps.wait(min(left_s, 1.0))

    def _ends_within(self, timeout_s: float) -> bool:
        """Whether the connection, told to, ends in time."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        deadline = time.monotonic() + timeout_s
        while self._steps is not None and not self._steps.has_ended:
            if time.monotonic() > deadline:
                return False
            self._steps.wait(0.05)
        return True

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
            self._link.order(lambda: self._conversation.acknowledge(event))

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise BackendUnavailable(
                "this client belongs to another process: make a new one after a fork"
            )
        if self._is_closed:
            raise BackendUnavailable("this client is closed: make a new one")

    def _set_state(self, name: StateName, reason: str) -> None:
        """How the connection stands; called by the worker thread."""
        if name != "ready" and self._state.name == "ready":
            self._lost_since = time.monotonic()
        changed = (name, reason) != (self._state.name, self._state.reason)
        self._state = ConnectionState(name, reason)
        if changed:
            self._inbox.put(StateChanged(self._state))
        self._inbox.wake()
