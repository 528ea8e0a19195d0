# SPDX-License-Identifier: Apache-2.0
"""Batches in figures: throughput by workers, going on after a kill, Ray beside local, memory.

    python benchmarks/batch.py --output benchmarks/results/batch.json

Wants an idle machine. Clips are made up (a body in its own vertex colours on black, 240 × 320) and
refined with optical flow in one round: what is measured is the batch, not the network. Ray is
measured where it is installed: the same jobs on one node with as many cores, against local
processes with as many threads.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/posefit"), str(REPOSITORY / "benchmarks")]

import memory as memory_figures  # noqa: E402
import synthetic_clip as made  # noqa: E402
from PIL import Image  # noqa: E402

from posefit.batch import Job  # noqa: E402
from posefit.batch.folder import OutputFolder, fingerprint  # noqa: E402
from posefit.batch.jobs import read_jobs  # noqa: E402
from posefit.batch.summary import JobSummary, write_summary  # noqa: E402
from posefit.body import load_body  # noqa: E402
from posefit_shared.sequence import write_sequence  # noqa: E402
from posefit_shared.settings import RefineSettings  # noqa: E402

SETTINGS = ["--displacement", "flow", "--no-keypoints", "--rounds", "1", "--crop-size", "128"]


def make_clips(folder: Path, count: int, frames: int) -> Path:
    """A folder of pairs; all clips are one, under several names."""
    body, rng = load_body("free"), np.random.default_rng(0)
    truth = made.true_sequence(body, frames, rng)
    footage = made.filmed(body, truth)
    start = made.disturbed(truth, rng, 0.05, 0.01)
    for k in range(count):
        pictures = folder / f"clip_{k:03d}"
        pictures.mkdir(parents=True)
        for frame in range(frames):
            Image.fromarray(footage.read(frame)).save(pictures / f"{frame:05d}.png")
        write_sequence(folder / f"clip_{k:03d}.npz", start)
    return folder


def command(source: Path, output: Path, *words: str) -> list[str]:
    """One batch."""
    words = ("batch", str(source), "--output", str(output), *SETTINGS, *words)
    return [sys.executable, "-m", "posefit", *words]


def run(source: Path, output: Path, *words: str) -> float:
    """Seconds of one batch from its start to its end."""
    began = time.perf_counter()
    done = subprocess.run(command(source, output, *words), stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began


def events(output: Path) -> list[dict[str, Any]]:
    """The journal's records."""
    path = output / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def done(output: Path) -> int:
    """Jobs that the journal calls done."""
    return sum(entry["event"] == "done" for entry in events(output))


def resume_s(source: Path, output: Path) -> dict[str, float]:
    """Kill a batch half way; seconds from starting it again to its first job begun and to its end,
    and how many jobs were done twice."""
    half = len(list(source.glob("*.npz"))) // 2
    process = subprocess.Popen(command(source, output), stderr=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    while done(output) < half and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished, began = done(output), time.perf_counter()
    known = len(events(output))
    process = subprocess.Popen(command(source, output), stderr=subprocess.DEVNULL)
    first = None
    while process.poll() is None:
        if first is None and any(e["event"] == "started" for e in events(output)[known:]):
            first = time.perf_counter() - began
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit("the batch did not go on after the kill")
    total = len(list(source.glob("*.npz")))
    return {
        "done_before": finished, "seconds_to_first_job": round(first or 0.0, 2),
        "seconds_to_end": round(time.perf_counter() - began, 2),
        "done_twice": done(output) - total,
    }  # fmt: skip


def ray_overhead(source: Path, folder: Path) -> dict[str, float]:
    """The same jobs one after another in a local process, and as tasks of one Ray node."""
    cores = os.cpu_count() or 1
    local = run(source, folder / "local", "--workers", "1")
    remote = run(source, folder / "ray", "--ray", "local", "--ray-cpus", str(cores))
    jobs = [
        sum(json.loads((path / "summary.json").read_text())["seconds"]
            for path in (folder / name).iterdir() if (path / "summary.json").is_file())
        for name in ("local", "ray")
    ]  # fmt: skip
    return {
        "local_seconds": round(local, 2), "ray_seconds": round(remote, 2),
        "local_seconds_in_jobs": round(jobs[0], 2), "ray_seconds_in_jobs": round(jobs[1], 2),
        "overhead": round(remote / local - 1, 4),
    }  # fmt: skip


def finished_jobs(folder: Path, count: int) -> Path:
    """A table of jobs that have their results."""
    folder.mkdir()
    (folder / "a.npz").write_bytes(b"")
    (folder / "a.mp4").write_bytes(b"")
    table = folder / "jobs.csv"
    rows = "".join(f"job_{k},a.npz,a.mp4\n" for k in range(count))
    table.write_text("name,sequence,footage\n" + rows)
    settings = RefineSettings(displacement="flow", keypoints=False, rounds=1, crop_size=128)
    output = OutputFolder(folder / "out")
    for job in read_jobs(table, Job("", settings=settings)):
        (output.path / job.name).mkdir()
        write_summary(output.path / job.name, JobSummary(job.name, fingerprint(job)))
        output.journal.write("done", job.name)
    output.close()
    return table


def main() -> None:
    """Print the figures, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--lengths", type=int, nargs="*", default=[100, 1000, 5000])
    parser.add_argument("--finished", type=int, default=2000)
    given = parser.parse_args()
    result: dict[str, Any] = {
        "cores": os.cpu_count(), "load_before": os.getloadavg()[0], "clips": given.clips,
        "frames": given.frames,
    }  # fmt: skip

    def tell(name: str, value: Any) -> None:
        result[name] = value
        print(f"{name}: {json.dumps(value)}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder / "clips", given.clips, given.frames)
        run(clips, folder / "warm", "--workers", "1")  # kernels are compiled once on a machine
        for workers in given.workers:
            seconds = run(clips, folder / f"out {workers}", "--workers", str(workers))
            rate = 3600 * given.clips / seconds
            tell(f"workers_{workers}", {"seconds": round(seconds, 1), "jobs_an_hour": round(rate)})
        tell("resume", resume_s(clips, folder / "killed"))
        if importlib.util.find_spec("ray") is not None:
            tell("ray", ray_overhead(clips, folder))
        table = finished_jobs(folder / "many", given.finished)
        tell(f"seconds_to_find_{given.finished}_done", round(run(table, table.parent / "out"), 1))
        peaks = {}
        for frames in given.lengths:
            peak, _ = memory_figures.peak_mb(folder / f"long {frames}", frames)
            shutil.rmtree(folder / f"long {frames}")
            peaks[str(frames)] = round(peak)
            tell("peak_mb_by_frames", peaks)
    result["load_after"] = os.getloadavg()[0]
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
