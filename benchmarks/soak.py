# SPDX-License-Identifier: Apache-2.0
"""Thousands of mixed requests to one backend: does anything grow?

    python benchmarks/soak.py --requests 10000 --output benchmarks/results/soak.json

Four clients at once send small and large jobs, uploads, jobs that fail, crash their worker, are
cancelled, and garbage; every so often one leaves without a word and another takes its place. The
jobs compute nothing (`tests/posefit/wire_handlers.py`): what is tried is the broker, its worker
and the client. Memory, threads, open files and sockets, and files on the disk are counted on the
way; growth is judged from the second tenth on, when every buffer has been used once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import zmq

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/posefit")]

from wire_backend import (  # noqa: E402
    PATIENCE_S,
    QUICK,
    Backend,
    broker_of,
    running_backend,
    workers_of,
)

from posefit_shared.client import Client, JobFailed  # noqa: E402
from posefit_shared.messages import PingRequest  # noqa: E402

CLIENTS = 4
MIX = {"echo": 60, "array": 15, "upload": 6, "fail": 8, "cancel": 6, "garbage": 3, "leave": 1.8,
       "crash": 0.2}  # fmt: skip
"""Per cent of the requests."""


class Soak:
    """The clients' shared count, and what each of them does."""

    def __init__(self, backend: Backend, requests: int) -> None:
        self.backend, self.requests = backend, requests
        self.done = 0
        self.outcomes: dict[str, int] = {}
        self._lock = threading.Lock()

    def next_number(self) -> int | None:
        """The number of the next request; None: all are done."""
        with self._lock:
            if self.done >= self.requests:
                return None
            self.done += 1
            return self.done

    def note(self, outcome: str) -> None:
        """Count how a request ended."""
        with self._lock:
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def live(self, seed: int) -> None:
        """One client after the other, until all requests are done."""
        dice = random.Random(seed)
        while self.done < self.requests:
            with Client(self.backend.address, config=QUICK, name=f"soak {seed}") as client:
                client.wait_ready(PATIENCE_S)
                self._use(client, dice)

    def _use(self, client: Client, dice: random.Random) -> None:
        while self.next_number() is not None:
            (kind,) = dice.choices([*MIX], [*MIX.values()])
            if kind == "leave":
                self.note("left")
                return
            self.note(self._ask(client, kind, dice))

    def _ask(self, client: Client, kind: str, dice: random.Random) -> str:
        if kind == "garbage":
            return _send_garbage(self.backend.address, dice)
        request = PingRequest("echo:x")
        if kind == "array":
            request = PingRequest("echo:x", np.zeros(dice.randrange(1, 200_000), np.float32))
        elif kind == "upload":
            content = client.upload(dice.randbytes(dice.randrange(1, 2_000_000)), "body")
            request = PingRequest("content_size", content=content)
        elif kind in ("fail", "crash"):
            request = PingRequest(kind)
        elif kind == "cancel":
            request = PingRequest("steps:30")
        job = client.submit(request, dice.choice(("interactive", "normal", "batch")))
        if kind == "cancel":
            time.sleep(dice.uniform(0, 0.02))
            client.cancel(job)
        try:
            client.wait(job, PATIENCE_S)
        except JobFailed as failure:
            return f"failed: {failure.kind}"
        finally:
            client.poll()
        return "done"


def _send_garbage(address: str, dice: random.Random) -> str:
    """A stranger's connection that says nonsense and goes."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(address)
        dealer.send_multipart([dice.randbytes(dice.randrange(60)) for _ in range(3)])
        dealer.poll(2000)
    return "garbage"


def measure(backend: Backend) -> dict[str, Any]:
    """What the broker, its worker, the standby and the keeper hold now, and this process."""
    counts: dict[str, Any] = {
        "broker": _process(broker_of(backend)), "client": _process(os.getpid()),
        "keeper": _process(backend.process.pid),
    }  # fmt: skip
    for name, worker in zip(("worker", "other worker"), workers_of(backend), strict=False):
        counts[name] = _process(worker)
    files = [path for path in backend.temporary.rglob("*") if "content" not in path.parts]
    counts["scratch_files"] = len(files)
    return counts


def _process(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        entries = [*Path(f"/proc/{pid}/fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # a worker that has just been killed
        return {}
    status = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in status:  # killed, and not buried yet
        return {}
    links = []
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(entry))
    return {
        "rss_mb": int(status["VmRSS"].split()[0]) // 1024,
        "threads": int(status["Threads"]),
        "files": len(links),
        "sockets": sum(link.startswith("socket:") for link in links),
    }


def main() -> None:
    """Print the counts on the way and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    limits = ["--limits.content-bytes", str(256 << 20), "--limits.worker-restart-s", "0.05"]
    limits += ["--is-kept", "--standby", "--limits.standby-pause-s", "0.2"]
    samples = []
    with tempfile.TemporaryDirectory() as name, running_backend(Path(name), *limits) as backend:
        soak = Soak(backend, options.requests)
        started = time.monotonic()
        threads = [
            threading.Thread(target=soak.live, args=(k,), daemon=True) for k in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if backend.process.poll() is not None:
                raise SystemExit(f"the backend has ended:\n{backend.log.read_text()[-5000:]}")
            if soak.done >= len(samples) * options.requests / 20:
                samples.append({"requests": soak.done, **measure(backend)})
                print(json.dumps(samples[-1]), flush=True)
            time.sleep(0.05)
        seconds = time.monotonic() - started
        with Client(backend.address, config=QUICK) as client:
            client.wait_ready(PATIENCE_S)
            report = client.report()
        samples.append({"requests": soak.done, **measure(backend)})
        left = backend.temporary
        status = backend.stop()
        result = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "cores": os.cpu_count(),
            "load": os.getloadavg()[1],
            "requests": options.requests,
            "clients": CLIENTS,
            "seconds": round(seconds, 1),
            "outcomes": dict(sorted(soak.outcomes.items())),
            "worker_deaths": report["worker_deaths"],
            "sessions_at_end": report["sessions"]["open"],
            "exit_status": status,
            "files_left": len([*left.iterdir()]),
            "samples": samples,
        }
    print(json.dumps(result))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
