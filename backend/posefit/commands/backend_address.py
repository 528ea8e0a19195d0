# SPDX-License-Identifier: Apache-2.0
"""Which backend a command talks to, and how it is let in; nothing here waits for torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from posefit_shared.client import Client
from posefit_shared.key_files import read_client_keys

__all__ = ["Server", "connect"]


@dataclass(frozen=True)
class Server:
    """A backend, and how to be let in."""

    address: str
    """Such as tcp://127.0.0.1:5557."""
    key_file: Path | None = None
    """Keys of this client; none: the backend is on this machine and asks for none."""


def connect(server: Server, name: str) -> Client:
    """A client of a backend, not started yet.

    Raises:
        BackendUnavailable: the address is malformed or needs keys.
        KeyFileError: the keys cannot be read or trusted.
    """
    keys = None if server.key_file is None else read_client_keys(server.key_file)
    return Client(server.address, curve_keys=keys, name=name)
