# SPDX-License-Identifier: Apache-2.0
"""Keys of encrypted connections, and the files that hold them.

A key is 32 bytes, written as 64 hexadecimal digits: they pass through every shell and mail. Files
with a secret are readable by their owner alone, and are refused where others could have read or
changed them. Where keys are made and who is let in is the backend's business (`posefit keys`).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "CurveKeys", "KeyFileError", "check_key", "read_client_keys", "read_private", "write_private",
    "write_client_keys",
]  # fmt: skip

FORMAT = 1
"""Version of the layout of key files."""
MAX_FILE_BYTES = 64 << 10
_KEY = re.compile(r"[0-9a-f]{64}")
_HOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""Flags that one or the other system has: links are not followed, bytes not translated."""


class KeyFileError(ValueError):
    """Keys that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class CurveKeys:
    """What a client needs for an encrypted connection; each key 64 hexadecimal digits."""

    public_key: str
    """Of the client: what the backend's operator allows."""
    secret_key: str = field(repr=False)
    server_key: str
    """The backend's public key: the client talks to nobody else."""

    def __post_init__(self) -> None:
        for name in ("public_key", "secret_key", "server_key"):
            check_key(getattr(self, name), f"the {name.replace('_', ' ')}")


def check_key(text: Any, what: str = "the key") -> str:
    """The key itself, if it is one.

    Raises:
        KeyFileError: it is anything but 64 hexadecimal digits.
    """
    if not isinstance(text, str) or not _KEY.fullmatch(text):
        raise KeyFileError(f"{what} is no key, expected 64 hexadecimal digits")
    return text


def read_client_keys(path: Path) -> CurveKeys:
    """The keys in a file that `posefit keys new` or a backend wrote.

    Raises:
        KeyFileError: there is no such file, others may read it, or it holds no such keys.
    """
    values = _json_map(path, read_private(path))
    try:
        return CurveKeys(values["public_key"], values["secret_key"], values["server_key"])
    except KeyError as error:
        raise KeyFileError(f"{path} lacks {error}: make it again with posefit keys new") from None
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}; make it again with posefit keys new") from None


def write_client_keys(path: Path, keys: CurveKeys) -> None:
    """Write a client's keys for nobody but this user to read.

    Raises:
        KeyFileError: the file cannot be written.
    """
    values = {
        "posefit_keys": FORMAT,
        "public_key": keys.public_key,
        "secret_key": keys.secret_key,
        "server_key": keys.server_key,
    }
    write_private(path, json.dumps(values, indent=1) + "\n")


def _json_map(path: Path, text: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or values.get("posefit_keys") != FORMAT:
        raise KeyFileError(f"{path} is no file of posefit's keys: make one with posefit keys new")
    return values


def write_private(path: Path, text: str) -> None:
    """Write a text that only this user may read; it appears whole or not at all.

    Raises:
        KeyFileError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _HOW
        with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise KeyFileError(
            f"cannot write {path} ({error.strerror or error}): choose another place"
        ) from error


def read_private(path: Path) -> str:
    """A small text that only this user may read or change.

    Raises:
        KeyFileError: it is not there, no plain file, too large, or others may read or change it.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | _HOW), "rb") as file:
            _check_private(path, os.fstat(file.fileno()))
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(
            f"cannot read the key file {path} ({error.strerror or error}): check the path"
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise KeyFileError(f"{path} is larger than {MAX_FILE_BYTES >> 10} KiB, no file of keys is")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is no text, expected a file of posefit's keys") from None


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path} is no plain file, expected a file of posefit's keys")
    if sys.platform == "win32":
        return  # there the user's profile keeps others out
    if status.st_uid != os.getuid():
        raise KeyFileError(f"{path} belongs to another user: make keys of your own")
    if status.st_mode & 0o077:
        raise KeyFileError(
            f"other users of this machine may read {path}: take the key for known to others and "
            f"make a new one, or, if you are sure that it is not, chmod 600 {path}"
        )
