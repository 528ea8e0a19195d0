# SPDX-License-Identifier: Apache-2.0
"""Faults at random moments, one after the other, while clients work: is any job lost or run astray?

    python benchmarks/chaos.py --rounds 100 --output benchmarks/results/chaos.json

In each round two clients behind a network of their own submit jobs and uploads, and one fault
happens: all workers, the standby included, or the broker, or everything is killed, the network is
cut, swallows everything, or crawls. A keeper starts the broker again. At
the end of the round every job must have its own answer, or have failed in words that name the
fault; at the end of all rounds no process, port, or unfinished upload may be left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/posefit")]

from network import Network  # noqa: E402
from wire_backend import (  # noqa: E402
    PATIENCE_S,
    QUICK,
    Backend,
    broker_of,
    eventually,
    is_alive,
    workers_of,
)

from posefit_shared.client import Client, JobFailed  # noqa: E402
from posefit_shared.messages import PingRequest  # noqa: E402

FAULTS = ("worker", "broker", "everything", "cut", "swallow", "crawl")
LIMITS = ["--limits.heartbeat-s", "0.1", "--limits.client-silence-s", "1.5"]
LIMITS += ["--limits.job-retries", "3", "--limits.content-bytes", str(64 << 20)]
LIMITS += ["--is-kept", "--standby", "--limits.standby-pause-s", "0.2"]
PATIENT = type(QUICK)(
    hello_timeout_s=2.0, silence_limit_s=1.0, retry_s=0.05, retry_limit_s=0.3, lost_limit_s=60.0
)


class Chaos:
    """A backend that is killed and started again on its port, and what has come of its jobs."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder, self.dice = folder, dice
        self.backend = Backend(folder, *LIMITS)
        self.processes: set[int] = set()
        self.outcomes: Counter[str] = Counter()
        self.recovery_s: dict[str, list[float]] = {fault: [] for fault in FAULTS}

    def round(self, number: int) -> None:
        """Jobs, one fault in the midst of them, and what came of both."""
        fault = FAULTS[number % len(FAULTS)]
        network = Network(self.backend.port)
        clients = [Client(network.address, config=PATIENT, name=f"chaos {k}") for k in range(2)]
        try:
            for client in clients:
                client.start()
                client.wait_ready(PATIENCE_S)
            jobs = [(client, *self._submit(client)) for client in clients for _ in range(6)]
            time.sleep(self.dice.uniform(0.0, 0.4))
            began = time.monotonic()
            self._do(fault, network)
            for client, job, expected in jobs:
                self._await(client, job, expected, fault)
            self.recovery_s[fault].append(time.monotonic() - began)
        finally:
            network.bytes_per_s = 0.0
            for client in clients:
                client.close()
            network.close()

    def _submit(self, client: Client) -> tuple[str, str]:
        kind = self.dice.choice(("echo", "steps", "upload"))
        if kind == "steps":
            return client.submit(PingRequest("steps:0.15")), "stepped"
        if kind == "upload":
            data = self.dice.randbytes(self.dice.randrange(1, 400_000))
            request = PingRequest("content_size", content=client.upload(data, "body"))
            return client.submit(request), str(len(data))
        text = str(self.dice.random())
        return client.submit(PingRequest(f"echo:{text}")), text

    def _await(self, client: Client, job: str, expected: str, fault: str) -> None:
        try:
            text = client.wait(job, PATIENCE_S).payload.text
        except JobFailed as failure:
            self.outcomes[f"{fault}: failed ({failure.kind})"] += 1
            return
        if text != expected:
            raise SystemExit(f"after {fault} a job got the answer {text!r}, not {expected!r}")
        self.outcomes[f"{fault}: done"] += 1

    def _do(self, fault: str, network: Network) -> None:
        if fault == "worker":
            for worker in workers_of(self.backend):
                os.kill(worker, signal.SIGKILL)
        elif fault == "broker":
            self._note_processes()
            os.kill(broker_of(self.backend), signal.SIGKILL)
        elif fault == "everything":
            self._note_processes()
            address = self.backend.address
            self.backend.kill()
            self.backend = Backend(self.folder, *LIMITS, bind=address)
        elif fault == "cut":
            network.cut()
            time.sleep(self.dice.uniform(0.0, 0.5))
            network.mend()
        elif fault == "swallow":
            network.is_swallowing = True
            time.sleep(self.dice.uniform(0.0, 2.5))
            network.mend()
            network.cut()
            network.mend()
        else:
            network.bytes_per_s = 300_000.0

    def _note_processes(self) -> None:
        self.processes.update([*workers_of(self.backend), broker_of(self.backend)])

    def end(self) -> dict[str, object]:
        """End the backend and look for what it left."""
        self._note_processes()
        content = next(self.backend.temporary.glob("posefit-backend-*")) / "content"
        has_unfinished = not eventually(lambda: not list(content.glob("incoming-*")), 10.0)
        port, status = self.backend.port, self.backend.stop()
        with socket.socket() as probe:
            has_port = probe.connect_ex(("127.0.0.1", port)) == 0
        return {
            "exit_status": status,
            "unfinished_uploads_left": has_unfinished,
            "port_left": has_port,
            "processes_left": sum(not eventually(lambda p=pid: not is_alive(p), 10.0)
                                  for pid in self.processes),
            "folders_left": len(list(self.backend.temporary.iterdir())),
        }  # fmt: skip


def main() -> None:
    """Print what came of all jobs, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        chaos = Chaos(Path(name), random.Random(options.seed))
        try:
            for number in range(options.rounds):
                chaos.round(number)
        finally:
            left = chaos.end()
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),
        "rounds": options.rounds,
        "outcomes": dict(sorted(chaos.outcomes.items())),
        "left": left,
        "seconds_until_all_is_done": {
            fault: {"median": round(statistics.median(times), 2), "most": round(max(times), 2)}
            for fault, times in chaos.recovery_s.items() if times
        },
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
