# SPDX-License-Identifier: Apache-2.0
"""Batches in figures: jobs an hour by workers, time to go on after a kill, memory by clip length.

    python benchmarks/batch.py --output benchmarks/results/batch.json

Clips are made up (a body in its own vertex colours on black, 240 × 320) and refined with optical
flow in one round: what is measured is the batch, not the network.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/posefit")]

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
    seen = made.true_sequence(body, min(frames, 64), rng)
    truth = made.true_sequence(body, frames, rng)
    footage = made.filmed(body, seen)
    start = made.disturbed(truth, rng, 0.05, 0.01)
    for k in range(count):
        pictures = folder / f"clip_{k:03d}"
        pictures.mkdir(parents=True)
        for frame in range(frames):
            image = Image.fromarray(footage.read(frame % len(footage)))
            image.save(pictures / f"{frame:05d}.png")
        write_sequence(folder / f"clip_{k:03d}.npz", start)
    return folder


def run(source: Path, output: Path, *words: str) -> float:
    """Seconds of one batch."""
    command = [sys.executable, "-m", "posefit", "batch", str(source), "--output", str(output)]
    began = time.perf_counter()
    done = subprocess.run([*command, *SETTINGS, *words], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began


def peak_mb(folder: Path, frames: int) -> float:
    """Largest memory of the process that refines one clip of that many frames."""
    clips = make_clips(folder, 1, frames)
    command = [sys.executable, "-m", "posefit", "refine", "--sequence", str(clips / "clip_000.npz")]
    command += ["--frames", str(clips / "clip_000"), "--output", str(folder / "out.npz"), *SETTINGS]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"refining {frames} frames failed")
    return usage.ru_maxrss / 1024


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
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--lengths", type=int, nargs="*", default=[16, 128, 512])
    parser.add_argument("--finished", type=int, default=2000)
    arguments = parser.parse_args()
    result: dict[str, object] = {
        "cores": os.cpu_count(), "load_before": os.getloadavg()[0], "clips": arguments.clips,
        "frames": arguments.frames,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder / "clips", arguments.clips, arguments.frames)
        for workers in (1, 2):
            seconds = run(clips, folder / f"out {workers}", "--workers", str(workers))
            result[f"seconds_{workers}_workers"] = round(seconds, 1)
            print(f"{workers} workers: {arguments.clips} clips in {seconds:.1f} s", flush=True)
        seconds = run(clips, folder / "out 1")
        result["seconds_all_done"] = round(seconds, 1)
        table = finished_jobs(folder / "many", arguments.finished)
        seconds = run(table, table.parent / "out")
        result[f"seconds_to_find_{arguments.finished}_done"] = round(seconds, 1)
        print(f"{arguments.finished} jobs are found to be done in {seconds:.1f} s", flush=True)
        memory: dict[str, int] = {}
        for frames in arguments.lengths:
            memory[str(frames)] = round(peak_mb(folder / f"long {frames}", frames))
            print(f"{frames} frames: {memory[str(frames)]} MB at most", flush=True)
        result["peak_mb_by_frames"] = memory
    result["load_after"] = os.getloadavg()[0]
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
