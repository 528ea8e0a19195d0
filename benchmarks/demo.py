# SPDX-License-Identifier: Apache-2.0
"""The demo clip, scored in the cameras that were not used, and in its own: estimate to all.

    python benchmarks/demo.py [--output demo.json]

One take of 1.67 s of one person: it shows that the path works and proves no accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from posefit.body import load_body
from posefit.commands.demo import ASSETS, MAIN_CAMERA
from posefit.devices import choose_device
from posefit.engine import refine_views
from posefit.estimate import estimate
from posefit.evaluate import score_views
from posefit.footage import open_footage
from posefit.view_truth import read_truths
from posefit.views import view_of_sequence, views_of_shot
from posefit_shared.settings import RefineSettings
from posefit_shared.shot import read_shot

WAYS = {
    "keypoints alone": RefineSettings(displacement="none"),
    "flow and keypoints": RefineSettings(displacement="flow"),
    "net and keypoints": RefineSettings(displacement="net"),
    "net alone": RefineSettings(displacement="net", keypoints=False),
}


def main() -> None:
    """Print one row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    body = load_body("free", choose_device(arguments.device))
    shot = read_shot(ASSETS / "shot.json")
    camera = shot.camera(MAIN_CAMERA)
    footage = open_footage(camera.footage)
    truths = read_truths(ASSETS)
    rows: list[dict[str, Any]] = []

    def score(sequence, *, unseen: bool) -> dict[str, Any]:
        chosen = [truth for truth in truths if (truth.camera != MAIN_CAMERA) == unseen]
        views = views_of_shot(shot, sequence, [truth.camera for truth in chosen])
        return score_views(sequence, views, chosen, body)

    def add(way: str, sequence, began: float) -> None:
        seconds = time.perf_counter() - began
        others, own = score(sequence, unseen=True), score(sequence, unseen=False)["all"]
        rows.append({"way": way, "seconds": seconds, **others, "own_camera": own})
        points, overlap = (others["all"][name] for name in ("point_error_px", "silhouette_iou"))
        print(
            f"{way:22s} points {points['mean']:5.1f} px (median {points['median']:5.1f})   "
            f"overlap {overlap['mean']:.3f}   {seconds:6.1f} s   in its own camera "
            f"{own['point_error_px']['mean']:5.1f} px, {own['silhouette_iou']['mean']:.3f}",
            flush=True,
        )

    print(f"{platform.machine()}, {body.device}, {os.cpu_count()} cores; from {MAIN_CAMERA} alone")
    began = time.perf_counter()
    initial = estimate(footage, body=body, camera=camera.camera)
    add("first estimate", initial, began)
    view = view_of_sequence(initial, footage)
    for way, settings in WAYS.items():
        began = time.perf_counter()
        add(way, refine_views(initial, [view], body=body, settings=settings).sequence, began)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
