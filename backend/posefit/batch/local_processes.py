# SPDX-License-Identifier: Apache-2.0
"""Jobs in processes of this machine, each of which may crash or hang without harm to the others.

A process does one job after another, so that network and body are loaded once, and is renewed after
some, so that what libraries leave behind does not pile up.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..child_processes import kill_process, words_for_exit
from .executor import Event, Failed, Finished, Progress
from .jobs import Job

__all__ = ["LocalProcesses", "ProcessLimits"]

_EXIT_S = 10.0


@dataclass(frozen=True)
class ProcessLimits:
    """When a process is ended."""

    hang_seconds: float = 600.0
    """No sign of progress for so long: the job hangs."""
    job_seconds: float = 0.0
    """Longest time for a job; 0: no limit."""
    jobs_a_process: int = 100
    """After so many jobs a process makes room for a new one."""


class _Process:
    """One worker process, and the job it is at."""

    def __init__(self, command: list[str], threads: int, answers: queue.Queue) -> None:
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        if threads:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            encoding="utf-8", start_new_session=sys.platform != "win32", env=environment,
        )  # fmt: skip
        self.job: Job | None = None
        self.done = 0
        self.began_at = self.sign_at = time.monotonic()
        threading.Thread(target=self._read, args=(answers,), daemon=True).start()

    def begin(self, job: Job, folder: Path, fingerprint: str, log: Path, kept: Path) -> None:
        self.job = job
        self.began_at = self.sign_at = time.monotonic()
        order = {
            "job": job.to_map(), "folder": str(folder), "fingerprint": fingerprint,
            "log": str(log.resolve()), "kept": str(kept),
        }  # fmt: skip
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):  # it has died; the end of its output tells
            self.popen.stdin.write(json.dumps(order) + "\n")
            self.popen.stdin.flush()

    def _read(self, answers: queue.Queue) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with contextlib.suppress(ValueError):
                answers.put((self, json.loads(line)))
        answers.put((self, None))

    def exit_status(self) -> int:
        """How it ended, once it says no more; it is ended if it lives on."""
        try:
            return self.popen.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            kill_process(self.popen)
            return self.popen.wait()

    def end(self) -> None:
        """End it at once, with all that it started."""
        kill_process(self.popen)
        if self.popen.stdin is not None:
            with contextlib.suppress(OSError):
                self.popen.stdin.close()


class LocalProcesses:
    """An executor of worker processes.

    Args:
        devices: the device of each process; their number is how many jobs are under way at once.
        machine: what `handlers.Machine` takes, apart from the device.
        limits: when processes are ended.
        handlers: module with `run_job` and `Machine`.
    """

    def __init__(
        self,
        devices: list[str],
        machine: dict[str, Any],
        limits: ProcessLimits | None = None,
        handlers: str = "posefit.batch.work",
    ) -> None:
        self._devices = devices
        self._machine = machine
        self._limits = limits or ProcessLimits()
        self._handlers = handlers
        self._answers: queue.Queue[tuple[_Process, dict[str, Any] | None]] = queue.Queue()
        self._places: list[_Process | None] = [None] * len(devices)

    @property
    def slots(self) -> int:
        """One job for each process."""
        return len(self._devices)

    def submit(self, job: Job, folder: Path, fingerprint: str, log: Path, kept: Path) -> None:
        """Begin a job in a process that is free."""
        for k, process in enumerate(self._places):
            if process is not None and process.job is None:
                process.begin(job, folder, fingerprint, log, kept)
                return
            if process is None:
                process = self._places[k] = self._start(self._devices[k])
                process.begin(job, folder, fingerprint, log, kept)
                return
        raise AssertionError("a job was submitted while no slot was free")

    def events(self, timeout_s: float) -> list[Event]:
        """What processes say, and which of them have died or hang."""
        found: list[Event] = []
        with contextlib.suppress(queue.Empty):
            answer = self._answers.get(timeout=timeout_s)
            while True:
                found += self._event(*answer)
                answer = self._answers.get_nowait()
        now = time.monotonic()
        for process in self._places:
            if process is not None and process.job is not None:
                words = self._reason_to_end(process, now)
                if words:
                    found.append(Failed(process.job.name, "broke", words))
                    self._remove(process)
        return found

    def close(self) -> None:
        """End all processes."""
        for process in self._places:
            if process is not None:
                process.end()
        self._places = [None] * len(self._devices)

    def _start(self, device: str) -> _Process:
        machine = json.dumps({**self._machine, "device": device})
        command = [sys.executable, "-m", "posefit.batch.job_process", self._handlers, machine]
        cores = os.cpu_count() or 1
        threads = max(1, cores // self.slots) if self.slots > 1 else 0
        return _Process(command, threads, self._answers)

    def _event(self, process: _Process, answer: dict[str, Any] | None) -> list[Event]:
        if process not in self._places:  # ended by us; what it still said counts no more
            return []
        job = process.job
        if answer is None:
            words = words_for_exit(process.exit_status())
            self._remove(process)
            return [] if job is None else [Failed(job.name, "broke", words)]
        process.sign_at = time.monotonic()
        if job is None:
            return []
        if answer["event"] == "progress":
            return [Progress(job.name, answer["fraction"], answer["stage"])]
        process.job, process.done = None, process.done + 1
        if process.done >= self._limits.jobs_a_process:
            self._remove(process)
        if answer["event"] == "finished":
            return [Finished(job.name)]
        return [Failed(job.name, answer["kind"], answer["words"])]

    def _reason_to_end(self, process: _Process, now: float) -> str:
        limits = self._limits
        if now - process.sign_at > limits.hang_seconds:
            return f"the job hung: no sign of progress for {limits.hang_seconds:g} s"
        if limits.job_seconds and now - process.began_at > limits.job_seconds:
            return f"the job took longer than the {limits.job_seconds:g} s that are allowed"
        return ""

    def _remove(self, process: _Process) -> None:
        process.end()
        self._places[self._places.index(process)] = None
