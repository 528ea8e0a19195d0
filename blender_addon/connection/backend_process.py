# SPDX-License-Identifier: GPL-3.0-or-later
"""A local backend as a process of its own: started on a free port, stopped with Blender.

No bpy here: who starts it, and with which Python, is the operators' business. The backend writes
its address into a file once it listens, and the keys of its only client into another that nobody
else can read; its output goes to a log file that the user can read. A broker that dies is started
again by its keeper, on the same port and with the same keys. It all ends when its standard input
does, so a Blender that crashes leaves none behind.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from posefit_shared.key_files import CurveKeys, read_client_keys

STOP_SECONDS = 5.0
"""How long a backend may take to stop on request before it is killed."""

_REPORT = re.compile(r"[\d-]+ [\d:,]+ (DEBUG|INFO) ")
"""How lines begin in which a backend reports its ordinary work."""


class BackendStartError(RuntimeError):
    """The local backend could not be started; the message says why."""


@dataclass
class BackendProcess:
    """One running backend; made by `start`."""

    process: subprocess.Popen[bytes]
    """The backend."""
    log_path: Path
    """Where its output goes."""
    ready_path: Path
    """Where it writes its address."""
    keys_path: Path
    """Where it writes the keys of its only client, which is this Blender."""
    exit_words: str = field(default="", init=False)
    """How it ended, once it has."""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        if self.exit_words:
            return False
        code = self.process.poll()
        if code is None:
            return True
        self.exit_words = end_words(code, self.log_path)
        return False

    def address(self) -> str | None:
        """Where it listens; none while it starts."""
        if not self.is_running or not self.ready_path.is_file():
            return None
        words = self.ready_path.read_text(encoding="utf-8").split()
        return words[0] if words else None

    def keys(self) -> CurveKeys:
        """How this Blender, and nobody else, is let in; there once the address is.

        Raises:
            KeyFileError: the keys cannot be read, or others could have.
        """
        return read_client_keys(self.keys_path)

    def stop(self) -> None:
        """End it and its workers, gently first; does nothing where it has ended already."""
        atexit.unregister(self.stop)
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.poll() is None:
            _signal(self.process, gently=True)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                _signal(self.process, gently=False)
                self.process.wait(STOP_SECONDS)
        self.exit_words = self.exit_words or "the backend was stopped"
        for path in (self.ready_path, self.keys_path):
            path.unlink(missing_ok=True)


def start(
    python: Path, media_roots: Sequence[Path], folder: Path, options: Sequence[str] = ()
) -> BackendProcess:
    """Start a backend on a free port of this machine; returns at once.

    Args:
        python: a Python that has posefit installed.
        media_roots: folders whose footage it may open by path.
        folder: where its log and its address go.
        options: more words for its command line.

    Raises:
        BackendStartError: there is no such Python, or the folder cannot be written.
    """
    if not python.is_file():
        raise BackendStartError(
            f"no Python at {python}: choose the one that posefit's backend was installed with"
        )
    log_path = folder / "backend.log"
    ready_path = folder / f"backend-{os.getpid()}.address"
    command = [str(python), "-m", "posefit.server", "--bind", "tcp://127.0.0.1:0"]
    command += ["--exit-with-stdin", "--is-kept", "--ready-file", str(ready_path)]
    keys_path = ready_path.with_suffix(".keys")
    command += ["--launch-keys", str(keys_path), "--crash-folder", str(folder / "crashes")]
    command += options
    if media_roots:
        command += ["--media-roots", *(str(root) for root in media_roots)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (ready_path, keys_path):
            path.unlink(missing_ok=True)
        with log_path.open("wb") as log:
            process = _spawn(command, log.fileno())
    except OSError as error:
        raise BackendStartError(f"the backend could not be started: {error}") from error
    backend = BackendProcess(process, log_path, ready_path, keys_path)
    atexit.register(backend.stop)
    return backend


def end_words(code: int, log: Path) -> str:
    """How a backend ended, for the artist.

    Args:
        code: its exit status; below 0 the signal that ended it.
        log: where its output went.
    """
    if code == -9:  # SIGKILL, which Windows has no name for
        return "the backend was killed from outside, often because the machine's memory was full"
    return f"the backend ended (status {code}): {last_complaint(log)}"


def last_complaint(path: Path) -> str:
    """The last line of a log that is no report of ordinary work."""
    try:
        text = path.read_bytes()[-4096:].decode("utf-8", "replace")
    except OSError:
        return "no log"
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if line and not _REPORT.match(line)]
    return telling[-1] if telling else "it did not say why"


def _spawn(command: list[str], log: int) -> subprocess.Popen[bytes]:
    # Blender's own Python must not leak into the other one.
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    if sys.platform == "win32":
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=kept,
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW,
        )
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=kept,
        start_new_session=True,  # its workers then end with it
    )


def _signal(process: subprocess.Popen[bytes], gently: bool) -> None:
    if sys.platform == "win32":
        process.terminate() if gently else process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGTERM if gently else signal.SIGKILL)
    except ProcessLookupError:
        return
