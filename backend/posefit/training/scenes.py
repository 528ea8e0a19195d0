# SPDX-License-Identifier: Apache-2.0
"""Who stands where: true bodies before cameras, their estimates, and the crops around these.

The world of a scene is its camera's frame (OpenCV), so `world_to_camera` is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..body import (
    BodyModel,
    PosedBody,
    PoseParameters,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    pose_body,
)
from .config import GeneratorConfig
from .draws import Draws
from .estimate_errors import (
    Errors,
    apply_errors,
    compensated_twist,
    sample_errors,
    sample_twists,
)
from .poses import PoseBank

__all__ = ["Scene", "project", "sample_scene"]


@dataclass(frozen=True)
class Scene:
    """True and estimated bodies of a batch of frames, in camera frames, and their crops."""

    true: PosedBody
    """The bodies in the pictures."""
    true_betas: Float[Tensor, "batch 10"]
    """Their shape."""
    estimated: PosedBody
    """The estimates."""
    intrinsics: Float[Tensor, "batch 3 3"]
    """Of the crops, as the estimates assume them."""
    true_intrinsics: Float[Tensor, "batch 3 3"]
    """Of the crops, as they are."""
    twists: Float[Tensor, "batch segment"]
    """Angles by which the estimates' segments are turned about their axes."""


def project(
    points: Float[Tensor, "batch point 3"], intrinsics: Float[Tensor, "batch 3 3"]
) -> Float[Tensor, "batch point 2"]:
    """Pixels of points in the camera frame; points behind it land far outside.

    Args:
        points: camera frame, metres.
        intrinsics: without skew.
    """
    focal = intrinsics[:, None, [0, 1], [0, 1]]
    return points[..., :2] / points[..., 2:].clamp_min(0.05) * focal + intrinsics[:, None, :2, 2]


def sample_scene(
    body: BodyModel,
    poses: PoseBank,
    draws: Draws,
    config: GeneratorConfig,
    *,
    errors: Errors | None = None,
    twists: Float[Tensor, "batch segment"] | None = None,
) -> Scene:
    """Draws people, poses, cameras, estimates and crops.

    Args:
        body: whom to pose.
        poses: where true poses come from.
        draws: random numbers.
        config: sizes and shares.
        errors: of the estimates, in place of drawn ones.
        twists: of the estimates' segments, in place of drawn ones.
    """
    people, frames = config.people, config.frames
    batch = people * frames
    pose = poses.sample(draws, people, frames, config.random_pose_share).reshape(batch, 24, 3)
    rotations = axis_angle_to_matrix(pose)
    heading, roots = _views(draws, people, frames)
    rotations = torch.cat([(heading @ rotations[:, 0])[:, None], rotations[:, 1:]], dim=1)
    betas = draws.normal(people, 1, 10).clamp(-2.5, 2.5).expand(-1, frames, -1).reshape(batch, 10)
    drawn_errors, drawn_twists = sample_errors(draws, config), sample_twists(draws, config)
    errors = drawn_errors if errors is None else errors
    twists = drawn_twists if twists is None else twists
    wrong = apply_errors(rotations, errors)
    wrong = compensated_twist(wrong, twists, body.joint_template)
    wrong_roots = roots + torch.cat([errors.shift, torch.zeros_like(roots[:, 2:])], dim=1)
    wrong_roots = wrong_roots * (errors.depth_factor / errors.focal_factor)[:, None]
    wrong_roots[:, :2] = wrong_roots[:, :2] * errors.focal_factor[:, None]
    true = _pose_at(body, betas, rotations, roots)
    estimated = _pose_at(body, betas + errors.betas, wrong, wrong_roots)
    intrinsics = _crop(draws, estimated.vertices, config.size)
    true_intrinsics = intrinsics.clone()
    true_intrinsics[:, [0, 1], [0, 1]] *= errors.focal_factor[:, None]
    return Scene(true, betas, estimated, intrinsics, true_intrinsics, twists)


def _pose_at(body: BodyModel, betas: Tensor, rotations: Tensor, roots: Tensor) -> PosedBody:
    """Bodies posed by matrices with their pelvis at a place."""
    vectors = matrix_to_axis_angle(rotations)
    pelvis = body.joint_template[0] + betas @ body.joint_shapedirs[0, :, : betas.shape[1]].T
    return pose_body(body, PoseParameters(betas, vectors[:, 0], vectors[:, 1:], roots - pelvis))


def _views(draws: Draws, people: int, frames: int) -> tuple[Tensor, Tensor]:
    """Turn of each upright body into its camera's frame, and where its pelvis is."""
    batch = people * frames
    yaw = draws.uniform(people, 1, high=6.2832) + draws.normal(people, frames) * 0.6
    steep = torch.where(draws.happens(0.1, people, 1), 4.0, 1.0)
    pitch = draws.normal(people, 1) * 0.2 * steep + draws.normal(people, frames) * 0.03
    roll = (draws.normal(people, 1) * 0.08).expand(-1, frames)
    down = torch.diag(torch.tensor([1.0, -1.0, -1.0], device=draws.device))
    turn = down @ _about(2, roll) @ _about(0, pitch) @ _about(1, yaw)
    distance = draws.log_uniform(people, 1, low=1.8, high=9.0) * (
        1.0 + 0.06 * draws.normal(people, frames)
    )
    across = draws.uniform(people, 1, low=-0.4, high=0.4) + draws.normal(people, frames) * 0.03
    along = draws.uniform(people, 1, low=-0.2, high=0.25) + draws.normal(people, frames) * 0.02
    rays = torch.stack([across.tan(), along.tan(), torch.ones_like(across)], dim=2)
    return turn.reshape(batch, 3, 3), (rays * distance[..., None]).reshape(batch, 3)


def _about(axis: int, angle: Tensor) -> Tensor:
    vector = torch.zeros(*angle.shape, 3, device=angle.device)
    vector[..., axis] = angle
    return axis_angle_to_matrix(vector)


def _crop(draws: Draws, vertices: Tensor, size: int) -> Float[Tensor, "batch 3 3"]:
    """Intrinsics of square crops around estimates, in pixels of the crop."""
    rays = vertices[..., :2] / vertices[..., 2:].clamp_min(0.2)
    low, high = rays.amin(dim=1), rays.amax(dim=1)
    extent = (high - low).amax(dim=1)
    batch = len(vertices)
    center = (low + high) / 2 + draws.normal(batch, 2) * 0.02 * extent[:, None]
    margin = draws.uniform(batch, low=1.12, high=1.5)
    close = draws.happens(0.1, batch)
    margin = torch.where(close, draws.uniform(batch, low=0.6, high=1.12), margin)
    focal = size / (extent * margin)
    intrinsics = torch.zeros(batch, 3, 3, device=vertices.device)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, :2, 2] = size / 2 - center * focal[:, None]
    intrinsics[:, 2, 2] = 1.0
    return intrinsics
