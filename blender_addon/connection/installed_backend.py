# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend that was installed for this user: where its installer noted it, and whether it holds.

tools/install/install_backend.py writes the note, a small JSON file. It may have been damaged or
written by something else, so everything in it is checked, and of all it says only the path of a
Python is ever run, and only when the artist presses Start Here. No bpy here.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posefit_shared.user_folder import user_folder

NOTE_FORMAT = 1
"""Version of the note's layout that is read here."""
MAX_NOTE_BYTES = 16 << 10
MAX_WORD, MAX_PATH = 80, 4096
"""Longest text shown, and longest path taken, in characters."""


class BackendNoteError(ValueError):
    """The note is there and cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class InstalledBackend:
    """A backend as its installer noted it."""

    python: Path
    """The Python that has posefit; it was there when this was read."""
    version: str
    """posefit's version."""
    device: str
    """What it computes on."""
    installed: str
    """The day of the installation."""


@dataclass(frozen=True)
class BackendChoice:
    """Which Python Start Here runs."""

    python: Path | None
    """None where there is none to run."""
    words: str
    """What the artist should know of it, one sentence; empty where it was chosen by hand."""
    is_problem: bool = False
    """Whether something has to be mended."""


def note_path() -> Path:
    """Where the installer notes a backend for this user; it uses the same rule."""
    return user_folder() / "backend.json"


def choose_backend(chosen: str, note: Path | None = None) -> BackendChoice:
    """The Python that was chosen by hand, else the installed backend's, else none and why.

    Args:
        chosen: absolute path of the Python that the artist chose; empty where none was.
        note: where the installer's note lies; its usual place unless given.
    """
    if chosen:
        return BackendChoice(Path(chosen), "")
    try:
        backend = read_note(note_path() if note is None else note)
    except BackendNoteError as error:
        return BackendChoice(None, str(error), is_problem=True)
    if backend is None:
        return BackendChoice(None, "No backend is installed on this machine")
    words = f"Installed: posefit {backend.version} on {backend.device} ({backend.installed})"
    return BackendChoice(backend.python, words)


def read_note(path: Path) -> InstalledBackend | None:
    """What an installer noted; none where there is no note.

    Raises:
        BackendNoteError: the note is damaged, or what it names is gone.
    """
    content = _read_bounded(path)
    if content is None:
        return None
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _broken(path, "it is no JSON text") from None
    if not isinstance(found, dict):
        raise _broken(path, f"it holds a {type(found).__name__}, expected an object")
    if found.get("posefit_backend") != NOTE_FORMAT:
        raise _broken(path, f"its format is not {NOTE_FORMAT}")
    python = Path(_text(path, found, "python", MAX_PATH))
    if not python.is_absolute():
        raise _broken(path, "its path of Python is not absolute")
    if not _is_program(python):
        raise BackendNoteError(
            f"the installed backend's Python is gone ({python}): run the installer again"
        )
    words = (_text(path, found, name, MAX_WORD) for name in ("version", "device", "installed"))
    return InstalledBackend(python, *words)


def _read_bounded(path: Path) -> bytes | None:
    """A small plain file's content; none where there is no file."""
    try:
        kind = path.stat()
        if not stat.S_ISREG(kind.st_mode):
            raise _broken(path, "it is no plain file")
        if sys.platform != "win32" and kind.st_mode & stat.S_IWOTH:
            raise _broken(path, "every user of this machine may change it")
        with path.open("rb") as file:
            content = file.read(MAX_NOTE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _broken(path, f"it cannot be read: {error.strerror}") from error
    if len(content) > MAX_NOTE_BYTES:
        raise _broken(path, f"it is larger than {MAX_NOTE_BYTES >> 10} KiB")
    return content


def _text(path: Path, found: dict[Any, Any], name: str, longest: int) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise _broken(path, f"its {name} is no text of 1 to {longest} characters")
    return value


def _is_program(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.X_OK)
    except OSError:
        return False


def _broken(path: Path, why: str) -> BackendNoteError:
    return BackendNoteError(f"the note of the installed backend, {path}, cannot be used ({why}): "
                            "run the installer again")  # fmt: skip
