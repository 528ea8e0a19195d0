# SPDX-License-Identifier: Apache-2.0
"""A worker process of a batch: a job a line on standard input, words about it on standard output.

It ends when its standard input does, in the middle of a job if need be: then the batch is gone, and
nobody would take the result. Whatever libraries print goes to the job's log.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from posefit_shared.body_files import BodyFileError
from posefit_shared.sequence import SequenceError
from posefit_shared.settings import SettingsError

from ..errors import OUT_OF_MEMORY, PosefitError, is_out_of_memory
from ..records import RecordFolder
from .folder import is_disk_full
from .jobs import Job

__all__ = ["failure_of", "main"]

USER_ERRORS = (PosefitError, BodyFileError, SequenceError, SettingsError)
_SIGN_S = 0.5
"""Progress is told so often at most."""


def failure_of(error: Exception) -> tuple[str, str]:
    """The kind of a failure and its sentence.

    Returns:
        `disk` (there is no room), `refused` (in words, and it would be again), or `broke`.
    """
    if is_disk_full(error):
        return "disk", "the disk is full"
    if isinstance(error, USER_ERRORS):
        return "refused", str(error)
    if is_out_of_memory(error):
        return "broke", OUT_OF_MEMORY
    first = (str(error).strip() or "no words").splitlines()[0]
    return "broke", f"{type(error).__name__}: {first}"


def main(arguments: list[str]) -> int:
    """Do jobs until there are no more.

    Args:
        arguments: the module with `run_job` and `Machine`, and the machine as JSON.
    """
    answers = _take_standard_output()
    lines = _lines_until_the_batch_ends()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    machine = json.loads(arguments[1])
    while True:
        order = json.loads(lines.get())
        _begin_log(order["log"])
        _say(answers, **_outcome(arguments[0], machine, order, answers))


def _outcome(
    handlers: str, machine: dict[str, Any], order: dict[str, Any], answers: TextIO
) -> dict[str, Any]:
    """Do one job and say what became of it; the one place where nothing may escape."""
    try:
        module = importlib.import_module(handlers)
        module.run_job(
            Job.from_map(order["job"]), Path(order["folder"]), module.Machine(**machine),
            order["fingerprint"], _teller(answers), RecordFolder(Path(order["kept"])),
        )  # fmt: skip
    except Exception as error:
        with contextlib.suppress(OSError):  # the log may lie on a full disk
            traceback.print_exc()
        kind, words = failure_of(error)
        return {"event": "failed", "kind": kind, "words": words}
    return {"event": "finished"}


def _teller(answers: TextIO) -> Callable[[float, str], None]:
    last = [0.0]

    def tell(fraction: float, stage: str) -> None:
        now = time.monotonic()
        if now - last[0] >= _SIGN_S:
            last[0] = now
            _say(answers, event="progress", fraction=round(fraction, 4), stage=stage)

    return tell


def _say(answers: TextIO, **words: Any) -> None:
    answers.write(json.dumps(words) + "\n")
    answers.flush()


def _take_standard_output() -> TextIO:
    """Standard output for this protocol alone; what others print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _begin_log(path: str) -> None:
    """Send standard error, and with it all output, to the end of a file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)


def _lines_until_the_batch_ends() -> queue.Queue[str]:
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
