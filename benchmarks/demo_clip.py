# SPDX-License-Identifier: Apache-2.0
"""The demo's clip for benchmarks: its film, its first estimate, and clips of any length of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posefit.body import load_body
from posefit.footage import open_footage
from posefit_shared.sequence import Sequence
from posefit_shared.shot import read_shot

__all__ = ["estimated", "to_and_fro"]


def estimated(frames: int | None = None) -> tuple[Sequence, Path]:
    """The first estimate of the clip's first frames, or of all, and the film."""
    from posefit.commands.demo import ASSETS, MAIN_CAMERA  # a machine with a GPU may lack what
    from posefit.estimate import estimate  # these import: the keypoint detector, the report

    camera = read_shot(ASSETS / "shot.json").camera(MAIN_CAMERA)
    with open_footage(camera.footage) as footage:
        indices = None if frames is None else np.arange(frames)
        sequence = estimate(
            footage, body=load_body("free"), camera=camera.camera, frame_indices=indices
        )
    return sequence, Path(camera.footage)


def to_and_fro(length: int, rows: np.ndarray) -> np.ndarray:
    """Frames of a short clip that make one of any length: forwards, backwards, forwards …

    Args:
        length: frames of the short clip.
        rows: of the long one.
    """
    at = rows % max(2 * length - 2, 1)
    return np.where(at < length, at, 2 * length - 2 - at)
