# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a backend: the connection, the backend that was started here, its log, its answers.

Part of the session, which steps it; no bpy here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from posefit_shared.addresses import AddressError
from posefit_shared.client import BackendError, Client
from posefit_shared.key_files import CurveKeys, KeyFileError

from . import backend_process
from .connection_view import ConnectionView, describe_connection


class ConnectError(RuntimeError):
    """No connection could be begun; the message says why."""


class AnswerClock:
    """How long a backend's answers take to get here, as the one who asks sees it."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        """How long the last answer took; none before the first."""
        self._asked: dict[str, float] = {}

    def ask(self, name: str) -> None:
        """Something is asked now."""
        self._asked[name] = time.monotonic()

    def hear(self, name: str) -> None:
        """Its answer is here, the first time it is seen."""
        asked = self._asked.pop(name, None)
        if asked is not None:
            self.seconds = time.monotonic() - asked


class BackendLink:
    """One connection, and the backend that was started for it where one was."""

    def __init__(self, client_name: str) -> None:
        self._client_name = client_name
        self.client: Client | None = None
        self.backend: backend_process.BackendProcess | None = None
        self.clock = AnswerClock()
        self._problem = ""
        self._log: Path | None = None

    def connect(self, address: str, keys: CurveKeys | None = None) -> None:
        """Begin to talk to a backend; returns at once.

        Args:
            address: where it listens.
            keys: of this client; none: the backend asks for none.

        Raises:
            ConnectError: the address is malformed or not allowed.
        """
        self.clock = AnswerClock()
        try:
            self.client = Client(address, curve_keys=keys, name=self._client_name, has_thread=False)
            self.client.start()
        except (AddressError, BackendError) as error:
            raise ConnectError(str(error)) from error
        self.clock.ask("hello")

    def start(
        self, python: Path, media_roots: Sequence[Path], folder: Path, options: Sequence[str]
    ) -> None:
        """Start a backend on this machine; `watch` connects to it once it listens.

        Raises:
            BackendStartError: it could not be started.
        """
        self.backend = backend_process.start(python, media_roots, folder, options)
        self._log = self.backend.log_path

    def close(self) -> None:
        """Leave the backend; one that was started here is stopped. Its log stays readable."""
        self._close_client(1.0)
        if self.backend is not None:
            self.backend.stop()
        self.backend, self._problem = None, ""

    def watch(self) -> str:
        """See to the backend that was started here; gives back how it ended if it just did."""
        if self.is_connected:
            self.clock.hear("hello")
        if self.backend is None:
            return ""
        if not self.backend.is_running:
            return self._give_up(self.backend.exit_words)
        if self.client is None and (address := self.backend.address()) is not None:
            try:
                self.connect(address, self.backend.keys())
            except (ConnectError, KeyFileError) as error:
                return self._give_up(str(error))
        return ""

    def _give_up(self, words: str) -> str:
        self.close()
        self._problem = words
        return words

    @property
    def is_connected(self) -> bool:
        """Whether a backend is there."""
        return self.client is not None and self.client.state.name == "ready"

    def knows(self, kind: str) -> bool:
        """Whether the backend runs this kind of job, or has not yet said what it runs."""
        welcome = None if self.client is None else self.client.welcome
        return welcome is not None and (not welcome.kinds or kind in welcome.kinds)

    @property
    def view(self) -> ConnectionView:
        """The connection in words."""
        is_starting = self.backend is not None
        return describe_connection(self.client, is_starting, self._problem, self.clock.seconds)

    @property
    def has_log(self) -> bool:
        """Whether the last backend that was started here has a log, also after its end."""
        return self._log is not None and self._log.is_file()

    def log_text(self) -> str:
        """The log of the last backend that was started here."""
        if self._log is None:
            return ""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _close_client(self, timeout_s: float) -> None:
        if self.client is not None:
            self.client.close(timeout=timeout_s)
        self.client = None
