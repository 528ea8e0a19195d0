# SPDX-License-Identifier: Apache-2.0
"""Who is let in: the broker's answer to every encrypted handshake.

ZeroMQ asks before a connection comes into being (ZAP, RFC 27), on a socket inside the process; a
client whose key is not on the list never gets a message through. Every later message carries the
key that opened its connection, so that a client that is revoked meanwhile is known again.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import zmq

from posefit_shared.key_files import KeyFileError, write_client_keys

from .config import ServeConfig, ServeError
from .keeper_line import KeeperLine
from .keyring import KeyPair, Keyring, make_client_keys, make_pair

__all__ = ["Gate", "open_gate"]

logger = logging.getLogger(__name__)

ZAP_ADDRESS = "inproc://zeromq.zap.01"
DOMAIN = b"posefit"
REFRESH_S = 1.0
"""How often the list is read again."""


class Gate:
    """Keys of one backend; used by the broker's thread only."""

    def __init__(self, pair: KeyPair, clients: dict[str, str], keyring: Keyring | None) -> None:
        """Know who may come in.

        Args:
            pair: the backend's own.
            clients: name by public key.
            keyring: where the list is read again; none: it never changes.
        """
        self.socket: zmq.Socket | None = None
        """Where ZeroMQ asks."""
        self._pair, self._clients, self._keyring = pair, clients, keyring
        self._read_at = time.monotonic()

    def guard(self, front: zmq.Socket, context: zmq.Context) -> None:
        """Let a socket, not bound yet, take encrypted connections of known clients only."""
        self.socket = socket = context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.bind(ZAP_ADDRESS)
        front.curve_server = True
        front.curve_publickey = bytes.fromhex(self._pair.public_key)
        front.curve_secretkey = bytes.fromhex(self._pair.secret_key)
        front.zap_domain = DOMAIN

    def name_of(self, key: str) -> str | None:
        """What a client is called, by its key; none: it is not let in."""
        return self._clients.get(key)

    def answer(self) -> None:
        """Answer every handshake that waits."""
        assert self.socket is not None
        while True:
            try:
                identity, _, version, request, domain, address, _, mechanism, *rest = (
                    self.socket.recv_multipart(zmq.NOBLOCK)
                )
            except zmq.Again:
                return
            key = rest[0].hex() if mechanism == b"CURVE" and domain == DOMAIN and rest else ""
            name = self.name_of(key)
            if name is None:
                where = address.decode("ascii", "replace")
                logger.warning("a client at %s was turned away: its key is not allowed", where)
            code, words = (b"200", b"OK") if name else (b"400", b"this key is not allowed")
            user = key.encode() if name else b""
            self.socket.send_multipart([identity, b"", version, request, code, words, user, b""])

    def refresh(self, now: float) -> bool:
        """Read the list again when it is time; whether it has changed."""
        if self._keyring is None or now - self._read_at < REFRESH_S:
            return False
        self._read_at = now
        try:
            clients = self._keyring.allowed()
        except KeyFileError as error:
            logger.error("the list of clients stays as it was: %s", error)
            return False
        changed, self._clients = clients != self._clients, clients
        return changed


def user_of(parts: list[Any]) -> str:
    """The key that opened the connection of a received message; empty without encryption."""
    try:
        return str(parts[0].get("User-Id")) if parts else ""
    except zmq.ZMQError:  # the connection has no such property
        return ""


def open_gate(config: ServeConfig, keeper: KeeperLine | None = None) -> Gate | None:
    """The gate that a backend's settings ask for; none: plain loopback.

    Args:
        config: which keys.
        keeper: remembers the keys of a launch, so that its client is let in by the next broker.

    Raises:
        ServeError: the keys cannot be read, made or written.
    """
    try:
        if config.launch_keys is not None:
            return _launch_gate(config.launch_keys, keeper)
        if not config.curve:
            return None
        keyring = Keyring(config.key_folder)
        clients = keyring.allowed()
        if not clients:
            logger.warning("no client is allowed yet: posefit keys new, posefit keys allow")
        return Gate(keyring.backend_pair(), clients, keyring)
    except KeyFileError as error:
        raise ServeError(str(error)) from error


def _launch_gate(path: Path, keeper: KeeperLine | None) -> Gate:
    """The gate of a launch: its keys are made once, and a later broker goes on with them."""
    if keeper is not None and "launch" in keeper.remembered:
        public, secret, client_key = keeper.remembered["launch"]
        return Gate(KeyPair(public, secret), {client_key: "launch"}, None)
    pair = make_pair()
    client = make_client_keys(pair.public_key)
    write_client_keys(path, client)
    if keeper is not None:
        keeper.remember(launch=[pair.public_key, pair.secret_key, client.public_key])
    return Gate(pair, {client.public_key: "launch"}, None)
