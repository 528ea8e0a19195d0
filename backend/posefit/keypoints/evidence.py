# SPDX-License-Identifier: Apache-2.0
"""A person's landmarks as evidence for the pose solver, and as confidence in joints.

Between `keypoints`, which knows a detector and its pixels, and `solver`, which knows pinhole
cameras: the lens is taken out of the pixels, and the detector's 3D, which describes a person as if
seen straight ahead, is turned to where the person stands in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared.frames import Camera, undistort_points
from posefit_shared.skeleton import SMPL_JOINT_NAMES

from ..body import BodyModel
from ..solver import BLAZEPOSE, BLAZEPOSE_BONES, BoneDirections, Evidence, LandmarkPixels
from ..views import View
from .blazepose import LANDMARK_NAMES
from .tracks import Keypoints

__all__ = [
    "EstimateConfig",
    "PinholeView",
    "confidence_from_landmarks",
    "evidence_for_estimate",
    "evidence_for_refinement",
]


@dataclass(frozen=True)
class EstimateConfig:
    """How the first estimate weighs what it sees."""

    pixel_sigma: float = 0.012
    """σ of a landmark, as a share of the person's length in the picture: detector noise, and what
    the landmark means on the body."""
    bone_sigma_rad: float = 0.3
    """σ of a bone's direction in the detector's 3D: a guess of one picture."""
    least_confidence: float = 0.3
    """Landmarks below this are left out."""
    pose_prior_weight: float = 0.3
    """How strongly usual poses are preferred."""
    smoothness: float = 1.0
    """Weight of the acceleration penalty."""
    acceleration_sigma: float = 25.0
    """m/s² that any point may have. A detector's wrong frames look like fast motion, so a σ that
    follows the motion, as in refinements, would let them stand."""
    shape_frames: int = 48
    """Well-spread frames from which the person's shape is taken."""
    independent_frames: float = 3.0
    """What all frames together may say of the shape, in frames with errors of their own."""
    window: int = 256
    """Frames solved at once."""
    overlap: int = 16
    """Frames that neighbouring windows share."""


def evidence_for_estimate(
    keypoints: Keypoints,
    camera: Camera,
    body: BodyModel,
    config: EstimateConfig | None = None,
) -> list[Evidence]:
    """Landmarks as the solver's evidence: where they are in the picture, how bones point in space.

    Args:
        keypoints: of one person, T frames.
        camera: the camera, standing still.
        body: the body model (its device is taken).
        config: settings.

    Returns:
        Evidence of T frames; frames without the person weigh nothing.
    """
    config = config or EstimateConfig()
    view = PinholeView.of(keypoints, camera, body, config)
    length = np.maximum((keypoints.person_box[:, 2:] - keypoints.person_box[:, :2]).max(1), 1.0)
    scales = torch.tensor(length * config.pixel_sigma, dtype=body.dtype, device=body.device)
    return [
        LandmarkPixels(
            BLAZEPOSE,
            view.pixels,
            view.weights,
            scales[:, None].expand_as(view.weights).contiguous(),
            view.intrinsics,
            view.world_to_camera,
        ),
        BoneDirections(
            BLAZEPOSE,
            BLAZEPOSE_BONES,
            view.positions,
            view.weights,
            scale_rad=config.bone_sigma_rad,
            world_to_camera=view.world_to_camera,
        ),
    ]


def evidence_for_refinement(
    view: View, keypoints: Keypoints, body: BodyModel, *, sigma: float = 0.02, weight: float = 1.0
) -> LandmarkPixels:
    """What the detector saw in a view, in the view's pinhole pixels, beside an estimate.

    Args:
        view: frames that the keypoints were detected in; one row for each frame of the sequence.
        keypoints: of the same frames; frames where nobody was found pull nothing.
        body: gives device and precision.
        sigma: of a landmark, as a share of the person's height in the picture.
        weight: of a landmark that is certain.
    """
    frames = len(keypoints)
    cameras = [view.camera(frame) for frame in range(frames)]
    pixels = np.stack(
        [undistort_points(camera, keypoints.pixels[t]) for t, camera in enumerate(cameras)]
    )
    has_picture = np.array([view.has_picture(t) for t in range(frames)]) & keypoints.found
    sides = (keypoints.person_box[:, 2:] - keypoints.person_box[:, :2]).max(1)
    scales = np.maximum(sigma * sides, 1.0)[:, None].repeat(pixels.shape[1], 1)

    def tensor(values: npt.NDArray) -> torch.Tensor:
        return torch.tensor(values, dtype=body.dtype, device=body.device)

    return LandmarkPixels(
        table=BLAZEPOSE,
        targets=tensor(pixels),
        weights=tensor(weight * keypoints.confidence * has_picture[:, None]),
        scales=tensor(scales),
        intrinsics=tensor(np.stack([camera.intrinsics for camera in cameras])),
        world_to_camera=tensor(np.stack([camera.world_to_camera for camera in cameras])),
    )


@dataclass(frozen=True)
class PinholeView:
    """Landmarks as an ideal pinhole camera would have them, on the body's device."""

    pixels: torch.Tensor
    positions: torch.Tensor
    weights: torch.Tensor
    intrinsics: torch.Tensor
    world_to_camera: torch.Tensor

    @staticmethod
    def of(
        keypoints: Keypoints, camera: Camera, body: BodyModel, config: EstimateConfig
    ) -> PinholeView:
        pixels = undistort_points(camera, keypoints.pixels)
        weights = np.where(
            keypoints.confidence >= config.least_confidence, keypoints.confidence, 0.0
        )
        weights = weights * keypoints.found[:, None]
        middle = pixels[:, 11:29].mean(axis=1)  # shoulders to ankles
        positions = np.einsum("tij,tkj->tki", _look_at(camera, middle), keypoints.world)
        count = len(keypoints)

        def tensor(values: npt.NDArray[np.floating]) -> torch.Tensor:
            return torch.tensor(values, dtype=body.dtype, device=body.device)

        return PinholeView(
            pixels=tensor(pixels),
            positions=tensor(positions),
            weights=tensor(weights),
            intrinsics=tensor(camera.intrinsics).expand(count, 3, 3),
            world_to_camera=tensor(camera.world_to_camera).expand(count, 4, 4),
        )


def _look_at(camera: Camera, pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(T, 3, 3) shortest turns of the optical axis to the rays through pixels (T, 2).

    The detector describes a person as if seen straight ahead; off the axis the whole person is
    turned by the angle under which they are seen.
    """
    ones = np.ones_like(pixels[:, :1])
    rays = np.concatenate([pixels, ones], axis=1) @ np.linalg.inv(camera.intrinsics).T
    x, y, z = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).T
    # Rodrigues' formula about the axis (−y, x, 0) between (0, 0, 1) and the ray.
    inverse = 1.0 / (1.0 + z)
    rows = [
        [1 - x * x * inverse, -x * y * inverse, x],
        [-x * y * inverse, 1 - y * y * inverse, y],
        [-x, -y, z],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


_NEAREST = {
    "Hip": "hip", "Knee": "knee", "Ankle": "ankle", "Foot": "foot_index", "Shoulder": "shoulder",
    "Collar": "shoulder", "Elbow": "elbow", "Wrist": "wrist", "Hand": "index",
}  # fmt: skip
_MIDDLE = {
    "Pelvis": ("left_hip", "right_hip"),
    "Neck": ("left_shoulder", "right_shoulder"),
    "Head": ("left_ear", "right_ear"),
}


def confidence_from_landmarks(keypoints: Keypoints, body: BodyModel) -> npt.NDArray[np.float32]:
    """(T, J) 0–1: how surely the landmarks about each joint were seen; 0 without the person."""
    torso = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    columns = []
    for name in body.joint_names:
        side, _, part = name.partition("_")
        if part in _NEAREST and name in SMPL_JOINT_NAMES:
            sided = {"L": "left", "R": "right"}[side]
            around: tuple[str, ...] = (f"{sided}_{_NEAREST[part]}",)
        elif side in ("L", "R"):
            around = (f"{'left' if side == 'L' else 'right'}_wrist",)
        else:
            around = _MIDDLE.get(name, torso)
        indices = [LANDMARK_NAMES.index(landmark) for landmark in around]
        columns.append(keypoints.confidence[:, indices].mean(axis=1))
    confidence = np.stack(columns, axis=1) * keypoints.found[:, None]
    return confidence.clip(0, 1).astype(np.float32)
