# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of a real backend whose outcome is known: it opens the footage and turns the left elbow.

Run by the backend's own Python, which has posefit. `prior_weight` of the settings says how many
seconds to take, so that a test can cancel or kill in the middle.
"""

from __future__ import annotations

import time

import numpy as np

from posefit.footage import open_footage
from posefit.worker.job_context import JobContext, WorkerInfo
from posefit_shared import rotations
from posefit_shared.body_files import read_body
from posefit_shared.messages import RefineRequest, RefineResult

TURN = rotations.rotvec_to_matrix([0.0, 0.0, 0.3])


def warm_up(device: str) -> WorkerInfo:
    """A worker without models."""
    return WorkerInfo(device, f"{device} (test)", ("turning",), ("refine",))


def run_job(request: RefineRequest, context: JobContext) -> RefineResult:
    """The motion with its left elbow turned; the report says what came with it."""
    footage = open_footage(context.resolve_media(request.media))
    name = (
        "free" if request.body == "free" else read_body(context.content(request.body, ".npz")).name
    )
    motion = request.sequence
    greys = []
    for place, index in enumerate(motion.frame_indices):
        context.progress(place / len(motion), "turning", f"frame {index}")
        greys.append(float(footage.read(int(index)).mean()))
        _pass_time(request.settings.prior_weight / len(motion), context)
    poses = motion.poses.astype(float)
    poses[:, 18] = rotations.matrix_to_rotvec(rotations.rotvec_to_matrix(poses[:, 18]) @ TURN)
    return RefineResult(
        frame_indices=motion.frame_indices,
        poses=poses.astype(np.float32),
        trans=motion.trans,
        betas=motion.betas,
        confidence=np.ones(poses.shape[:2], np.float32),
        status=("refined",) * len(poses),
        report={
            "greys": greys,
            "body": name,
            "others": 0 if request.others is None else len(request.others.poses),
        },
    )


def _pass_time(seconds: float, context: JobContext) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        context.check_cancelled()
        time.sleep(0.02)
