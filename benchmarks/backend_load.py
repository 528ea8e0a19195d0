# SPDX-License-Identifier: Apache-2.0
"""A backend under load: how long an answer takes, what overtakes what, how soon it works again.

    python benchmarks/backend_load.py --output benchmarks/results/backend_load.json

Jobs compute nothing (`tests/posefit/wire_handlers.py`), so that what is measured is what the wire,
the broker and the worker add to a job's own time; one worker, all processes on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/posefit")]

from wire_backend import (  # noqa: E402
    PATIENCE_S,
    QUICK,
    REAL_JOBS,
    Backend,
    ask,
    connected,
    eventually,
    running_backend,
    workers_of,
)

from posefit_shared.client import Client  # noqa: E402
from posefit_shared.messages import PingRequest  # noqa: E402

SIZES = {"small": 1, "array of 1 MB": 250_000}


def latencies(backend: Backend, clients: int, floats: int, asks: int) -> list[float]:
    """Milliseconds from submission to result, of all clients, each of which asks in turn."""
    found: list[float] = []
    data = np.zeros(floats, np.float32)

    def live() -> None:
        with connected(backend) as client:
            for _ in range(asks // clients):
                began = time.perf_counter()
                ask(client, "echo:x", data=data)
                found.append(1000 * (time.perf_counter() - began))

    threads = [threading.Thread(target=live) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def percentiles(values: list[float]) -> dict[str, float]:
    """Median and tails."""
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 2), "p95": round(cuts[94], 2), "p99": round(cuts[98], 2)}


def overtaking(backend: Backend) -> dict[str, float]:
    """An artist's job while another client's 200 batch jobs of 20 ms each wait."""
    with connected(backend) as batch, connected(backend) as artist:
        jobs = [batch.submit(PingRequest("steps:0.02"), "batch") for _ in range(200)]
        eventually(lambda: artist.report()["jobs"]["waiting"]["batch"] > 100)
        found = []
        for _ in range(20):
            began = time.perf_counter()
            artist.wait(artist.submit(PingRequest("echo:x"), "interactive"), PATIENCE_S)
            found.append(1000 * (time.perf_counter() - began))
        waiting = artist.report()["jobs"]["waiting"]["batch"]
        for job in jobs:
            batch.wait(job, PATIENCE_S)
    return {**percentiles(found), "batch_jobs_still_waiting": waiting}


def recovery(folder: Path) -> dict[str, float]:
    """Seconds from SIGKILL to the next result, which a client had asked for before."""
    result = {}
    with running_backend(folder) as backend, connected(backend) as client:
        os.kill(int(ask(client, "pid")), signal.SIGKILL)
        began = time.perf_counter()
        ask(client, "echo:x")
        result["worker_killed_s"] = round(time.perf_counter() - began, 2)
        address = backend.address
        backend.kill()
        began = time.perf_counter()
        job = client.submit(PingRequest("echo:x"))
        with running_backend(folder, bind=address):
            client.wait(job, PATIENCE_S)
            result["broker_killed_s"] = round(time.perf_counter() - began, 2)
    return result


def real_recovery(folder: Path, workers: int) -> float:
    """As `recovery` of a killed worker, with real ones that load torch and the body."""
    more = ["--no-standby", "--workers", str(workers)]
    with (
        running_backend(folder, *more, program=REAL_JOBS) as backend,
        Client(backend.address, config=QUICK) as client,
    ):
        client.wait_ready(PATIENCE_S)
        eventually(lambda: {one["state"] for one in client.report()["workers"]} == {"idle"})
        os.kill(workers_of(backend)[0], signal.SIGKILL)
        began = time.perf_counter()
        ask(client, "x")
        return round(time.perf_counter() - began, 2)


def main() -> None:
    """Print the figures, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--asks", type=int, default=800)
    options = parser.parse_args()
    result: dict[str, object] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}", "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_backend(folder, "--is-kept", "--standby") as backend:
            for words, floats in SIZES.items():
                for clients in (1, 4, 16):
                    found = latencies(backend, clients, floats, options.asks)
                    result[f"latency_ms, {words}, {clients} clients"] = percentiles(found)
            result["interactive_ms_while_a_batch_waits"] = overtaking(backend)
        result |= recovery(folder)
        for workers in (1, 2):
            result[f"real_worker_killed_s, {workers} workers"] = real_recovery(folder, workers)
    result["load_after"] = round(os.getloadavg()[0], 1)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
