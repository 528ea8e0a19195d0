# SPDX-License-Identifier: Apache-2.0
"""How far the body is from what a keypoint detector sees, by body part, and by surface point.

The detector is looked at afresh for the report. It is evidence, not truth: a refinement that used
it will agree with it, and where it is wrong (hidden limbs) so is this figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posefit_shared.frames import project

from ..body import BodyModel
from ..keypoints.blazepose import LANDMARK_NAMES
from ..keypoints.detection import Keypoints, detect_keypoints
from ..views import View
from .data import PosedFrames

__all__ = ["PartResiduals", "look_at", "measure", "surface_values"]

_JOINT_LANDMARKS = {
    f"{short}_{joint}": f"{side}_{landmark}"
    for short, side in (("L", "left"), ("R", "right"))
    for joint, landmark in (
        ("Shoulder", "shoulder"),
        ("Elbow", "elbow"),
        ("Wrist", "wrist"),
        ("Hip", "hip"),
        ("Knee", "knee"),
        ("Ankle", "ankle"),
    )
}
"""Joints that the detector marks itself."""
_LIKE = {
    "Hand": "Wrist",
    "Foot": "Ankle",
    "Collar": "Shoulder",
}
_LEAST_CONFIDENCE = 0.5


@dataclass(frozen=True)
class PartResiduals:
    """Distances between body and landmarks in the picture."""

    joints: tuple[str, ...]
    """Joints that were compared."""
    pixels: npt.NDArray[np.float64]
    """(N, K) distance in each frame, pixels of the footage; NaN where the detector is unsure."""

    @property
    def by_joint(self) -> dict[str, float]:
        """Median over the frames."""
        with np.errstate(all="ignore"):
            return {
                name: float(np.nanmedian(column)) if np.isfinite(column).any() else float("nan")
                for name, column in zip(self.joints, self.pixels.T, strict=True)
            }

    @property
    def median(self) -> float:
        """Over joints and frames."""
        return float(np.nanmedian(self.pixels)) if np.isfinite(self.pixels).any() else float("nan")


def look_at(view: View, frames: npt.NDArray[np.int64], boxes: npt.NDArray[np.float64]) -> Keypoints:
    """Landmarks of the person in chosen frames of a view.

    Args:
        view: the pictures.
        frames: (N,) indices into the sequence, all with pictures.
        boxes: (N, 4) where the body is, source pixels.
    """
    return detect_keypoints(
        view.footage, view.frame_indices[frames], box_hint=boxes, with_masks=False
    )


def measure(
    posed: PosedFrames,
    frames: npt.NDArray[np.int64],
    keypoints: Keypoints,
    view: View,
    body: BodyModel,
) -> PartResiduals:
    """Distances between a motion's joints and the landmarks, in the picture.

    Args:
        posed: the motion in these frames.
        frames: (N,) indices into the sequence.
        keypoints: of the same frames.
        view: for its cameras.
        body: for its joints' names.
    """
    names = tuple(name for name in _JOINT_LANDMARKS if name in body.joint_names)
    joints = [body.joint_names.index(name) for name in names]
    landmarks = [LANDMARK_NAMES.index(_JOINT_LANDMARKS[name]) for name in names]
    distance = np.full((len(frames), len(names)), np.nan)
    for row, frame in enumerate(frames):
        pixels, depth = project(view.camera(int(frame)), posed.joints[row, joints])
        sure = keypoints.confidence[row, landmarks] >= _LEAST_CONFIDENCE
        usable = sure & (depth > 0) & keypoints.found[row]
        difference = np.linalg.norm(pixels - keypoints.pixels[row, landmarks], axis=-1)
        distance[row] = np.where(usable, difference, np.nan)
    return PartResiduals(names, distance)


def surface_values(residuals: PartResiduals, body: BodyModel) -> npt.NDArray[np.float32]:
    """(V,) the joints' figures spread over the skin that hangs on them."""
    known = residuals.by_joint
    values = np.full(len(body.joint_names), np.nan)
    for index, name in enumerate(body.joint_names):
        side, _, part = name.partition("_")
        values[index] = known.get(name, known.get(f"{side}_{_LIKE.get(part, part)}", np.nan))
    if not np.isfinite(values).any():
        return np.zeros(len(body.v_template), np.float32)
    # The trunk takes what its neighbours have; no landmark sits on it.
    values = np.where(np.isfinite(values), values, np.nanmedian(values))
    weights = body.lbs_weights.cpu().numpy()
    return (weights @ values).astype(np.float32)
