# SPDX-License-Identifier: Apache-2.0
"""How soon a backend works again: its worker, its broker, all of it killed, and its first request.

    python benchmarks/recovery.py --output benchmarks/results/recovery.json

Real workers on the CPU. Two jobs: a preview (the body posed and rendered, as the smallest real
one) and the refinement of one 1080p frame of the demo's clip as anybody asks for it, on the wire
from request to result. Each time is from SIGKILL, the new processes' start included, to the answer.
It wants an idle machine; on one that others use it waits for a moment in which they pause, and the
least of the times is the one to look at.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from demo_clip import estimated

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/posefit")]

from wire_backend import (  # noqa: E402
    PATIENCE_S,
    REAL_JOBS,
    Backend,
    broker_of,
    connected,
    eventually,
    running_backend,
)

from posefit.commands.demo import ASSETS  # noqa: E402
from posefit.server.keeper import YOUNG_S  # noqa: E402
from posefit_shared.client import Client  # noqa: E402
from posefit_shared.messages import (  # noqa: E402
    MediaReference,
    PreviewRequest,
    RefineRequest,
    Request,
)

FRAMES = 12
MEDIA = ("--media-root", str(ASSETS))


class Work:
    """Requests for real jobs, each for another frame."""

    def __init__(self) -> None:
        self.sequence, self.path = estimated(FRAMES)
        self._asked = 0

    def preview(self) -> Request:
        """A picture of the body."""
        camera = self.sequence.camera(0)
        return PreviewRequest(
            sequence=self.sequence, frame=self._next(), image_size=(256, 256),
            intrinsics=camera.intrinsics, world_to_camera=camera.world_to_camera,
            modalities=("normals",),
        )  # fmt: skip

    def refine(self) -> Request:
        """One frame, refined with the default settings."""
        frame = self._next()
        return RefineRequest(
            self.sequence.slice(frame, frame + 1), MediaReference(path=str(self.path))
        )

    def _next(self) -> int:
        self._asked += 1
        return self._asked % FRAMES


def serving(folder: Path, *, standby: bool = True) -> AbstractContextManager[Backend]:
    """A `posefit serve` as anybody starts it."""
    option = "--standby" if standby else "--no-standby"
    return running_backend(folder, *MEDIA, option, program=REAL_JOBS)


def seconds_of(client: Client, request: Request) -> float:
    """From submission to result."""
    began = time.perf_counter()
    client.wait(client.submit(request), PATIENCE_S)
    return time.perf_counter() - began


def is_quiet(backend: Backend, client: Client) -> bool:
    """Whether everything has been loaded and rehearsed, and the standby, if any, waits."""
    report = client.report()
    loaded = [one["state"] for one in report["workers"]] == ["idle"]
    waiting = all(one["state"] == "ready" for one in report["standbys"])
    log = backend.log.read_text()
    # A job that waited for the worker spares it the rehearsal.
    return loaded and waiting and ("rehearsed for" in log or "done after" in log)


def worker_killed(folder: Path, make: Callable[[], Request], repeats: int, standby: bool) -> dict:
    """Seconds from SIGKILL of the worker to the next result."""
    found = []
    with serving(folder, standby=standby) as backend, connected(backend) as client:
        for _ in range(repeats):
            eventually(lambda: is_quiet(backend, client), PATIENCE_S)
            wait_for_a_pause()
            began = time.perf_counter()
            os.kill(processes_of(backend)[0], signal.SIGKILL)
            seconds_of(client, make())
            found.append(time.perf_counter() - began)
    return told(found)


def processes_of(backend: Backend) -> tuple[int | None, int | None]:
    """The process that runs jobs now and the one that stands by, as the log tells."""
    worker = standby = None
    for line in backend.log.read_text().splitlines():
        if "worker on" in line and "started as process" in line:
            worker = int(line.rsplit(" ", 1)[1])
            standby = None if standby == worker else standby
        elif "standby on" in line and "started as process" in line:
            standby = int(line.rsplit(" ", 1)[1])
        elif "takes the worker's place" in line:
            worker, standby = standby, None
    return worker, standby


def broker_killed(folder: Path, make: Callable[[], Request], repeats: int, standby: bool) -> dict:
    """Seconds from SIGKILL of the broker, which its keeper starts again, to the next result."""
    found = []
    with serving(folder, standby=standby) as backend, connected(backend) as client:
        for _ in range(repeats):
            eventually(lambda: is_quiet(backend, client), PATIENCE_S)
            wait_for_a_pause(least_s=YOUNG_S)
            began = time.perf_counter()
            os.kill(broker_of(backend), signal.SIGKILL)
            seconds_of(client, make())
            found.append(time.perf_counter() - began)
    return told(found)


def backend_killed(folder: Path, make: Callable[[], Request], repeats: int) -> dict:
    """Seconds from SIGKILL of everything, started again at once on its port, to the next result."""
    found = []
    backend = Backend(folder, *MEDIA, program=REAL_JOBS)
    try:
        with connected(backend) as client:
            for _ in range(repeats):
                eventually(lambda: is_quiet(backend, client), PATIENCE_S)  # noqa: B023
                wait_for_a_pause()
                began = time.perf_counter()
                backend.kill()
                backend = Backend(folder, *MEDIA, program=REAL_JOBS, bind=backend.address)
                seconds_of(client, make())
                found.append(time.perf_counter() - began)
    finally:
        backend.stop()
    return told(found)


def first_requests(folder: Path, work: Work) -> dict:
    """Seconds of the first to the tenth refined frame of a backend that was left alone before, and
    of the first one of a backend that had no time to rehearse."""
    with serving(folder, standby=False) as backend, connected(backend) as client:
        eventually(lambda: is_quiet(backend, client), PATIENCE_S)
        found = [seconds_of(client, work.refine()) for _ in range(10)]
    with serving(folder, standby=False) as backend, connected(backend) as client:
        eventually(lambda: client.report()["is_ready"], PATIENCE_S)
        hurried = seconds_of(client, work.refine())
    return {
        "first to tenth": [round(value, 2) for value in found],
        "first without a rehearsal": round(hurried, 2),
    }


def memory_of_idle(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """MiB of the process that stands by, and of the keeper."""
    with serving(folder) as backend, connected(backend) as client:
        eventually(lambda: is_quiet(backend, client), PATIENCE_S)
        return memory_of(processes_of(backend)[1]), memory_of(backend.process.pid)


def memory_of(pid: int | None) -> dict[str, int]:
    """MiB that a process occupies, its share, what is its own alone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) >> 10 for line in lines}
    return {
        "resident": values["Rss"], "proportional": values["Pss"], "own": values["Private_Dirty"],
    }  # fmt: skip


def wait_for_a_pause(patience_s: float = 5.0, least_s: float = 0.0) -> None:
    """Until nothing else has run for half a second, if that comes to pass in time."""
    time.sleep(least_s)
    deadline, quiet = time.monotonic() + patience_s, 0
    while quiet < 10 and time.monotonic() < deadline:
        time.sleep(0.05)
        running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
        quiet = quiet + 1 if running <= 1 else 0


def told(found: list[float]) -> dict:
    """Least, median and most, seconds."""
    return {
        "least": round(min(found), 2), "median": round(statistics.median(found), 2),
        "most": round(max(found), 2), "times": len(found),
    }  # fmt: skip


def main() -> None:
    """Print the figures, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    work = Work()
    result: dict[str, object] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}", "cores": os.cpu_count(),
        "load_before": round(load, 1),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        standby_memory, keeper_memory = memory_of_idle(folder)
        result["memory of the standby, MiB"] = standby_memory
        result["memory of the keeper, MiB"] = keeper_memory
        result["refined frames of a backend, s"] = first_requests(folder, work)
        for job in ("preview", "refine"):
            make = getattr(work, job)
            for standby in (True, False):
                for name, kill in (("worker", worker_killed), ("broker", broker_killed)):
                    words = f"{name} killed, {job}, {'a' if standby else 'no'} standby, s"
                    result[words] = kill(folder, make, options.repeats, standby)
                    print(words, result[words], flush=True)
            result[f"everything killed, {job}, s"] = backend_killed(folder, make, options.repeats)
    result["load_after"] = round(os.getloadavg()[0], 1)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
