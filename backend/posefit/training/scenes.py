# SPDX-License-Identifier: Apache-2.0
"""Who stands where: true bodies before cameras, their estimates, and the crops around these.

The world of a scene is its camera's frame (OpenCV), so `world_to_camera` is the identity. Random
numbers are drawn first and the scene built from them by one pure function, which can be compiled;
it never indexes by lists, because sending an index to a GPU waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..body import BodyModel, axis_angle_to_matrix
from .config import GeneratorConfig
from .draws import Draws
from .estimate_errors import (
    Errors,
    apply_errors,
    compensated_twist,
    sample_errors,
    sample_personal,
    sample_twists,
)
from .poses import PoseBank

__all__ = [
    "Posed",
    "Scene",
    "SceneDraws",
    "build_scene",
    "draw_scene",
    "pose_by_matrices",
    "project",
]


@dataclass(frozen=True)
class SceneDraws:
    """All that is random about a batch of scenes."""

    pose: Float[Tensor, "batch 24 3"]
    """True local rotations but for the heading, rotation vectors."""
    heading: Float[Tensor, "batch 3"]
    """Yaw, pitch, roll of the upright body against the camera, radians."""
    roots: Float[Tensor, "batch 3"]
    """True pelvis, camera frame, metres."""
    betas: Float[Tensor, "batch 10"]
    """True shape."""
    errors: Errors
    """Of the estimates."""
    twists: Float[Tensor, "batch segment"]
    """Angles by which the estimates' segments are turned about their axes."""
    crop_shift: Float[Tensor, "batch 2"]
    """Of the crop's middle, as a share of the body's extent."""
    crop_margin: Float[Tensor, " batch"]
    """Side of the crop by the body's extent."""


@dataclass(frozen=True)
class Posed:
    """Posed bodies in the camera frame."""

    vertices: Float[Tensor, "batch vertex 3"]
    joints: Float[Tensor, "batch joint 3"]
    joint_motions: Float[Tensor, "batch joint 3 4"]
    """Rest surface to posed surface for what hangs on each joint."""
    pose_feature: Float[Tensor, "batch feature"]
    """What pose correctives are linear in."""


@dataclass(frozen=True)
class Scene:
    """True and estimated bodies of a batch of frames, in camera frames, and their crops."""

    true: Posed
    """The bodies in the pictures."""
    true_betas: Float[Tensor, "batch 10"]
    """Their shape."""
    estimated: Posed
    """The estimates."""
    intrinsics: Float[Tensor, "batch 3 3"]
    """Of the crops, as the estimates assume them."""
    true_intrinsics: Float[Tensor, "batch 3 3"]
    """Of the crops, as they are."""


def project(
    points: Float[Tensor, "batch point 3"], intrinsics: Float[Tensor, "batch 3 3"]
) -> Float[Tensor, "batch point 2"]:
    """Pixels of points in the camera frame; points behind it land far outside.

    Args:
        points: camera frame, metres.
        intrinsics: without skew.
    """
    focal = intrinsics.diagonal(dim1=1, dim2=2)[:, None, :2]
    return points[..., :2] / points[..., 2:].clamp_min(0.05) * focal + intrinsics[:, None, :2, 2]


def draw_scene(poses: PoseBank, draws: Draws, config: GeneratorConfig) -> SceneDraws:
    """Draws people, poses, cameras, estimates' errors and crops.

    Args:
        poses: where true poses come from.
        draws: random numbers.
        config: sizes and shares.
    """
    people, frames = config.people, config.frames
    batch = people * frames
    pose = poses.sample(draws, people, frames, config.random_pose_share).reshape(batch, 24, 3)
    betas = draws.normal(people, 1, 10).clamp(-2.5, 2.5).expand(-1, frames, -1).reshape(batch, 10)
    margin = draws.uniform(batch, low=1.12, high=1.5)
    close = draws.uniform(batch, low=0.6, high=1.12)
    personal = sample_personal(draws, config)
    return SceneDraws(
        pose=pose,
        heading=_draw_heading(draws, people, frames),
        roots=_draw_roots(draws, people, frames),
        betas=betas,
        errors=sample_errors(draws, config, personal),
        twists=sample_twists(draws, config, personal),
        crop_shift=draws.normal(batch, 2) * 0.02,
        crop_margin=torch.where(draws.happens(0.1, batch), close, margin),
    )


def _draw_heading(draws: Draws, people: int, frames: int) -> Float[Tensor, "batch 3"]:
    yaw = draws.uniform(people, 1, high=6.2832) + draws.normal(people, frames) * 0.6
    steep = torch.where(draws.happens(0.1, people, 1), 4.0, 1.0)
    pitch = draws.normal(people, 1) * 0.2 * steep + draws.normal(people, frames) * 0.03
    roll = (draws.normal(people, 1) * 0.08).expand(-1, frames)
    return torch.stack([yaw, pitch, roll], dim=2).flatten(0, 1)


def _draw_roots(draws: Draws, people: int, frames: int) -> Float[Tensor, "batch 3"]:
    distance = draws.log_uniform(people, 1, low=1.8, high=9.0) * (
        1.0 + 0.06 * draws.normal(people, frames)
    )
    across = draws.uniform(people, 1, low=-0.4, high=0.4) + draws.normal(people, frames) * 0.03
    along = draws.uniform(people, 1, low=-0.2, high=0.25) + draws.normal(people, frames) * 0.02
    rays = torch.stack([across.tan(), along.tan(), torch.ones_like(across)], dim=2)
    return (rays * distance[..., None]).flatten(0, 1)


def build_scene(body: BodyModel, drawn: SceneDraws, size: int) -> Scene:
    """The scene that random numbers stand for; a pure function.

    Args:
        body: whom to pose.
        drawn: the random numbers.
        size: side of the crops in pixels.
    """
    errors = drawn.errors
    rotations = axis_angle_to_matrix(drawn.pose)
    root = _upright_to_camera(drawn.heading) @ rotations[:, 0]
    rotations = torch.cat([root[:, None], rotations[:, 1:]], dim=1)
    wrong = apply_errors(rotations, errors)
    wrong = compensated_twist(wrong, drawn.twists, body.joint_template)
    ratio = errors.depth_factor[:, None]
    shifted = (drawn.roots[:, :2] + errors.shift) * ratio
    # another focal length: the same picture comes from another distance
    depth = drawn.roots[:, 2:] * ratio / errors.focal_factor[:, None]
    both = pose_by_matrices(
        body,
        torch.cat([drawn.betas, drawn.betas + errors.betas]),
        torch.cat([rotations, wrong]),
        torch.cat([drawn.roots, torch.cat([shifted, depth], dim=1)]),
    )
    count = len(drawn.pose)
    fields = (both.vertices, both.joints, both.joint_motions, both.pose_feature)
    true, estimated = Posed(*(f[:count] for f in fields)), Posed(*(f[count:] for f in fields))
    focal, middle = _crop(estimated.vertices, drawn, size)
    intrinsics = _intrinsics(focal, middle)
    true_intrinsics = _intrinsics(focal * errors.focal_factor, middle)
    return Scene(true, drawn.betas, estimated, intrinsics, true_intrinsics)


def _upright_to_camera(heading: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """Rotation of upright bodies (y up) into cameras that look at them (y down)."""
    yaw, pitch, roll = heading.unbind(1)
    zero = torch.zeros_like(yaw)
    vectors = torch.stack([zero, zero, roll, pitch, zero, zero, zero, yaw, zero], dim=1)
    about_z, about_x, about_y = axis_angle_to_matrix(vectors.unflatten(1, (3, 3))).unbind(1)
    first, second, third = (about_z @ about_x @ about_y).unbind(1)
    return torch.stack([first, -second, -third], dim=1)


def pose_by_matrices(
    body: BodyModel,
    betas: Float[Tensor, "batch 10"],
    rotations: Float[Tensor, "batch 24 3 3"],
    roots: Float[Tensor, "batch 3"],
) -> Posed:
    """Bodies posed by local rotation matrices with their pelvis at a place.

    The same bodies as `body.pose_body` gives for the rotation vectors.

    Args:
        body: whom to pose.
        betas: shape.
        rotations: of every joint, the root's first.
        roots: pelvis, metres.
    """
    rest = body.joint_template + torch.einsum("jcb,nb->njc", body.joint_shapedirs, betas)
    turned, placed = [rotations[:, 0]], [roots]
    for joint, parent in list(enumerate(body.parents))[1:]:
        offset = (rest[:, joint] - rest[:, parent])[..., None]
        placed.append(placed[parent] + (turned[parent] @ offset)[..., 0])
        turned.append(turned[parent] @ rotations[:, joint])
    frames, joints = torch.stack(turned, dim=1), torch.stack(placed, dim=1)
    shaped = body.v_template + (betas @ body.shapedirs.flatten(0, 1).T).unflatten(1, (-1, 3))
    identity = torch.eye(3, device=betas.device)
    feature = (rotations[:, 1:] - identity).flatten(1)
    corrections = (feature @ body.posedirs.flatten(0, 1).T).unflatten(1, (-1, 3))
    shaped = shaped.index_add(1, body.corrective_vertices, corrections)
    shift = joints - (frames @ rest[..., None])[..., 0]
    motions = torch.cat([frames, shift[..., None]], dim=3)
    blended = (body.lbs_weights @ motions.flatten(2)).unflatten(2, (3, 4))
    vertices = (blended[..., :3] * shaped[:, :, None]).sum(-1) + blended[..., 3]
    return Posed(vertices, joints, motions, feature)


def _crop(
    vertices: Float[Tensor, "batch vertex 3"], drawn: SceneDraws, size: int
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch 2"]]:
    """Focal length and principal point of square crops around estimates, pixels of the crop."""
    rays = vertices[..., :2] / vertices[..., 2:].clamp_min(0.2)
    low, high = rays.amin(dim=1), rays.amax(dim=1)
    extent = (high - low).amax(dim=1)
    center = (low + high) / 2 + drawn.crop_shift * extent[:, None]
    focal = size / (extent * drawn.crop_margin)
    return focal, size / 2 - center * focal[:, None]


def _intrinsics(
    focal: Float[Tensor, " batch"], middle: Float[Tensor, "batch 2"]
) -> Float[Tensor, "batch 3 3"]:
    zero, one = torch.zeros_like(focal), torch.ones_like(focal)
    rows = [(focal, zero, middle[:, 0]), (zero, focal, middle[:, 1]), (zero, zero, one)]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
