# SPDX-License-Identifier: Apache-2.0
"""What a frame costs, by the way it is refined: the rates that a cluster is planned from.

    python benchmarks/rates.py --name cpu --threads 1 --frames 24
    python benchmarks/rates.py --name h200 --device cuda --frames 100

The demo clip's main camera (1080p, one person), started from the first estimate. A rate is given
twice: seconds of the clock, and seconds of CPU cores, which other work on the machine does not
lengthen much. `benchmarks/results/rates_NAME.json` is what `cluster_plan.py` reads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posefit.body import load_body
from posefit.commands.demo import ASSETS, MAIN_CAMERA
from posefit.devices import choose_device
from posefit.engine import refine_views, view_keypoints
from posefit.estimate import estimate
from posefit.footage import open_footage
from posefit.views import view_of_sequence
from posefit_shared.settings import RefineSettings
from posefit_shared.shot import read_shot

RESULTS = Path(__file__).parent / "results"
WAYS = {
    "network and keypoints (the default)": RefineSettings(),
    "net-fast and keypoints": RefineSettings(displacement="net-fast"),
    "keypoints alone": RefineSettings(displacement="none"),
}


def timed(frames: int, device: torch.device, run: Callable[[], Any]) -> dict[str, float]:
    """Seconds a frame, of the clock and of the CPU's cores."""
    began, spent = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return {
        "seconds_a_frame": round((time.perf_counter() - began) / frames, 5),
        "core_seconds_a_frame": round((time.process_time() - spent) / frames, 5),
    }


def main() -> None:
    """Measure, print and keep the rates of this machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    body, camera = load_body("free", device), read_shot(ASSETS / "shot.json").camera(MAIN_CAMERA)
    with open_footage(camera.footage) as footage:
        indices = np.arange(min(arguments.frames, len(footage)))
        start = estimate(
            footage, body=load_body("free"), camera=camera.camera, frame_indices=indices
        )
        view, count = view_of_sequence(start, footage), len(indices)
        rows = [{"way": "decoding and looking for keypoints", "frames": count, "is_stage": True}]
        rows[0] |= timed(count, device, lambda: view_keypoints(start, view, body))
        for way, settings in WAYS.items():
            row = timed(
                count, device, lambda settings=settings: refine_views(
                    start, [view], body=body, settings=settings
                ),
            )  # fmt: skip
            rows.append({"way": way, "frames": count, "is_stage": False, **row})
            print(json.dumps(rows[-1]), flush=True)
    is_gpu = device.type == "cuda"
    result = {
        "name": arguments.name,
        "device": torch.cuda.get_device_name(device) if is_gpu else platform.processor() or "CPU",
        "is_gpu": is_gpu, "cores": os.cpu_count(), "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1), "date": time.strftime("%Y-%m-%d"),
        "size": list(footage.size), "rows": rows,
    }  # fmt: skip
    output = arguments.output or RESULTS / f"rates_{arguments.name}.json"
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
