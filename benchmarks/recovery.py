# SPDX-License-Identifier: Apache-2.0
"""How soon a backend works again: its worker killed, the whole of it killed, and its first request.

    python benchmarks/recovery.py --output benchmarks/results/recovery.json

Real workers on the CPU. Two jobs: a preview (the body posed and rendered, as the smallest real
one) and the refinement of one 1080p frame of the demo's clip as anybody asks for it, on the wire
from request to result. Each time is from SIGKILL, the new backend's start included, to the answer.
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

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/posefit")]

from wire_backend import (  # noqa: E402
    PATIENCE_S,
    REAL_JOBS,
    Backend,
    connected,
    eventually,
    running_backend,
)

from posefit.body import load_body  # noqa: E402
from posefit.commands.demo import ASSETS, MAIN_CAMERA  # noqa: E402
from posefit.estimate import estimate  # noqa: E402
from posefit.footage import open_footage  # noqa: E402
from posefit_shared.client import Client  # noqa: E402
from posefit_shared.messages import (  # noqa: E402
    MediaReference,
    PreviewRequest,
    RefineRequest,
    Request,
)
from posefit_shared.sequence import Sequence  # noqa: E402
from posefit_shared.shot import read_shot  # noqa: E402

FRAMES = 12
MEDIA = ("--media-root", str(ASSETS))


class Work:
    """Requests for real jobs, each for another frame."""

    def __init__(self) -> None:
        camera = read_shot(ASSETS / "shot.json").camera(MAIN_CAMERA)
        self.path = camera.footage
        with open_footage(self.path) as footage:
            self.sequence: Sequence = estimate(
                footage, body=load_body("free"), camera=camera.camera,
                frame_indices=np.arange(FRAMES),
            )  # fmt: skip
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
    return loaded and waiting and "rehearsed for" in backend.log.read_text()


def worker_killed(folder: Path, make: Callable[[], Request], repeats: int, standby: bool) -> dict:
    """Seconds from SIGKILL of the worker to the next result."""
    found = []
    with serving(folder, standby=standby) as backend, connected(backend) as client:
        for _ in range(repeats):
            eventually(lambda: is_quiet(backend, client), PATIENCE_S)
            wait_for_a_pause()
            began = time.perf_counter()
            os.kill(newest_worker(backend), signal.SIGKILL)
            seconds_of(client, make())
            found.append(time.perf_counter() - began)
    return told(found)


def newest_worker(backend: Backend) -> int:
    """The process that runs jobs now: of the broker's children the one that does not stand by."""
    children = Path(f"/proc/{backend.process.pid}/task/{backend.process.pid}/children")
    pids = [int(pid) for pid in children.read_text().split()]
    waiting = standby_of(backend)
    return next(pid for pid in pids if pid != waiting)


def standby_of(backend: Backend) -> int | None:
    """The process that stands by: the last that was started as one, unless it has taken over."""
    log = backend.log.read_text()
    start, taken = log.rfind("standby on"), log.rfind("takes the worker's place")
    if start < 0 or taken > start:
        return None
    return int(log[start:].split("process ")[1].split()[0])


def backend_killed(folder: Path, make: Callable[[], Request], repeats: int) -> dict:
    """Seconds from SIGKILL of the broker, started again at once on its port, to the next result."""
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


def memory_of_standby(folder: Path) -> dict[str, int]:
    """MiB of the process that stands by: what it occupies, its share, what is its own alone."""
    with serving(folder) as backend, connected(backend) as client:
        eventually(lambda: is_quiet(backend, client), PATIENCE_S)
        lines = Path(f"/proc/{standby_of(backend)}/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) >> 10 for line in lines}
    return {
        "resident": values["Rss"], "proportional": values["Pss"], "own": values["Private_Dirty"],
    }  # fmt: skip


def wait_for_a_pause(patience_s: float = 5.0) -> None:
    """Until nothing else has run for half a second, if that comes to pass in time."""
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
        result["memory of the standby, MiB"] = memory_of_standby(folder)
        result["refined frames of a backend, s"] = first_requests(folder, work)
        for job in ("preview", "refine"):
            make = getattr(work, job)
            for standby in (True, False):
                words = f"worker killed, {job}, {'a' if standby else 'no'} standby, s"
                result[words] = worker_killed(folder, make, options.repeats, standby)
                print(words, result[words], flush=True)
            result[f"backend killed, {job}, s"] = backend_killed(folder, make, options.repeats)
    result["load_after"] = round(os.getloadavg()[0], 1)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
