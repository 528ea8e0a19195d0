# SPDX-License-Identifier: Apache-2.0
"""Which addresses a backend may listen on and a client may call.

Traffic that leaves the machine must be encrypted and both sides known to each other, so without
keys only loopback addresses pass.
"""

from __future__ import annotations

import ipaddress
import re

DEFAULT_ADDRESS = "tcp://127.0.0.1:5557"
"""Where `posefit serve` listens unless told otherwise."""

_TCP = re.compile(r"tcp://(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>\d{1,5}|\*)")


class AddressError(ValueError):
    """An address that is malformed or that may not be used; the text says what would do."""


def check_address(address: str, *, has_keys: bool = False, may_pick_port: bool = False) -> str:
    """The address itself, if it may be used.

    Args:
        address: `tcp://host:port`, or `ipc://path` where the system has such sockets.
        has_keys: whether both sides have CURVE keys, so that other machines may be reached.
        may_pick_port: whether port 0 or `*` (any free port) is meaningful here.

    Raises:
        AddressError: it is malformed, or not a loopback address and there are no keys.
    """
    if re.fullmatch(r"ipc://[^\0]{1,100}", address):
        return address
    match = _TCP.fullmatch(address)
    if match is None:
        raise AddressError(f"address {address[:80]!r} is not of the form tcp://127.0.0.1:5557")
    port = match["port"]
    if port in ("*", "0"):
        if not may_pick_port:
            raise AddressError(f"address {address} names no port, expected 1 to 65535")
    elif not 1 <= int(port) <= 65535:
        raise AddressError(f"address {address} has port {port}, expected 1 to 65535")
    if not has_keys and not is_loopback(match["host"]):
        raise AddressError(
            f"address {address} is reachable from other machines, which needs keys on both sides: "
            "give them (posefit keys, docs/security.md), or use a loopback address such as "
            "tcp://127.0.0.1:5557"
        )
    return address


def needs_keys(address: str) -> bool:
    """Whether a backend at an address can be reached with keys only: it is on another machine."""
    match = _TCP.fullmatch(address)
    return match is not None and not is_loopback(match["host"])


def is_loopback(host: str) -> bool:
    """Whether a host name or address stays on this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
