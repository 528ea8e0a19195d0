# SPDX-License-Identifier: Apache-2.0
"""Ray beside local processes at minutes of equal work, and one long clip divided over the cores.

    .venv-ray/bin/python benchmarks/ray_clips.py --output benchmarks/results/ray_clips.json

Wants an idle machine. Clips and settings are those of `batch.py`. The long clip is done as one
task of one core and as parts of one core each, and both results are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import batch as batches
import numpy as np

RAY = ("--ray", "local", "--ray-cpus", "1")


def divided(folder: Path, frames: int, chunk_frames: int) -> dict[str, Any]:
    """Seconds of one clip as one task and as parts, and how far apart the results are."""
    clips, seconds, poses = batches.make_clips(folder / "long", 1, frames), {}, {}
    for name, size in (("whole", 0), ("in_parts", chunk_frames)):
        words = (*RAY, "--ray-chunk-frames", str(size))
        seconds[name] = round(batches.run(clips, folder / name, *words), 1)
        with np.load(folder / name / "clip_000/clip_000.npz") as archive:
            poses[name] = archive["poses"]
    return {
        "frames": frames, "chunk_frames": chunk_frames, "seconds": seconds,
        "speedup": round(seconds["whole"] / seconds["in_parts"], 2),
        "largest_difference_rad": float(np.abs(poses["whole"] - poses["in_parts"]).max()),
    }  # fmt: skip


def main() -> None:
    """Print the figures, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--long", type=int, default=464)
    parser.add_argument("--chunk-frames", type=int, default=256)
    given = parser.parse_args()
    result: dict[str, Any] = {
        "cores": os.cpu_count(), "load_before": os.getloadavg()[0], "clips": given.clips,
        "frames": given.frames,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = batches.make_clips(folder / "clips", given.clips, given.frames)
        result["ray"] = batches.ray_overhead(clips, folder)
        print(json.dumps(result["ray"]), flush=True)
        result["divided"] = divided(folder, given.long, given.chunk_frames)
        print(json.dumps(result["divided"]), flush=True)
    result["load_after"] = os.getloadavg()[0]
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
