# SPDX-License-Identifier: Apache-2.0
"""How a backend's processes write their logs: for people or for programs, with the job they are at.

A record says which job it belongs to by its attribute `job`: given with `extra=` where one process
serves many jobs, or taken from `job_of_records` where a thread works on one.
"""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

__all__ = ["LogFormat", "job_of_records", "write_log"]

LogFormat = Literal["text", "json"]
job_of_records: ContextVar[str] = ContextVar("job_of_records", default="")
"""The job that this thread works on; empty between jobs."""


def write_log(level: int, log_format: LogFormat, process: str) -> None:
    """Write this process's log to standard error from now on.

    Args:
        level: the least that is written.
        log_format: for people or for programs.
        process: how this process is called in it.
    """
    handler = logging.StreamHandler()
    handler.addFilter(_add_job)
    handler.setFormatter(_JsonLines(process) if log_format == "json" else _TextLines(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _add_job(record: logging.LogRecord) -> bool:
    record.job = getattr(record, "job", "") or job_of_records.get()
    return True


class _TextLines(logging.Formatter):
    """`2026-11-30 10:20:30,123 INFO worker 77 posefit.worker.jobs [job 1a2b3c4d] words`."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process} %(name)s%(of_job)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        job = getattr(record, "job", "")
        record.of_job = f" [job {job[:8]}]" if job else ""
        return super().format(record)


class _JsonLines(logging.Formatter):
    """One JSON object a line; a traceback is one text in it."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if job := getattr(record, "job", ""):
            fields["job"] = job
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)
