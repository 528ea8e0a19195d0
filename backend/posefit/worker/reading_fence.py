# SPDX-License-Identifier: Apache-2.0
"""Which files may be opened while something that a client sent is read.

Readers of other tools' files look beside them and follow names that stand in them. Inside a fence
every open of Python's own goes through one check, so that no reader has to be trusted to have made
it: links and `..` are followed first, then the file must lie below one of the folders.
"""

from __future__ import annotations

import errno
import os
import site
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import posefit_shared

__all__ = ["OutsideFence", "fenced"]

_folders: ContextVar[tuple[str, ...] | None] = ContextVar("_folders", default=None)


class OutsideFence(PermissionError):  # noqa: N818  # what happened, as with FileNotFoundError
    """A file outside the folders; whether it exists is not said."""


@contextmanager
def fenced(folders: Sequence[Path]) -> Iterator[None]:
    """Let this thread open files below these folders only, and Python's own.

    Args:
        folders: what may be read.

    Raises:
        OutsideFence: inside the context, wherever another file is opened.
    """
    _install()
    token = _folders.set(tuple(os.path.realpath(folder) for folder in folders) + _own_folders())
    try:
        yield
    finally:
        _folders.reset(token)


@cache
def _install() -> None:
    sys.addaudithook(_check_open)


@cache
def _own_folders() -> tuple[str, ...]:
    """Where modules and their data lie: they are loaded when they are first needed."""
    own = [sys.prefix, sys.base_prefix, *site.getsitepackages()]
    own += [str(Path(__file__).parents[1]), str(Path(str(posefit_shared.__file__)).parent)]
    return tuple({os.path.realpath(entry) for entry in own} - {os.path.sep})


def _check_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open":
        return
    folders = _folders.get()
    if folders is None or isinstance(arguments[0], int):
        return
    real = os.path.realpath(os.fsdecode(arguments[0]))
    if not any(real == folder or real.startswith(folder + os.sep) for folder in folders):
        reason = "it is outside the media roots of this backend"
        raise OutsideFence(errno.EACCES, reason)
