# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to a backend in words, for the panel: what is there, or why there is nothing."""

from __future__ import annotations

from dataclasses import dataclass

from posefit_shared import __version__
from posefit_shared.client import Client
from posefit_shared.messages import Welcome

STARTING = "starting"
"""What a backend calls its device while no worker is ready."""


@dataclass(frozen=True)
class ConnectionView:
    """The connection as the panel shows it."""

    kind: str
    """`off`, `starting`, `connecting`, `connected` or `lost`."""
    words: str
    details: tuple[str, ...] = ()
    """What to know or do beside it."""
    more: tuple[str, ...] = ()
    """What else is known of the backend, for who looks for it."""


def describe_connection(
    client: Client | None, is_starting: bool, problem: str, answer_s: float | None
) -> ConnectionView:
    """A connection in words.

    Args:
        client: the connection; none before there is one.
        is_starting: whether a backend was started here that does not listen yet.
        problem: how the last backend that was started here ended; empty if it didn't.
        answer_s: how long the backend's last answer took to arrive here, seconds.
    """
    if client is None:
        if is_starting:
            return ConnectionView("starting", "The backend is starting")
        if problem:
            return ConnectionView("lost", problem, ("Backend Log has what it said before",))
        return ConnectionView("off", "Not connected")
    state, welcome = client.state, client.welcome
    if state.name == "ready" and welcome is not None:
        details, more = _backend_words(welcome, answer_s)
        return ConnectionView("connected", f"Connected to {client.address}", details, more)
    if state.name == "connecting":
        return ConnectionView("connecting", state.reason)
    return ConnectionView("lost", state.reason, _loss_words(client))


def _backend_words(
    welcome: Welcome, answer_s: float | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the artist should know of a backend, and what else is known of it."""
    if welcome.device == STARTING:
        details = ["Its worker is still loading; work that is sent now waits for it"]
    else:
        details = [f"Device: {welcome.device or 'unknown'}"]
    more = []
    version = f"posefit {welcome.server_version}"
    if welcome.server_version == __version__:
        more.append(version)
    else:
        details.append(
            f"{version}; this extension is of {__version__}, update the older of the two"
        )
    if welcome.models:
        more.append(f"Models: {', '.join(welcome.models)}")
    if answer_s is not None:
        more.append(f"Last answer within {_duration(answer_s)}")
    return tuple(details), tuple(more)


def _loss_words(client: Client) -> tuple[str, ...]:
    if client.state.name == "refused":
        return ("Nothing was sent; Disconnect, then connect to one that fits",)
    if client.session is not None:
        return ("It connects again by itself, and work that was sent may go on",)
    return ("Just started, it needs some seconds; any other program on that port never answers",)


def _duration(seconds: float) -> str:
    """A time that was measured from one step of the session to another, rounded up."""
    milliseconds = max(1, int(seconds * 1000) + 1)
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{seconds:.1f} s"
