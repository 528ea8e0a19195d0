# SPDX-License-Identifier: Apache-2.0
"""What a backend tells of itself to whoever watches over it: counts, sizes, times, never names."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import Any

from .. import __version__
from .job_desk import JobDesk
from .sessions import SessionTable
from .store import ContentStore

__all__ = ["metrics_text", "report_of"]


def report_of(sessions: SessionTable, jobs: JobDesk, store: ContentStore) -> dict[str, Any]:
    """The state of a backend as plain values; docs/watching.md has their meaning."""
    now = time.monotonic()
    workers = jobs.supervisor.workers if jobs.supervisor else []
    tally = jobs.tally
    request_bytes, result_bytes = jobs.kept_bytes
    contents, content_bytes = store.usage
    everyone = sessions.all()
    return {
        "version": __version__,
        "is_ready": any(worker.state in ("idle", "busy") for worker in workers),
        "uptime_s": round(now - tally.started_at, 1),
        "sessions": {
            "open": len(everyone),
            "connected": sum(session.identity is not None for session in everyone),
        },
        "jobs": {
            "waiting": jobs.waiting,
            "running": sum(worker.state == "busy" for worker in workers),
            "ended": [
                {"kind": kind, "outcome": outcome, "count": count}
                for (kind, outcome), count in sorted(tally.jobs.items())
            ],
            "seconds": {kind: round(float(total), 3) for kind, total in tally.job_seconds.items()},
        },
        "workers": [
            {
                "device": worker.description or worker.device,
                "state": worker.state,
                "job_kind": worker.job.kind if worker.job else "",
                "job_s": round(now - worker.assigned_at, 1) if worker.job else 0.0,
                "last_words": worker.last_words,
            }
            for worker in workers
        ],
        "standbys": [
            {
                "device": standby.device,
                "state": "ready" if standby.state == "idle" else standby.state,
                "last_words": standby.last_words,
            }
            for standby in (jobs.supervisor.standbys if jobs.supervisor else [])
        ],
        "worker_deaths": tally.worker_deaths,
        "bytes": {
            "requests": request_bytes,
            "results": result_bytes,
            "uploads": content_bytes,
            "process": resident_bytes(),
        },
        "uploads": contents,
    }


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not tell without more ado."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def metrics_text(report: dict[str, Any]) -> str:
    """A report as Prometheus reads it (text format 0.0.4)."""
    lines: list[str] = []

    def metric(name: str, kind: str, words: str, *samples: tuple[dict[str, str], float]) -> None:
        lines.append(f"# HELP posefit_{name} {words}")
        lines.append(f"# TYPE posefit_{name} {kind}")
        for labels, value in samples:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"posefit_{name}{{{inside}}} {value:g}" if inside else
                         f"posefit_{name} {value:g}")  # fmt: skip

    jobs = report["jobs"]
    metric("ready", "gauge", "Whether a worker can take jobs.", ({}, report["is_ready"]))
    metric("uptime_seconds", "gauge", "Since the backend started.", ({}, report["uptime_s"]))
    metric("sessions", "gauge", "Clients, those that may come back included.",
           *(({"state": state}, count) for state, count in report["sessions"].items()))  # fmt: skip
    metric("jobs_waiting", "gauge", "Jobs that wait for a worker.",
           *(({"priority": name}, count) for name, count in jobs["waiting"].items()))  # fmt: skip
    metric("jobs_running", "gauge", "Jobs that workers are at.", ({}, jobs["running"]))
    metric("jobs_total", "counter", "Jobs that have ended.",
           *(({"kind": one["kind"], "outcome": one["outcome"]}, one["count"])
             for one in jobs["ended"]))  # fmt: skip
    metric("job_seconds_total", "counter", "Time of ended jobs from submission to end.",
           *(({"kind": kind}, total) for kind, total in jobs["seconds"].items()))  # fmt: skip
    states = Counter(worker["state"] for worker in report["workers"])
    metric("workers", "gauge", "Worker processes by state.",
           *(({"state": state}, count) for state, count in states.items()))  # fmt: skip
    states = Counter(standby["state"] for standby in report["standbys"])
    metric("standbys", "gauge", "Processes that stand by, by state.",
           *(({"state": state}, count) for state, count in states.items()))  # fmt: skip
    metric("worker_deaths_total", "counter", "Workers that ended or were killed.",
           ({}, report["worker_deaths"]))  # fmt: skip
    metric("bytes", "gauge", "Memory, and disk for uploads.",
           *(({"of": what}, size) for what, size in report["bytes"].items()))  # fmt: skip
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
