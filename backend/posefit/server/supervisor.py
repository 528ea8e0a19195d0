# SPDX-License-Identifier: Apache-2.0
"""Worker processes: started, watched, killed when they hang, started again when they die.

A worker is one process for one device. It gets its settings as one line of JSON on its standard
input, which then stays open: when the broker is gone the line breaks and the worker exits.
Beside the workers of a device one more process may stand by, to take the place of one that dies.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..child_processes import ChildProcess, kill_process, words_for_exit
from ..worker.crash_report import LastLines, write_crash_report
from ..worker.messages import FAULTS_FILE, Message, Stop, TakeOver
from ..worker.start import start_process
from .config import ServeConfig
from .devices import choose_devices
from .keeper_line import KeeperLine, KeptProcess
from .standby import may_start, pause_after_death
from .workers import Worker

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

RESTART_LIMIT_S = 30.0
"""Longest pause before a worker that keeps dying is started again."""


@dataclass
class Supervisor:
    """All workers of one backend; used by the broker's thread only."""

    config: ServeConfig
    address: str
    """Where workers call the broker."""
    content_folder: Path
    on_death: Callable[[Worker, str, bool], None]
    """Told (worker, reason in words, whether another try makes sense) after a process has ended."""
    send: Callable[[Worker, Message], bool]
    """Gives a message to a worker's process; false if that is not possible."""
    early: list[ChildProcess] = field(default_factory=list)
    """Processes that were started before this was there; taken first."""
    keeper: KeeperLine | None = None
    """Starts the processes that stand by, which then outlive the broker."""
    workers: list[Worker] = field(default_factory=list)
    standbys: list[Worker] = field(default_factory=list)
    """One for each device, if any are wanted."""
    _last_lines: LastLines = field(default_factory=LastLines)

    def start(self) -> None:
        """Start one worker for each device; standbys follow when these are ready."""
        logging.getLogger().addHandler(self._last_lines)
        devices = choose_devices(self.config.device, self.config.workers)
        self.workers = [Worker(device) for device in devices]
        if self.config.standby:
            names = dict.fromkeys(devices)
            self.standbys = [Worker(device, is_standby=True) for device in names]
        for worker in self.workers:
            self._spawn(worker)

    @property
    def everyone(self) -> list[Worker]:
        """Workers and standbys."""
        return self.workers + self.standbys

    def of_identity(self, identity: bytes) -> Worker | None:
        """The worker behind a connection."""
        return next((worker for worker in self.everyone if worker.identity == identity), None)

    def greet(self, identity: bytes, token: str) -> Worker | None:
        """The worker that knows this secret, now reachable under `identity`."""
        for worker in self.everyone:
            if worker.process is not None and secrets.compare_digest(worker.token, token):
                worker.identity = identity
                self._tell_to_take_over(worker)
                return worker
        return None

    def standby_is_ready(self, worker: Worker) -> None:
        """A process that was started as a standby has loaded everything."""
        if worker.is_standby:
            worker.state, worker.last_words = "idle", ""
            logger.info("standby for %s is ready", worker.device)

    def tick(self, now: float) -> None:
        """Notice dead and hung workers, and start those whose pause is over."""
        for worker in self.everyone:
            if worker.process is None:
                if self._may_start(worker, now):
                    self._spawn(worker)
            elif (status := worker.process.poll()) is not None:
                self._bury(worker, words_for_exit(status), can_retry=True)
            elif reason := self._reason_to_kill(worker, now):
                self.kill(worker, reason)

    def _may_start(self, worker: Worker, now: float) -> bool:
        if not worker.is_standby:
            return now >= worker.start_again_at
        return may_start(worker, self.workers, self.config.limits.standby_pause_s, now)

    def kill(self, worker: Worker, reason: str) -> None:
        """End a worker at once; another process takes its place."""
        logger.warning("%s on %s is killed: %s", _role(worker), worker.device, reason)
        kill_process(worker.process)
        self._bury(worker, reason, can_retry=False)

    def stop(self) -> None:
        """End all workers and standbys: politely first, then by force."""
        for worker in self.everyone:
            if worker.state == "starting" or worker.is_standby:
                kill_process(worker.process)  # it has nothing to finish, and may not listen yet
            self.send(worker, Stop())
            if worker.process is not None and worker.process.stdin is not None:
                with contextlib.suppress(OSError):
                    worker.process.stdin.close()
        logging.getLogger().removeHandler(self._last_lines)
        deadline = time.monotonic() + self.config.limits.stop_grace_s
        for worker in self.everyone:
            if worker.process is None:
                continue
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("worker on %s did not exit and is killed", worker.device)
            kill_process(worker.process)
            worker.process, worker.state = None, "down"

    def _reason_to_kill(self, worker: Worker, now: float) -> str:
        limits = self.config.limits
        if worker.state == "starting" and now - worker.started_at > limits.worker_start_s:
            return f"the worker was not ready within {limits.worker_start_s:g} s"
        if worker.identity is not None and now - worker.heard_at > limits.worker_silence_s:
            return f"the worker process hung: no sign from it for {limits.worker_silence_s:g} s"
        if worker.state != "busy":
            return ""
        if now - worker.assigned_at > limits.job_deadline_s:
            return f"the job took longer than the {limits.job_deadline_s:g} s that are allowed"
        if now - worker.sign_at > limits.job_stall_s:
            return f"the job hung: no progress for {limits.job_stall_s:g} s"
        return ""

    def _spawn(self, worker: Worker) -> None:
        now = time.monotonic()
        worker.token = secrets.token_hex(16)
        worker.started_at = worker.heard_at = now
        worker.state, worker.identity, worker.signs = "starting", None, 0
        worker.is_to_take_over = False
        worker.folder = self.content_folder.parent / f"worker-{worker.token[:8]}"
        worker.folder.mkdir()
        try:
            worker.process = self._new_process(worker)
        except OSError as error:
            reason = f"the worker process cannot be started ({error.strerror})"
            self._bury(worker, reason, can_retry=True)
            return
        assert worker.process.stdin is not None
        with contextlib.suppress(OSError):  # it died at once; the next tick finds it
            line = json.dumps(self._worker_settings(worker)) + "\n"
            worker.process.stdin.write(line.encode())
            worker.process.stdin.flush()
        name, pid = _role(worker), worker.process.pid
        logger.info("%s on %s started as process %d", name, worker.device, pid)

    def _new_process(self, worker: Worker) -> ChildProcess:
        if self.early:
            process = self.early.pop()
        elif self.keeper is not None and worker.is_standby:
            return self.keeper.start()
        else:
            process = start_process()
        if self.keeper is not None and not worker.is_standby:
            self.keeper.release(process)
        return process

    def _worker_settings(self, worker: Worker) -> dict[str, Any]:
        limits = self.config.limits
        return {
            "address": self.address,
            "token": worker.token,
            "device": worker.device,
            "handlers": self.config.handlers,
            "is_standby": worker.is_standby,
            # One that ended without a job may have ended of the rehearsal.
            "is_to_rehearse": not worker.died_without_job,
            "content_folder": str(self.content_folder),
            "media_roots": [str(root.resolve()) for root in self.config.media_roots],
            "heartbeat_s": limits.heartbeat_s,
            "broker_silence_s": limits.worker_silence_s,
            "parent_pid": self.keeper.keeper
            if self.keeper is not None and isinstance(worker.process, KeptProcess)
            else os.getpid(),
            "log_level": logging.getLogger().getEffectiveLevel(),
            "log_format": self.config.log_format,
            "own_folder": str(worker.folder),
            "crash_folder": str(self.config.crash_folder or ""),
        }

    def _bury(self, worker: Worker, reason: str, *, can_retry: bool) -> None:
        """Take note of an ended process and plan its successor."""
        was_starting = worker.state == "starting" or worker.is_standby
        if worker.process is not None and worker.process.stdin is not None:
            with contextlib.suppress(OSError):
                worker.process.stdin.close()
        worker.process, worker.identity, worker.state = None, None, "down"
        worker.last_words = reason
        worker.failed_starts = worker.failed_starts + 1 if was_starting else 0
        worker.deaths_in_a_row += 1
        worker.died_without_job = worker.job is None
        worker.start_again_at = time.monotonic() + self._pause(worker)
        logger.warning("%s on %s has ended: %s", _role(worker), worker.device, reason)
        self._report(worker, reason)
        shutil.rmtree(worker.folder, ignore_errors=True)
        self.on_death(worker, reason, can_retry)
        self._replace(worker)

    def _pause(self, worker: Worker) -> float:
        """Seconds until another process is started in the place of one that has ended."""
        limits = self.config.limits
        if worker.is_standby:
            return pause_after_death(limits.standby_pause_s, worker.failed_starts)
        if worker.failed_starts == 0 and worker.deaths_in_a_row <= 1:
            return 0.0  # it has worked, so the next one will
        return min(limits.worker_restart_s * 2 ** min(worker.failed_starts, 10), RESTART_LIMIT_S)

    def _replace(self, worker: Worker) -> None:
        """Let a standby, if there is one, take the place of a worker that is no more; one that
        still loads is sooner ready than a process that has not begun."""
        served = [] if worker.is_standby else self.standbys
        for standby in served:
            if standby.device == worker.device and standby.process is not None:
                now = time.monotonic()
                worker.take_process_of(standby, now)
                if self.keeper is not None:
                    self.keeper.release(worker.process)
                pause_s = self.config.limits.standby_pause_s
                standby.start_again_at = now + pause_after_death(pause_s, worker.deaths_in_a_row)
                logger.info("the standby for %s takes the worker's place", worker.device)
                self._tell_to_take_over(worker)
                return

    def _tell_to_take_over(self, worker: Worker) -> None:
        """Say it to a process that can be reached; to others when they call."""
        if worker.is_to_take_over and worker.identity is not None:
            worker.is_to_take_over = not self.send(worker, TakeOver())

    def _report(self, worker: Worker, reason: str) -> None:
        """Write down the death of a worker that had a job."""
        job = worker.job
        if self.config.crash_folder is None or job is None or job.cancelled_at is not None:
            return
        faults = ""
        with contextlib.suppress(OSError):
            faults = (worker.folder / FAULTS_FILE).read_text(encoding="utf-8", errors="replace")
        write_crash_report(
            self.config.crash_folder,
            reason,
            job=job.job,
            kind=job.kind,
            traceback=faults,
            device=worker.description or worker.device,
            lines=self._last_lines.lines,
        )


def _role(worker: Worker) -> str:
    return "standby" if worker.is_standby else "worker"
