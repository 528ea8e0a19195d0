# SPDX-License-Identifier: Apache-2.0
"""The demo clip refined from one, two and three of its cameras, scored in the one left out.

    python benchmarks/demo_views.py [--left-out cam04] [--ways keypoints net] [--stride 5]
        [--output benchmarks/results/demo_views.json]

The first estimate is made from one camera; views are added to it one by one. The camera left out
has no part in anything but the score: hand-marked points and silhouettes of three moments. One take
of 1.67 s of one person: it shows that views help each other here, and proves no accuracy.
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

import numpy as np

from posefit.body import BodyModel, load_body
from posefit.commands.demo import ASSETS
from posefit.devices import choose_device
from posefit.engine import refine_views
from posefit.estimate import estimate
from posefit.evaluate import score_views
from posefit.footage import open_footage
from posefit.view_truth import read_truths
from posefit.views import views_of_shot
from posefit_shared.sequence import Sequence
from posefit_shared.settings import RefineSettings
from posefit_shared.shot import Shot, read_shot

WAYS = {
    "keypoints": RefineSettings(displacement="none"),
    "net": RefineSettings(displacement="net"),
}
"""`net` has the keypoints too: it is what `posefit refine --shot` does by itself."""
ORDER = ("cam03", "cam01", "cam02", "cam04")
"""The first of those that are not left out makes the estimate; the next ones join it."""


def every(sequence: Sequence, stride: int) -> Sequence:
    """Every so many frames of a sequence."""
    rows = np.arange(0, len(sequence), stride)
    per_frame = {
        name: value[rows]
        for name in ("poses", "trans", "frame_indices", "times", "confidence")
        if (value := getattr(sequence, name)) is not None
    }
    status = None if sequence.status is None else tuple(sequence.status[row] for row in rows)
    return sequence.replace(status=status, **per_frame)


def score(
    shot: Shot, sequence: Sequence, camera: str, body: BodyModel
) -> dict[str, dict[str, Any] | None]:
    """Points and silhouettes in one camera."""
    truths = [truth for truth in read_truths(ASSETS) if truth.camera == camera]
    return score_views(sequence, views_of_shot(shot, sequence, [camera]), truths, body)["all"]


def rows_of(shot: Shot, left_out: str, options: argparse.Namespace, body: BodyModel):
    """One row a way and a number of views, as they are done."""
    names = [name for name in ORDER if name != left_out]
    camera = shot.camera(names[0])
    whole = estimate(open_footage(camera.footage), body=body, camera=camera.camera)
    initial = every(whole, options.stride)
    yield {"left_out": left_out, "way": "first estimate", "views": names[:1], "seconds": 0.0,
           **score(shot, initial, left_out, body)}  # fmt: skip
    for way in options.ways:
        for count in range(1, len(names) + 1):
            began = time.perf_counter()
            views = views_of_shot(shot, initial, names[:count])
            found = refine_views(initial, views, body=body, settings=WAYS[way]).sequence
            seconds = time.perf_counter() - began
            yield {"left_out": left_out, "way": way, "views": names[:count], "seconds": seconds,
                   **score(shot, found, left_out, body)}  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """A row of a Markdown table."""
    points, overlap = row["point_error_px"], row["silhouette_iou"]
    return (
        f"| {row['left_out']} | {row['way']} | {', '.join(row['views'])} | "
        f"{points['mean']:.1f} ({points['median']:.1f}) | {overlap['mean']:.3f} | "
        f"{row['seconds']:.0f} |"
    )


def main() -> None:
    """Reads the command line, prints a row for each number of views and writes them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--left-out", nargs="+", default=["cam04"], choices=ORDER)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--stride", type=int, default=5, help="frames from one to the next")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    body = load_body("free", choose_device(options.device))
    shot = read_shot(ASSETS / "shot.json")
    print(f"{platform.machine()}, {body.device}, every {options.stride}th frame of 100\n")
    print("| left out | way | views | points, px: mean (median) | overlap | seconds |")
    print("|---" * 6 + "|")
    rows = []
    for left_out in options.left_out:
        for row in rows_of(shot, left_out, options, body):
            rows.append(row)
            print(line(row), flush=True)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        about = {"machine": platform.machine(), "device": str(body.device),
                 "stride": options.stride}  # fmt: skip
        options.output.write_text(json.dumps({"about": about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
