# SPDX-License-Identifier: Apache-2.0
"""A real backend in processes of its own, for tests that talk to it and that do it harm."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posefit_shared.client import Client, ClientConfig
from posefit_shared.messages import PingRequest

HERE = Path(__file__).resolve().parent
PATIENCE_S = 60.0
"""Longest wait for anything on a machine that is busy with other things."""
QUICK = ClientConfig(hello_timeout_s=5.0, silence_limit_s=5.0, retry_s=0.05, retry_limit_s=0.3)


TEST_JOBS = (
    "posefit.server", "--handlers", "wire_handlers:run_job", "--limits.worker-restart-s", "0.05",
)  # fmt: skip
REAL_JOBS = ("posefit", "serve")


class Backend:
    """One `python -m posefit.server` with the jobs of `wire_handlers`, or another program."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        bind: str = "tcp://127.0.0.1:0",
        program: tuple[str, ...] = TEST_JOBS,
        device: str = "cpu",
    ) -> None:
        self.folder = folder
        self.log = folder / f"backend-{time.monotonic_ns()}.log"
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        command = [sys.executable, "-m", *program, "--bind", bind, "--device", device]
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(self.temporary)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=log,
                stdin=subprocess.PIPE,
            )  # fmt: skip
        self.address = self._read_address()

    def _read_address(self) -> str:
        lines: queue.Queue[bytes] = queue.Queue()
        assert self.process.stdout is not None
        stream = self.process.stdout
        threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
        line = lines.get(timeout=PATIENCE_S).decode()
        assert line.startswith("ready "), self.log.read_text()
        return line.split()[1]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def stop(self) -> int:
        """End it the polite way; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE_S)
        self._close()
        return status

    def stop_status(self) -> int:
        """The exit status, once it has ended by itself."""
        status = self.process.wait(PATIENCE_S)
        self._close()
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._close()

    def _close(self) -> None:
        for stream in (self.process.stdout, self.process.stdin):
            if stream is not None:
                stream.close()


def broker_of(backend: Backend) -> int:
    """The broker that a backend's keeper runs now."""
    brokers = [pid for pid in children_of(backend.process.pid) if "server.kept" in words_of(pid)]
    assert brokers, "there is no broker"
    return brokers[0]


def workers_of(backend: Backend) -> list[int]:
    """Processes that compute or stand by, of a backend with a keeper or without."""
    children = children_of(backend.process.pid)
    grandchildren = [pid for child in children for pid in children_of(child)]
    return [pid for pid in children + grandchildren if "worker.process" in words_of(pid)]


def children_of(pid: int) -> list[int]:
    """Processes that a process has started, which still run."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def words_of(pid: int) -> str:
    """The command line of a process; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextlib.contextmanager
def running_backend(folder: Path, *options: str, **more: Any) -> Iterator[Backend]:
    backend = Backend(folder, *options, **more)
    try:
        yield backend
    finally:
        if backend.process.returncode is None:
            backend.stop()


@contextlib.contextmanager
def connected(backend: Backend, **options) -> Iterator[Client]:
    with Client(backend.address, config=QUICK, **options) as client:
        client.wait_ready(PATIENCE_S)
        yield client


def ask(client: Client, text: str, **options) -> str:
    """Run one ping to its end; the text that came back."""
    job = client.submit(PingRequest(text, **options))
    return client.wait(job, PATIENCE_S).payload.text


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before, or between opening and reading
        return False


def eventually(condition, patience_s: float = PATIENCE_S) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
