# SPDX-License-Identifier: Apache-2.0
"""The backend's own keys and the list of clients that it lets in, as files in one folder.

`backend.json` holds the backend's pair, for its owner alone; `allowed` has one client a line, name
and public key. The list may change while a backend runs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from posefit_shared.key_files import (
    CurveKeys,
    KeyFileError,
    check_key,
    read_private,
    write_private,
)
from posefit_shared.user_folder import user_folder

__all__ = ["KeyPair", "Keyring", "make_client_keys", "make_pair"]

MAX_CLIENTS = 500
"""Clients that one backend may know."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class KeyPair:
    """A public key and its secret, 64 hexadecimal digits each."""

    public_key: str
    secret_key: str = field(repr=False)


def make_pair() -> KeyPair:
    """A new pair.

    Raises:
        KeyFileError: this machine's ZeroMQ was built without encryption.
    """
    if not zmq.has("curve"):
        raise KeyFileError("this Python's ZeroMQ has no encryption (CURVE): install pyzmq by pip")
    public, secret = zmq.curve_keypair()
    return KeyPair(z85.decode(public).hex(), z85.decode(secret).hex())


def make_client_keys(server_key: str) -> CurveKeys:
    """A new client's keys for a backend."""
    pair = make_pair()
    return CurveKeys(pair.public_key, pair.secret_key, server_key)


class Keyring:
    """The files of one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Nothing is read or made yet.

        Args:
            folder: where the files lie; the user's own folder of posefit unless given.
        """
        self.folder = folder or user_folder() / "keys"
        self._own, self._allowed = self.folder / "backend.json", self.folder / "allowed"

    def backend_pair(self) -> KeyPair:
        """The backend's pair, made when it is first asked for.

        Raises:
            KeyFileError: the file cannot be read, written or trusted.
        """
        if not self._own.exists():
            pair = make_pair()
            values = {"public_key": pair.public_key, "secret_key": pair.secret_key}
            write_private(self._own, json.dumps(values, indent=1) + "\n")
        try:
            values = json.loads(read_private(self._own))
            return KeyPair(check_key(values["public_key"]), check_key(values["secret_key"]))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, KeyFileError):
                raise
            raise KeyFileError(
                f"{self._own} holds no keys: remove it, and every client needs a new key file"
            ) from error

    def allowed(self) -> dict[str, str]:
        """Name of each client that is let in, by its public key.

        Raises:
            KeyFileError: the list cannot be read or trusted.
        """
        if not self._allowed.exists():
            return {}
        lines = [line.split() for line in read_private(self._allowed).splitlines()]
        lines = [line for line in lines if line and not line[0].startswith("#")]
        for line in lines:
            if len(line) != 2:
                raise KeyFileError(
                    f"{self._allowed} has a line of {len(line)} words, expected a name and a key"
                )
            _check_name(line[0])
        return {check_key(key, f"the key of {name}"): name for name, key in lines}

    def allow(self, name: str, key: str) -> None:
        """Let a client in.

        Raises:
            KeyFileError: the name or the key is malformed or taken, or there are too many.
        """
        clients = self.allowed()
        _check_name(name)
        check_key(key)
        if name in clients.values() and clients.get(key) != name:
            raise KeyFileError(f"there is a client {name} with another key: revoke it first")
        if clients.get(key, name) != name:
            raise KeyFileError(f"this key is allowed as {clients[key]} already")
        if len(clients) >= MAX_CLIENTS and key not in clients:
            raise KeyFileError(f"{MAX_CLIENTS} clients are allowed already: revoke some first")
        self._write({**clients, key: name})

    def revoke(self, name: str) -> None:
        """Let a client in no longer; a running backend cuts it off within a second or two.

        Raises:
            KeyFileError: nobody of that name is allowed.
        """
        clients = self.allowed()
        kept = {key: other for key, other in clients.items() if other != name}
        if len(kept) == len(clients):
            raise KeyFileError(f"no client is called {name}: posefit keys list has the names")
        self._write(kept)

    def _write(self, clients: dict[str, str]) -> None:
        lines = [f"{name} {key}\n" for key, name in sorted(clients.items(), key=lambda c: c[1])]
        write_private(self._allowed, "".join(lines))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise KeyFileError(
            f"a client's name is {name[:70]!r}, expected letters, digits, dots and dashes"
        )
