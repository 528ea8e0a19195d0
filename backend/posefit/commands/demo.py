# SPDX-License-Identifier: Apache-2.0
"""`posefit demo`: the main job on the bundled real clip, start to end, with something to look at.

One camera of the clip is used: estimate → texture → refine. The other cameras judge the result by
hand-checked points and silhouettes: nothing that is scored was seen while refining. What this clip
can show, and what not, is said in docs/demo.md.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posefit_shared.sequence import Sequence, write_sequence
from posefit_shared.settings import RefineSettings
from posefit_shared.shot import Shot, read_shot

from ..body import BodyModel, load_body
from ..devices import choose_device
from ..engine import refine_views
from ..estimate import estimate
from ..evaluate import score_views
from ..footage import open_footage
from ..pipeline import Hooks, Refinement
from ..report import ReportData, write_overlay_video, write_report
from ..texture import save_png
from ..texture_clip import paint_texture
from ..view_truth import read_truths
from ..views import View, view_of_sequence, views_of_shot
from .refining import progress_bar

__all__ = ["ASSETS", "MAIN_CAMERA", "run_demo"]

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).parents[1] / "assets" / "demo"
MAIN_CAMERA = "cam03"
"""The one camera that the refinement sees: whole person, from behind, little of them hidden."""
_BLEND_SCRIPT = Path(__file__).parents[3] / "tools" / "blender" / "make_demo_blend.py"
_BLENDER_PYTHON = Path(__file__).parents[3] / ".venv-bpy42" / "bin" / "python"
_BLENDER_TIMEOUT_S = 300


@dataclass
class _Steps:
    """What the demo says while it runs, and how long each step took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[Hooks]:
        began = time.perf_counter()
        with progress_bar(name) as hooks:
            yield hooks
            hooks.progress(1.0, "done")
        self.seconds[name] = time.perf_counter() - began


def run_demo(output: Path, *, device: str = "auto", blender: Path | None = None) -> dict[str, Any]:
    """Run the main job on the bundled clip and write everything that can be looked at.

    Args:
        output: folder for initial.npz, refined.npz, texture.png, overlay.mp4, report/index.html,
            evaluation.json and demo.blend.
        device: `auto`, `cpu` or `cuda`.
        blender: Python with the module bpy; beside the checkout if it is there.

    Returns:
        The scores in the held-out cameras, before and after.
    """
    output.mkdir(parents=True, exist_ok=True)
    body = load_body("free", choose_device(device))
    shot = read_shot(ASSETS / "shot.json")
    steps = _Steps()
    initial, view = _estimate(shot, body, steps)
    write_sequence(output / "initial.npz", initial)
    with steps.step("texture"):
        save_png(paint_texture(initial, [view], body), output / "texture.png")
    with steps.step("refine") as hooks:
        refinement = refine_views(
            initial, [view], body=body, settings=RefineSettings(), hooks=hooks
        )
    write_sequence(output / "refined.npz", refinement.sequence)
    with steps.step("evaluate") as hooks:
        scores = _score(shot, initial, refinement.sequence, body, hooks)
    (output / "evaluation.json").write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
    with steps.step("report") as hooks:
        _write_pictures(output, body, view, initial, refinement, scores, steps.seconds, hooks)
    _write_blend(output, blender, view)
    _tell(output, scores, refinement)
    return scores


def _estimate(shot: Shot, body: BodyModel, steps: _Steps) -> tuple[Sequence, View]:
    camera = shot.camera(MAIN_CAMERA)
    footage = open_footage(camera.footage)
    with steps.step("estimate") as hooks:
        sequence = estimate(
            footage,
            body=body,
            camera=camera.camera,
            progress=lambda done, total: hooks.progress(0.8 * done / total, "following the person"),
        )
    return sequence, view_of_sequence(sequence, footage)


def _score(
    shot: Shot, initial: Sequence, refined: Sequence, body: BodyModel, hooks: Hooks
) -> dict[str, Any]:
    """Scores in the cameras that had no part in the estimate or its refinement."""
    held_out = [camera.name for camera in shot.cameras if camera.name != MAIN_CAMERA]
    truths = [truth for truth in read_truths(ASSETS) if truth.camera in held_out]
    scores: dict[str, Any] = {"main_camera": MAIN_CAMERA, "held_out": held_out}
    for k, (name, sequence) in enumerate((("initial", initial), ("refined", refined))):
        views = views_of_shot(shot, sequence, held_out)
        scores[name] = score_views(sequence, views, truths, body)
        hooks.progress((k + 1) / 2, name)
    return scores


def _write_pictures(
    output: Path,
    body: BodyModel,
    view: View,
    initial: Sequence,
    refinement: Refinement,
    scores: dict[str, Any],
    seconds: dict[str, float],
    hooks: Hooks,
) -> None:
    write_overlay_video(output / "overlay.mp4", view, initial, refinement.sequence, body)
    hooks.progress(0.5, "overlay video written")
    data = ReportData(
        title="posefit demo", before=initial, after=refinement.sequence, view=view, body=body,
        scores=scores, seconds=seconds, timings_ms=refinement.timings_ms,
        misfit=refinement.verdict.ratio,
    )  # fmt: skip
    write_report(output / "report", data)


def _write_blend(output: Path, blender: Path | None, view: View) -> None:
    """demo.blend through a Python that has bpy; without one, a sentence that says so."""
    python = blender or _BLENDER_PYTHON
    if not python.is_file() or not _BLEND_SCRIPT.is_file():
        logger.info("no Blender module found: demo.blend is left out (make demo brings it)")
        return
    command = [
        python, _BLEND_SCRIPT, "--initial", output / "initial.npz", "--refined",
        output / "refined.npz", "--footage", view.footage.path, "--output", output / "demo.blend",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True,
            timeout=_BLENDER_TIMEOUT_S, check=False, env={**os.environ, "PYTHONNOUSERSITE": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        logger.warning("Blender did not finish demo.blend in %d s: left out", _BLENDER_TIMEOUT_S)
        return
    if done.returncode:
        logger.warning("demo.blend could not be made: %s", done.stderr.strip().splitlines()[-1:])


def _tell(output: Path, scores: dict[str, Any], refinement: Refinement) -> None:
    verdict = refinement.verdict
    lines = [
        "",
        f"{int(verdict.refined.sum())} of {len(verdict.refined)} frames refined.",
        f"In the {len(scores['held_out'])} cameras that were not used, before → after:",
    ]
    for name, unit in (("point_error_px", "px"), ("silhouette_iou", "")):
        before, after = (scores[which]["all"][name] for which in ("initial", "refined"))
        words = " → ".join(
            f"{score['mean']:.3g} [{score['low']:.3g}, {score['high']:.3g}] {unit}".strip()
            for score in (before, after)
        )
        lines.append(f"  {name.replace('_', ' ')}: {words}")
    lines += [f"Open {output / 'report' / 'index.html'}, overlay.mp4 and demo.blend.", ""]
    sys.stdout.write("\n".join(lines))
