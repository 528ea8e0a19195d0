# SPDX-License-Identifier: Apache-2.0
"""Largest memory of a refinement by the clip's length, which should make no difference.

    python benchmarks/memory.py --lengths 100 1000 5000 --output benchmarks/results/memory.json

Clips are made up (a body in its own vertex colours on black, as H.264) and refined by `posefit
refine` with optical flow in one round at small crops: what a network takes comes on top, and does
not depend on the length either. `--keypoints` runs the detector on every frame as well.
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

import av
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/posefit")]

import synthetic_clip as made  # noqa: E402

from posefit.body import load_body  # noqa: E402
from posefit_shared.sequence import write_sequence  # noqa: E402

SETTINGS = [
    "--displacement", "flow", "--rounds", "1", "--crop-size", "64", "--solver-iterations", "2",
]  # fmt: skip
DIFFERENT = 64
"""Pictures that differ; a long clip shows them again and again."""


def make_clip(folder: Path, frames: int) -> tuple[Path, Path]:
    """A sequence file and its video."""
    body, rng = load_body("free"), np.random.default_rng(0)
    seen = made.true_sequence(body, min(frames, DIFFERENT), rng)
    images = made.filmed(body, seen).images
    poses = seen.poses[np.arange(frames) % len(seen)]
    truth = seen.replace(
        poses=poses, trans=np.repeat(seen.trans[:1], frames, 0), frame_indices=np.arange(frames)
    )
    folder.mkdir(parents=True)
    write_sequence(folder / "start.npz", made.disturbed(truth, rng, 0.05, 0.01))
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        for frame in range(frames):
            picture = av.VideoFrame.from_ndarray(images[frame % len(images)], format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return folder / "start.npz", folder / "clip.mp4"


def peak_mb(folder: Path, frames: int, *, keypoints: bool = False) -> tuple[float, float]:
    """Largest memory of the process that refines a clip of so many frames, MB, and its seconds."""
    sequence, video = make_clip(folder, frames)
    command = [sys.executable, "-m", "posefit", "refine", "--sequence", str(sequence)]
    command += ["--frames", str(video), "--output", str(folder / "out.npz"), *SETTINGS]
    command += ["--keypoints" if keypoints else "--no-keypoints"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"refining {frames} frames failed")
    return usage.ru_maxrss / 1024, time.perf_counter() - began


def main() -> None:
    """Print the figures, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--lengths", type=int, nargs="*", default=[100, 1000, 5000])
    parser.add_argument("--keypoints", action="store_true")
    arguments = parser.parse_args()
    peaks: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        for frames in arguments.lengths:
            peak, seconds = peak_mb(Path(name) / str(frames), frames, keypoints=arguments.keypoints)
            peaks[str(frames)] = round(peak)
            print(f"{frames} frames: {peak:.0f} MB at most, {seconds:.0f} s", flush=True)
    result = {"keypoints": arguments.keypoints, "peak_mb_by_frames": peaks}
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
