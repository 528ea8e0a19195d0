# SPDX-License-Identifier: Apache-2.0
"""Worker processes: started, watched, killed when they hang, started again when they die.

A worker is one process for one device. It gets its settings as one line of JSON on its standard
input, which then stays open: when the broker is gone the line breaks and the worker exits.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..child_processes import kill_process, words_for_exit
from ..crash_report import LastLines, write_crash_report
from ..worker_messages import FAULTS_FILE
from .config import ServeConfig
from .schedule import Job

__all__ = ["Supervisor", "Worker", "choose_devices"]

logger = logging.getLogger(__name__)

RESTART_LIMIT_S = 30.0
"""Longest pause before a worker that keeps dying is started again."""


@dataclass(eq=False)
class Worker:
    """One place where jobs run, whichever process fills it just now."""

    device: str
    token: str = ""
    process: subprocess.Popen[bytes] | None = None
    identity: bytes | None = None
    state: Literal["down", "starting", "idle", "busy"] = "down"
    job: Job | None = None
    description: str = ""
    models: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    signs: int = 0
    started_at: float = 0.0
    heard_at: float = 0.0
    sign_at: float = 0.0
    """When its job last gave a sign."""
    assigned_at: float = 0.0
    start_again_at: float = 0.0
    failed_starts: int = 0
    folder: Path = Path(os.devnull)
    """For its process's temporary files; goes with the process."""
    last_words: str = ""
    """Why its last process ended, for people."""


@dataclass
class Supervisor:
    """All workers of one backend; used by the broker's thread only."""

    config: ServeConfig
    address: str
    """Where workers call the broker."""
    content_folder: Path
    on_death: Callable[[Worker, str, bool], None]
    """Told (worker, reason in words, whether another try makes sense) after a process has ended."""
    workers: list[Worker] = field(default_factory=list)
    _last_lines: LastLines = field(default_factory=LastLines)

    def start(self) -> None:
        """Start one worker for each device."""
        logging.getLogger().addHandler(self._last_lines)
        devices = choose_devices(self.config.device, self.config.workers)
        self.workers = [Worker(device) for device in devices]
        for worker in self.workers:
            self._spawn(worker)

    def of_identity(self, identity: bytes) -> Worker | None:
        """The worker behind a connection."""
        return next((worker for worker in self.workers if worker.identity == identity), None)

    def greet(self, identity: bytes, token: str) -> Worker | None:
        """The worker that knows this secret, now reachable under `identity`."""
        for worker in self.workers:
            if worker.process is not None and secrets.compare_digest(worker.token, token):
                worker.identity = identity
                return worker
        return None

    def tick(self, now: float) -> None:
        """Notice dead and hung workers, and start those whose pause is over."""
        for worker in self.workers:
            if worker.process is None:
                if now >= worker.start_again_at:
                    self._spawn(worker)
            elif (status := worker.process.poll()) is not None:
                self._bury(worker, words_for_exit(status), can_retry=True)
            elif reason := self._reason_to_kill(worker, now):
                self.kill(worker, reason)

    def kill(self, worker: Worker, reason: str) -> None:
        """End a worker at once; another process takes its place."""
        logger.warning("worker on %s is killed: %s", worker.device, reason)
        kill_process(worker.process)
        self._bury(worker, reason, can_retry=False)

    def stop(self, send_stop: Callable[[Worker], object]) -> None:
        """End all workers: politely first, then by force."""
        for worker in self.workers:
            if worker.state == "starting":
                kill_process(worker.process)  # it has nothing to finish, and does not listen yet
            send_stop(worker)
            if worker.process is not None and worker.process.stdin is not None:
                with contextlib.suppress(OSError):
                    worker.process.stdin.close()
        logging.getLogger().removeHandler(self._last_lines)
        deadline = time.monotonic() + self.config.limits.stop_grace_s
        for worker in self.workers:
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
        worker.folder = self.content_folder.parent / f"worker-{worker.token[:8]}"
        worker.folder.mkdir()
        try:
            worker.process = subprocess.Popen(
                [sys.executable, "-m", "posefit.worker"],
                stdin=subprocess.PIPE,
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
                start_new_session=sys.platform != "win32",
                # Idle OpenMP threads that spin take the cores from those that work.
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
            )
        except OSError as error:
            reason = f"the worker process cannot be started ({error.strerror})"
            self._bury(worker, reason, can_retry=True)
            return
        assert worker.process.stdin is not None
        with contextlib.suppress(OSError):  # it died at once; the next tick finds it
            line = json.dumps(self._worker_settings(worker)) + "\n"
            worker.process.stdin.write(line.encode())
            worker.process.stdin.flush()
        logger.info("worker on %s started as process %d", worker.device, worker.process.pid)

    def _worker_settings(self, worker: Worker) -> dict[str, Any]:
        limits = self.config.limits
        return {
            "address": self.address,
            "token": worker.token,
            "device": worker.device,
            "handlers": self.config.handlers,
            "content_folder": str(self.content_folder),
            "media_roots": [str(root.resolve()) for root in self.config.media_roots],
            "heartbeat_s": limits.heartbeat_s,
            "broker_silence_s": limits.worker_silence_s,
            "broker_pid": os.getpid(),
            "log_level": logging.getLogger().getEffectiveLevel(),
            "log_format": self.config.log_format,
            "own_folder": str(worker.folder),
            "crash_folder": str(self.config.crash_folder or ""),
        }

    def _bury(self, worker: Worker, reason: str, *, can_retry: bool) -> None:
        """Take note of an ended process and plan its successor."""
        was_starting = worker.state == "starting"
        if worker.process is not None and worker.process.stdin is not None:
            with contextlib.suppress(OSError):
                worker.process.stdin.close()
        worker.process, worker.identity, worker.state = None, None, "down"
        worker.last_words = reason
        worker.failed_starts = worker.failed_starts + 1 if was_starting else 0
        pause = self.config.limits.worker_restart_s * 2 ** min(worker.failed_starts, 10)
        worker.start_again_at = time.monotonic() + min(pause, RESTART_LIMIT_S)
        logger.warning("worker on %s has ended: %s", worker.device, reason)
        self._report(worker, reason)
        shutil.rmtree(worker.folder, ignore_errors=True)
        self.on_death(worker, reason, can_retry)

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


def choose_devices(device: str, workers: int | None) -> list[str]:
    """The device of each worker, found without torch.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        workers: how many; none: one for each GPU, or one.

    Returns:
        Names as torch has them; `auto:N` leaves the choice to the worker, who has torch.
    """
    if device in ("auto", "cuda"):
        gpus = _count_gpus()
        names = [f"{device}:{index}" for index in range(max(gpus, 1))]
    else:
        names = [device]
    count = len(names) if workers is None else max(workers, 1)
    return [names[index % len(names)] for index in range(count)]


def _count_gpus() -> int:
    """NVIDIA GPUs that a worker may see; 0 where there is no driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        answer = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in answer.stdout.splitlines())


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True
