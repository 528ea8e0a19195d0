# SPDX-License-Identifier: Apache-2.0
"""Where a client stands and what can go wrong: errors, states and settings without any socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
