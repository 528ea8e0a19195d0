# SPDX-License-Identifier: Apache-2.0
"""Jobs for tests of the rehearsal, whose manner stands in the environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from posefit.worker.job_context import JobContext
from posefit_shared.messages import PingRequest, PingResult

rehearsals: list[str] = []


def rehearse(device: str, is_wanted: Callable[[], bool]) -> None:
    """Rehearse until a job comes, or come to a bad end."""
    rehearsals.append(device)
    Path(os.environ["REHEARSES"]).touch()
    manner = os.environ["REHEARSAL"]
    if manner == "fail":
        raise ValueError("nothing can be rehearsed")
    if manner == "crash":
        os._exit(5)
    while not is_wanted():
        time.sleep(0.01)


def stand_by(device: str) -> bool:
    """Rehearse as a standby."""
    rehearsals.append(device)
    return True


def run_job(request: PingRequest, context: JobContext) -> PingResult:
    """How often this process has rehearsed; `crash_once:PATH` is told by the process after it."""
    verb, _, marker = request.text.partition(":")
    if verb == "crash_once" and not Path(marker).exists():
        Path(marker).touch()
        os._exit(7)
    return PingResult(f"{len(rehearsals)} rehearsals")
