# SPDX-License-Identifier: Apache-2.0
"""Jobs for the tests of the wire: a ping whose text says how the worker should behave."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from posefit.worker.job_context import JobContext, WorkerInfo
from posefit_shared.messages import PingRequest, PingResult, Record, RefineRequest, Request
from posefit_shared.sequence import SequenceError


def warm_up(device: str) -> WorkerInfo:
    """A worker without models."""
    return WorkerInfo(device, f"{device} (test)", ("echo",), ("ping",))


def run_job(request: Request, context: JobContext) -> Record | None:
    """Do what the text of the ping says."""
    if isinstance(request, RefineRequest):
        return _find_footage(request, context)
    assert isinstance(request, PingRequest)
    verb, _, argument = request.text.partition(":")
    actions = {
        "echo": lambda: PingResult(argument, request.data),
        "pid": lambda: PingResult(str(os.getpid())),
        "time": lambda: PingResult(str(time.time())),
        "fail": lambda: _raise(SequenceError("the sequence has no frames: send at least one")),
        "bug": lambda: {}["nothing"],
        "steps": lambda: _take_steps(float(argument), context),
        "until": lambda: _wait_for(Path(argument), context),
        "sleep": lambda: _sleep_deaf(float(argument)),
        "crash": lambda: os._exit(7),
        "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "crash_once": lambda: _crash_once(Path(argument)),
        "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "revisions": lambda: _publish(int(argument), context),
        "note": lambda: _note(Path(argument), request),
        "nothing": lambda: None,
        "content_size": lambda: PingResult(
            str(context.content(request.content or "").stat().st_size)
        ),
        "content": lambda: PingResult(
            context.content(request.content or "").read_bytes()[:20].decode()
        ),
    }
    return actions[verb]()


def _raise(error: Exception) -> None:
    raise error


def _take_steps(seconds: float, context: JobContext) -> PingResult:
    count = max(1, round(seconds / 0.02))
    for step in range(count):
        context.progress(step / count, "stepping", f"step {step}")
        time.sleep(0.02)
    return PingResult("stepped")


def _wait_for(path: Path, context: JobContext) -> PingResult:
    while not path.exists():
        context.check_cancelled()
        time.sleep(0.02)
    return PingResult("it is there")


def _sleep_deaf(seconds: float) -> PingResult:
    time.sleep(seconds)
    return PingResult("slept")


def _crash_once(marker: Path) -> PingResult:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return PingResult("second try")


def _publish(count: int, context: JobContext) -> None:
    for revision in range(count):
        context.publish(PingResult(str(revision)), final=revision == count - 1)


def _note(path: Path, request: PingRequest) -> PingResult:
    with path.open("a") as file:
        file.write(f"{len(request.data) if request.data is not None else 0}\n")
    time.sleep(0.05)
    return PingResult("noted")


def _find_footage(request: RefineRequest, context: JobContext) -> None:
    """Finding it is all these tests need: the path comes back as the failure's words."""
    raise SequenceError(f"found {context.resolve_media(request.media)}")
