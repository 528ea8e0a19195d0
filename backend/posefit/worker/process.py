# SPDX-License-Identifier: Apache-2.0
"""A worker process: takes a job, runs it, streams what it gives.

The main thread runs jobs. A second one (`_Line`) owns the socket to the broker, so that heartbeats
and cancellation pass while a job computes. A third waits on standard input, which ends when the
broker does. Handlers import torch, after the broker has been told that the process lives. A
standby loads as a worker does and then waits to be told that it is one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import zmq

from posefit_shared.codec import CodecError, decode, encode
from posefit_shared.messages import (
    Cancel,
    Cancelled,
    Failure,
    Message,
    ProtocolError,
    Record,
    Request,
    Submit,
)

from ..child_processes import die_with_parent
from ..errors import OUT_OF_MEMORY, is_out_of_memory
from .crash_report import LastLines, write_crash_report
from .job_context import JobCancelled, JobContext, JobFolders, WorkerInfo
from .log_records import job_of_records, write_log
from .messages import (
    FAULTS_FILE,
    WORKER_LIMITS,
    WORKER_MESSAGES,
    Alive,
    Assign,
    Idle,
    StandbyReady,
    Stop,
    TakeOver,
    WorkerHello,
    WorkerReady,
)
from .settings import WorkerSettings, load_module, next_settings, read_settings

__all__ = ["main"]

logger = logging.getLogger("posefit.worker.process")  # its own name when run with -m

RunJob = Callable[[Request, JobContext], Record | None]
EXIT_GRACE_S = 2.0
"""Time for the running job to end by itself after the broker is gone."""


def main() -> NoReturn:
    """Serve jobs until the broker says stop, or is gone."""
    settings = read_settings(sys.argv[1] if len(sys.argv) > 1 else "")
    write_log(settings.log_level, settings.log_format, f"worker {os.getpid()}")
    last_lines = LastLines()
    logging.getLogger().addHandler(last_lines)
    _write_faults_to(settings.own_folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the broker's to answer
    die_with_parent(settings.parent_pid)
    context = zmq.Context()
    line = _Line(settings, context)
    threading.Thread(target=_exit_with_broker, args=(line,), daemon=True).start()
    line.start()
    try:
        _Worker(settings, line, last_lines).run()
    finally:
        line.stop()
        context.destroy(linger=100)
    logging.shutdown()
    os._exit(0)  # nothing is left to do, and the libraries' own endings take seconds


def _write_faults_to(folder: str) -> None:
    """Let crashes of libraries be written where the broker looks for them."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with contextlib.suppress(FileNotFoundError):  # its broker is gone, and another one will call
        faulthandler.enable(os.open(Path(folder) / FAULTS_FILE, flags, 0o600))


def _exit_with_broker(line: _Line) -> None:
    """Wait for the end of standard input: the broker is gone, or wants this worker to go.

    A process that stands by may outlive its broker: the next one writes its own settings there.
    """
    while (settings := next_settings()) is not None:
        line.move(settings)
    line.jobs.put(None)
    line.cancel_everything()
    time.sleep(EXIT_GRACE_S)
    os._exit(3)


class _Line:
    """The thread that talks to the broker."""

    def __init__(self, settings: WorkerSettings, context: zmq.Context) -> None:
        self.jobs: queue.Queue[tuple[Assign, Submit] | None] = queue.Queue()
        """What the main thread is to run; None: nothing any more."""
        self.is_needed = threading.Event()
        """Whether this process is to be a worker, or to end; for standbys."""
        self.current: JobContext | None = None
        self.settings, self._context = settings, context
        """`settings` are those of the broker that this process works for now."""
        self._mover = context.socket(zmq.PAIR)
        self._mover.bind("inproc://mover")
        self._cancelled: set[str] = set()
        self._is_ending = False
        self._assign: Assign | None = None
        self._main_end = context.socket(zmq.PAIR)
        self._main_end.bind("inproc://line")
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, after what has been said is on its way; for the main thread."""
        self._main_end.send_multipart([b""])
        self._thread.join(EXIT_GRACE_S)
        self._main_end.close(linger=0)

    def say(self, message: Message) -> None:
        """Send to the broker; for the main thread only."""
        self._main_end.send_multipart(encode(message), copy=False)

    def move(self, settings: WorkerSettings) -> None:
        """Leave this broker for another; for the thread that reads standard input only."""
        if self.current is not None or not self.settings.is_standby:
            os._exit(3)  # a worker ends with its broker
        self.settings = settings
        self._mover.send(b"")

    def is_cancelled(self, job: str) -> bool:
        """Whether a job is to end."""
        return self._is_ending or job in self._cancelled

    def cancel_everything(self) -> None:
        """Let the running job and all that wait end."""
        self._is_ending = True
        self.is_needed.set()

    def _run(self) -> None:
        """Body of the thread."""
        inside, moved = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        inside.connect("inproc://line")
        moved.connect("inproc://mover")
        is_over = False
        while not is_over:
            broker = self._context.socket(zmq.DEALER)
            broker.linger = 100
            broker.connect(self.settings.address)
            broker.send_multipart(encode(WorkerHello(self.settings.token)))
            if not self.settings.is_standby:
                self.is_needed.set()
            try:
                is_over = self._relay(broker, inside, moved)
            finally:
                broker.close()
        for socket in (inside, moved):
            socket.close(linger=0)

    def _relay(self, broker: zmq.Socket, inside: zmq.Socket, moved: zmq.Socket) -> bool:
        """Pass on what is said, until this process ends (true) or another broker wants it."""
        poller = zmq.Poller()
        for socket in (broker, inside, moved):
            poller.register(socket, zmq.POLLIN)
        heard = said = time.monotonic()
        pause_s = self.settings.heartbeat_s / 2
        while True:
            ready = dict(poller.poll(int(pause_s * 1000) + 1))
            now = time.monotonic()
            if moved in ready:
                moved.recv()
                return False
            if inside in ready:
                frames = inside.recv_multipart(copy=False)
                if len(frames) == 1 and not len(frames[0]):
                    return True
                broker.send_multipart(frames, copy=False)
            if broker in ready:
                heard = now
                self._hear([frame.buffer for frame in broker.recv_multipart(copy=False)])
            if now - said >= pause_s:
                said = now
                current = self.current
                broker.send_multipart(encode(Alive(current.signs if current else 0)))
            if now - heard > self.settings.broker_silence_s:
                logger.error("the broker has gone silent; this worker exits")
                os._exit(3)

    def _hear(self, buffers: list[Any]) -> None:
        try:
            message = decode(buffers, WORKER_LIMITS, WORKER_MESSAGES)
        except (CodecError, ProtocolError):
            logger.exception("a message of the broker makes no sense")
            return
        if isinstance(message, Assign):
            self._assign = message
        elif isinstance(message, Submit) and self._assign is not None:
            self._cancelled.intersection_update({message.job})
            self.jobs.put((self._assign, message))
        elif isinstance(message, TakeOver):
            self.is_needed.set()
        elif isinstance(message, Cancel):
            self._cancelled.add(message.job)
        elif isinstance(message, Stop):
            self.cancel_everything()
            self.jobs.put(None)


BEFORE_REHEARSAL_S = 0.1
"""Time for a job that has been waiting to get here before the rehearsal begins, whose first step
would hold it up."""
REST_AFTER_S = 300.0
"""Without work for so long a worker gives back what it keeps for the next job."""


class _Worker:
    """The main thread's life: load, then one job after the other."""

    def __init__(self, settings: WorkerSettings, line: _Line, last_lines: LastLines) -> None:
        self._settings, self._line, self._last_lines = settings, line, last_lines
        self._rest: Callable[[], None] = lambda: None
        self._folders = _folders_of(settings)

    def run(self) -> None:
        """Load the handlers and serve."""
        module_name, _, function = self._settings.handlers.partition(":")
        started = time.monotonic()
        module = load_module(module_name)
        has_rehearsed = False
        if self._settings.is_standby:
            has_rehearsed = self._stand_by(module)
            started = time.monotonic()
            if self._line.settings is not self._settings:
                self._settings = self._line.settings
                self._folders = _folders_of(self._settings)
                _write_faults_to(self._settings.own_folder)
        self._folders.own.mkdir(exist_ok=True)
        info = self._warm_up(module)
        gc.freeze()
        gc.enable()
        logger.info("ready on %s after %.1f s", info.device, time.monotonic() - started)
        words = info.description or info.device
        self._line.say(WorkerReady(words[:128], info.models, info.kinds))
        if self._settings.is_to_rehearse and not has_rehearsed:
            self._rehearse(module, info)
        run_job = getattr(module, function)
        while (order := self._next_order()) is not None:
            assign, submit = order
            self._run_one(run_job, info, assign, submit)
            self._line.say(Idle(submit.job))

    def _next_order(self) -> tuple[Assign, Submit] | None:
        try:
            return self._line.jobs.get(timeout=REST_AFTER_S)
        except queue.Empty:
            self._rest()
        return self._line.jobs.get()

    def _stand_by(self, module: ModuleType) -> bool:
        """Load what a standby may, and wait until a worker is needed; whether it has rehearsed."""
        prepare = getattr(module, "stand_by", None)
        has_rehearsed = bool(prepare and prepare(self._settings.device))
        gc.collect()
        gc.enable()
        self._line.say(StandbyReady())
        self._line.is_needed.wait()
        return has_rehearsed

    def _warm_up(self, module: ModuleType) -> WorkerInfo:
        """Let the handlers load their models."""
        self._rest = getattr(module, "rest", self._rest)
        warm_up = getattr(module, "warm_up", None)
        return warm_up(self._settings.device) if warm_up else WorkerInfo(self._settings.device)

    def _rehearse(self, module: ModuleType, info: WorkerInfo) -> None:
        """Let the handlers do once, on nobody's time, what a first job would be slow for."""
        rehearse = getattr(module, "rehearse", None)
        if rehearse is None or self._has_job_within(BEFORE_REHEARSAL_S):
            return
        started = time.monotonic()
        try:
            rehearse(info.device, lambda: not self._line.jobs.empty())
        except Exception:
            logger.warning("the rehearsal failed; jobs may be slow at first", exc_info=True)
        logger.info("rehearsed for %.1f s", time.monotonic() - started)

    def _has_job_within(self, patience_s: float) -> bool:
        """Whether a job waited already for this worker to be ready."""
        deadline = time.monotonic() + patience_s
        while self._line.jobs.empty() and time.monotonic() < deadline:
            time.sleep(patience_s / 20)
        return not self._line.jobs.empty()

    def _run_one(self, run_job: RunJob, info: WorkerInfo, assign: Assign, submit: Submit) -> None:
        """Run one job to its end; the one place where any error of a job ends."""
        line, job = self._line, submit.job
        context = JobContext(
            job,
            submit.kind,
            device=info.device,
            folders=self._folders,
            send=line.say,
            is_cancelled=lambda: line.is_cancelled(job),
            first_revision=assign.first_revision,
        )
        line.current = context
        token = job_of_records.set(job)
        try:
            result = run_job(submit.payload, context)
            if result is not None and not context.has_final:
                context.publish(result, final=True)
        except JobCancelled:
            line.say(Cancelled(job))
        except Exception as error:
            failure = _failure_of(error, job)
            is_expected = failure.kind not in ("internal", "memory")
            level = logging.DEBUG if is_expected else logging.ERROR
            logger.log(level, "%s failed", submit.kind, exc_info=True)
            if not is_expected and self._settings.crash_folder:
                self._report(submit, info, failure)
            line.say(failure)
        finally:
            job_of_records.reset(token)
            line.current = None
            for path in self._folders.own.iterdir():
                path.unlink(missing_ok=True)

    def _report(self, submit: Submit, info: WorkerInfo, failure: Failure) -> None:
        """Write down the error that is being handled."""
        write_crash_report(
            Path(self._settings.crash_folder),
            failure.message,
            job=submit.job,
            kind=submit.kind,
            request=submit.payload,
            traceback=traceback.format_exc(),
            device=info.description or info.device,
            lines=self._last_lines.lines,
        )


def _folders_of(settings: WorkerSettings) -> JobFolders:
    return JobFolders(
        Path(settings.content_folder),
        tuple(Path(root) for root in settings.media_roots),
        Path(settings.own_folder) / "job",
    )


def _failure_of(error: Exception, job: str) -> Failure:
    """What the client is told: an expected error's own words, else that the log has more."""
    package = type(error).__module__.partition(".")[0]
    speaks_to_users = package in ("posefit", "posefit_shared")
    if speaks_to_users and isinstance(error, (ValueError, RuntimeError)):
        return Failure(type(error).__name__[:64], str(error)[:2000] or "no words", job=job)
    if is_out_of_memory(error):
        return Failure("memory", f"on the backend {OUT_OF_MEMORY}", job=job)
    name = type(error).__name__[:64]
    words = f"the backend failed in a way that it did not expect ({name}): see its log"
    return Failure("internal", words, job=job)


if __name__ == "__main__":
    main()
