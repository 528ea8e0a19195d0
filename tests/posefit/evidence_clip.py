# SPDX-License-Identifier: Apache-2.0
"""Simulated findings of other tools for the made-up clip, written as the tools write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from posefit.body import BodyModel, pose_body
from posefit.evidence import EvidenceFiles
from posefit.evidence.simulated import (
    body_fragments,
    simulated_iuv,
    simulated_keypoints,
    write_iuv_png,
    write_openpose,
)
from posefit.evidence.surface_charts import made_up_charts, write_surface_charts
from posefit.parameters import parameters_of_sequence
from posefit.solver import BODY_25
from posefit_shared.sequence import Sequence


def write_findings(folder: Path, truth: Sequence, body: BodyModel) -> EvidenceFiles:
    """Keypoints, IUV maps with their mapping, and masks of every frame."""
    files = EvidenceFiles(
        folder / "keypoints", folder / "iuv", folder / "charts.npz", folder / "masks"
    )
    for path in (files.keypoints, files.densepose, files.masks):
        path.mkdir(parents=True)
    charts = made_up_charts(body)
    write_surface_charts(files.iuv_mapping, charts)
    posed = pose_body(body, parameters_of_sequence(truth, body))
    for t in range(len(truth)):
        rng = np.random.default_rng(t)
        camera = truth.camera(t)
        fragments = body_fragments(body, posed.vertices[t], camera)
        seen = (fragments.pix_to_face[0] >= 0).numpy()
        points = simulated_keypoints(
            BODY_25, body, posed.vertices[t], posed.joints[t], camera, seen, rng
        )
        passer_by = points + [90.0, 20.0, 0.0]
        name = files.keypoints / f"clip_{t:012d}_keypoints.json"
        write_openpose(name, [passer_by, points])
        iuv = simulated_iuv(fragments, charts, seen, rng)
        write_iuv_png(files.densepose / f"{t:04d}_IUV.png", iuv)
        Image.fromarray((seen * 255).astype(np.uint8)).save(files.masks / f"mask{t:04d}.png")
    return files
