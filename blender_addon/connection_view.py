# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to a backend in words, for the panel."""

from __future__ import annotations

from dataclasses import dataclass

from posefit_shared.client import Client


@dataclass(frozen=True)
class ConnectionView:
    """The connection as the panel shows it."""

    kind: str
    """`off`, `starting`, `connecting`, `connected` or `lost`."""
    words: str
    details: tuple[str, ...] = ()


def describe_connection(client: Client | None, is_starting: bool, problem: str) -> ConnectionView:
    """A connection in words.

    Args:
        client: the connection; none before there is one.
        is_starting: whether a backend was started here that does not listen yet.
        problem: how the last backend that was started here ended; empty if it didn't.
    """
    if client is None:
        if is_starting:
            return ConnectionView("starting", "The backend is starting")
        return ConnectionView("lost" if problem else "off", problem or "Not connected")
    state, welcome = client.state, client.welcome
    if state.name == "ready" and welcome is not None:
        details = [f"Device: {welcome.device or 'unknown'}", f"posefit {welcome.server_version}"]
        details += [f"Models: {', '.join(welcome.models)}"] if welcome.models else []
        return ConnectionView("connected", f"Connected to {client.address}", tuple(details))
    return ConnectionView("connecting" if state.name == "connecting" else "lost", state.reason)
