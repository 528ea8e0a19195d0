# SPDX-License-Identifier: Apache-2.0
"""Real people before their cameras: true bodies, and simulated wrong estimates of them.

Everything is in the frame of each picture's camera, as training's synthetic scenes are. The errors
are those of `training.estimate_errors`; on SMPL-X and SMPL-H bodies they act on the 22 joints of
the body, and hands and face follow the truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posefit_shared.frames import Camera

from ..body import BodyModel, axis_angle_to_matrix
from ..training.estimate_errors import Errors, apply_errors, compensated_twist
from ..training.scenes import pose_by_matrices
from .recording import FrameSample

__all__ = ["RealPerson", "errors_of", "pose_person"]

_BODY_JOINTS = 22


@dataclass(frozen=True)
class RealPerson:
    """Some frames of one person, true and estimated, in each frame's camera."""

    true_vertices: Float[Tensor, "frame vertex 3"]
    """Of the data set's body, metres."""
    estimated_vertices: Float[Tensor, "frame vertex 3"]
    """Of the wrong estimate, metres."""
    true_cameras: list[Camera]
    """With `world_to_camera` the identity."""
    assumed_cameras: list[Camera]
    """As the estimate has them: another focal length, perhaps."""


def errors_of(errors: Errors, part: slice) -> Errors:
    """The errors of some frames.

    Args:
        errors: of a whole batch.
        part: which rows.
    """
    return Errors(*(getattr(errors, field.name)[part] for field in dataclasses.fields(errors)))


def pose_person(
    samples: Many[FrameSample], body: BodyModel, errors: Errors, twists: Tensor
) -> RealPerson:
    """True and estimated bodies of one person's frames.

    Args:
        samples: frames of one recording.
        body: whose parameters they are.
        errors: of the estimates, a row a frame.
        twists: (frame, segment) angles about the segments' axes, radians.
    """
    betas = torch.stack([_padded(sample.parameters.betas, body) for sample in samples])
    to_camera = _tensor([sample.camera.world_to_camera for sample in samples], body)
    poses = [
        np.concatenate([s.parameters.global_orient[None], s.parameters.body_pose]) for s in samples
    ]
    rotations = axis_angle_to_matrix(_tensor(poses, body))
    rotations = torch.cat([to_camera[:, :3, :3, None].movedim(3, 1) @ rotations[:, :1],
                           rotations[:, 1:]], dim=1)  # fmt: skip
    pelvis = body.joint_template[0] + betas @ body.joint_shapedirs[0].T
    world = pelvis + _tensor([sample.parameters.transl for sample in samples], body)
    roots = (to_camera[:, :3, :3] @ world[..., None])[..., 0] + to_camera[:, :3, 3]
    wrong = _wrong_rotations(rotations, errors, twists, body)
    ratio = errors.depth_factor[:, None]
    shifted = (roots[:, :2] + errors.shift) * ratio
    # another focal length: the same picture comes from another distance
    depth = roots[:, 2:] * ratio / errors.focal_factor[:, None]
    wrong_betas = betas.clone()
    known = min(betas.shape[1], errors.betas.shape[1])
    wrong_betas[:, :known] += errors.betas[:, :known]
    true = pose_by_matrices(body, betas, rotations, roots)
    estimated = pose_by_matrices(body, wrong_betas, wrong, torch.cat([shifted, depth], dim=1))
    factors = [float(factor) for factor in errors.focal_factor]
    return RealPerson(
        true.vertices,
        estimated.vertices,
        [_centred(sample.camera, 1.0) for sample in samples],
        [_centred(s.camera, factor) for s, factor in zip(samples, factors, strict=True)],
    )


def _wrong_rotations(
    rotations: Float[Tensor, "frame joint 3 3"], errors: Errors, twists: Tensor, body: BodyModel
) -> Float[Tensor, "frame joint 3 3"]:
    """Local rotations of the estimates; joints that are not SMPL's stay as they are."""
    count = 24 if rotations.shape[1] == 24 else _BODY_JOINTS
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    padding = identity.expand(len(rotations), 24 - count, 3, 3)
    wrong = apply_errors(torch.cat([rotations[:, :count], padding], dim=1), errors)
    wrong = compensated_twist(wrong, twists, body.joint_template)
    return torch.cat([wrong[:, :count], rotations[:, count:]], dim=1)


def _centred(camera: Camera, focal_factor: float) -> Camera:
    """The camera as the origin of its own frame, its focal lengths divided by a factor."""
    intrinsics = camera.intrinsics.copy()
    intrinsics[[0, 1], [0, 1]] /= focal_factor
    intrinsics[0, 1] = 0.0
    return Camera(intrinsics, np.eye(4), camera.image_size, camera.distortion)


def _padded(betas: np.ndarray, body: BodyModel) -> Float[Tensor, " beta"]:
    """As many coefficients as the body has: those it lacks are dropped, others are zero."""
    full = np.zeros(body.num_betas, np.float32)
    known = min(len(betas), body.num_betas)
    full[:known] = betas[:known]
    return torch.tensor(full, dtype=body.dtype, device=body.device)


def _tensor(rows: Many[np.ndarray], body: BodyModel) -> Tensor:
    return torch.tensor(np.stack(rows), dtype=body.dtype, device=body.device)
