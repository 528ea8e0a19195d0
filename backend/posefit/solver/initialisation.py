# SPDX-License-Identifier: Apache-2.0
"""First root rotation and translation from a detector's landmarks, in closed form.

The detector's 3D landmarks say how the torso is turned (Procrustes against the rest pose), and, put
at the right size, where the person is: with the offsets X between landmarks known, the pinhole
equations u (X_z + t_z) = X_x + t_x are linear in the translation t, at full perspective.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..body import BodyModel, PoseParameters, matrix_to_axis_angle, pose_joints
from .landmarks import LandmarkTable, pose_landmarks
from .pose_prior import load_pose_prior
from .skeleton import SkeletonModel, pose_skeleton, state_from_parameters

__all__ = ["initial_root"]

_TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
_LIMBS = (
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
    ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"),
)  # fmt: skip
_LEAST_DEPTH_M = 0.3
_REWEIGHTINGS = 8


@torch.no_grad()
def initial_root(
    body: BodyModel,
    table: LandmarkTable,
    pixels: Float[Tensor, "batch landmark 2"],
    positions: Float[Tensor, "batch landmark 3"] | None,
    weights: Float[Tensor, "batch landmark"],
    intrinsics: Float[Tensor, "batch 3 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
    *,
    betas: Float[Tensor, "batch beta"] | None = None,
) -> PoseParameters:
    """A standing body turned and placed where the landmarks say, one for each frame.

    Args:
        body: the body model.
        table: what the landmarks are; needs shoulders and hips by their usual names.
        pixels: landmarks in the picture.
        positions: landmarks in 3D, camera-oriented (OpenCV axes), any origin and size; None takes
            a standing person who faces the camera instead.
        weights: confidence, ≥ 0.
        intrinsics: pinhole, pixels.
        world_to_camera: metres.
        betas: shape; the mean body by default.

    Returns:
        Parameters in the mean pose of the learned prior (a T-pose is far from how people stand,
        and elbows that start straight may bend the wrong way). Frames with too few landmarks
        stand 3 m before the camera on its axis.
    """
    batch, dtype = len(pixels), pixels.dtype
    rest = _standing(body, batch, dtype, betas)
    body_points, known = _rest_landmarks(body, table, rest)
    usable = pixels.isfinite().all(-1) & weights.isfinite() & (weights > 0) & known
    if positions is not None:
        usable &= positions.isfinite().all(-1)
    weights = torch.where(usable, weights, 0.0).to(dtype)
    pixels = torch.where(usable[..., None], pixels, 0.0)
    rotation = _facing_camera(batch, pixels)
    offsets = body_points @ rotation.transpose(1, 2)
    if positions is not None:
        positions = torch.where(usable[..., None], positions, 0.0).to(dtype)
        rotation = _torso_rotation(table, body_points, positions, weights, rotation)
        offsets = positions * _size_ratio(table, body_points, positions, weights)
    offsets = offsets - _hips(table, offsets)
    hips = _place(offsets, pixels, weights, intrinsics.to(dtype))
    return _in_world(body, table, rest, body_points, rotation, hips, world_to_camera.to(dtype))


def _standing(
    body: BodyModel, batch: int, dtype: torch.dtype, betas: Tensor | None
) -> PoseParameters:
    rest = PoseParameters.rest(body, batch).to(dtype=dtype)
    prior = load_pose_prior(body.joint_names, body.device, dtype)
    pose = rest.body_pose.clone()
    pose[:, : prior.joint_count] = prior.mean_pose
    shape = rest.betas if betas is None else betas.to(dtype)
    return PoseParameters(shape, rest.global_orient, pose, rest.transl)


def _rest_landmarks(
    body: BodyModel, table: LandmarkTable, rest: PoseParameters
) -> tuple[Float[Tensor, "batch landmark 3"], Tensor]:
    state = state_from_parameters(rest)
    model = SkeletonModel.from_body(body, rest.betas.shape[1], rest.transl.dtype)
    bound = table.bind(body, rest.transl.dtype)
    skeleton = pose_skeleton(model, state, with_shape=False)
    points = pose_landmarks(bound.mixture, bound.point_set(body, model), skeleton)
    return points.positions.transpose(1, 2), bound.known


def _facing_camera(batch: int, like: Tensor) -> Float[Tensor, "batch 3 3"]:
    """Rest pose (y up, facing +z) to camera (y down, looking along +z): upright, facing it."""
    diagonal = torch.tensor([1.0, -1.0, -1.0], device=like.device, dtype=like.dtype)
    return torch.diag(diagonal).expand(batch, 3, 3)


def _torso_rotation(
    table: LandmarkTable,
    body_points: Float[Tensor, "batch landmark 3"],
    positions: Float[Tensor, "batch landmark 3"],
    weights: Float[Tensor, "batch landmark"],
    fallback: Float[Tensor, "batch 3 3"],
) -> Float[Tensor, "batch 3 3"]:
    """Rotation that best lays the rest torso on the detected one (weighted Procrustes).

    Source: Kabsch, A solution for the best rotation to relate two sets of vectors, 1976.
    """
    torso = [table.index(name) for name in _TORSO]
    weight = weights[:, torso, None]
    total = weight.sum(1, keepdim=True).clamp_min(1e-9)

    def centred(points: Tensor) -> Tensor:
        chosen = points[:, torso]
        return chosen - (weight * chosen).sum(1, keepdim=True) / total

    covariance = (centred(positions) * weight).transpose(1, 2) @ centred(body_points)
    left, _, right = torch.linalg.svd(covariance)
    sign = torch.det(left @ right)
    flip = torch.ones_like(left[..., 0])
    flip[:, 2] = sign
    rotation = left @ (flip[..., None] * right)
    # Three points fix a rotation; with fewer the person is taken to face the camera.
    is_fixed = (weight[..., 0] > 0).sum(1) >= 3
    return torch.where(is_fixed[:, None, None], rotation, fallback)


def _size_ratio(
    table: LandmarkTable,
    body_points: Float[Tensor, "batch landmark 3"],
    positions: Float[Tensor, "batch landmark 3"],
    weights: Float[Tensor, "batch landmark"],
) -> Float[Tensor, "batch 1 1"]:
    """The body's limb lengths over the detected ones."""
    starts = [table.index(start) for start, _ in _LIMBS]
    ends = [table.index(end) for _, end in _LIMBS]
    weight = torch.minimum(weights[:, starts], weights[:, ends])

    def length(points: Tensor) -> Tensor:
        return (weight * (points[:, ends] - points[:, starts]).norm(dim=-1)).sum(1)

    measured = length(positions)
    ratio = length(body_points) / measured.clamp_min(1e-6)
    return torch.where(measured > 1e-6, ratio, 1.0)[:, None, None]


def _hips(table: LandmarkTable, points: Tensor) -> Float[Tensor, "batch 1 3"]:
    hips = [table.index("left_hip"), table.index("right_hip")]
    return points[:, hips].mean(1, keepdim=True)


def _place(
    offsets: Float[Tensor, "batch landmark 3"],
    pixels: Float[Tensor, "batch landmark 2"],
    weights: Float[Tensor, "batch landmark"],
    intrinsics: Float[Tensor, "batch 3 3"],
) -> Float[Tensor, "batch 3"]:
    """Translation that projects the offsets onto the pixels; robust, linear, full perspective."""
    ones = torch.ones_like(pixels[..., :1])
    rays = torch.cat([pixels, ones], -1) @ torch.linalg.inv(intrinsics).transpose(1, 2)
    slopes = rays[..., :2] / rays[..., 2:]
    # Rows: t_xy − slope · t_z = slope · X_z − X_xy.
    identity = torch.eye(2, device=pixels.device, dtype=pixels.dtype).expand(*slopes.shape, 2)
    rows = torch.cat([identity, -slopes[..., None]], -1)
    right = slopes * offsets[..., 2:] - offsets[..., :2]
    default = torch.tensor([0.0, 0.0, 3.0], device=pixels.device, dtype=pixels.dtype)
    place = default.expand(len(pixels), 3)
    robust = weights
    for _ in range(_REWEIGHTINGS):
        weighted = rows * robust[..., None, None]
        normal = torch.einsum("blri,blrj->bij", weighted, rows)
        moment = torch.einsum("blri,blr->bi", weighted, right)
        scale = normal.diagonal(dim1=1, dim2=2).amax(1).clamp_min(1e-9)
        eye = torch.eye(3, device=pixels.device, dtype=pixels.dtype)
        normal = normal + 1e-7 * scale[:, None, None] * eye
        place = torch.linalg.solve(normal, moment[..., None])[..., 0]
        # Metres off in the plane of the hips; IRLS for an absolute rather than squared error.
        error = ((rows @ place[:, None, :, None])[..., 0] - right).norm(dim=-1)
        robust = weights / error.clamp_min(0.03)
    enough = (weights > 0).sum(1) >= 3
    is_ahead = place[:, 2] > _LEAST_DEPTH_M
    return torch.where((enough & is_ahead)[:, None], place, default)


def _in_world(
    body: BodyModel,
    table: LandmarkTable,
    rest: PoseParameters,
    body_points: Tensor,
    rotation: Float[Tensor, "batch 3 3"],
    hips: Float[Tensor, "batch 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
) -> PoseParameters:
    """Root parameters that put the rest pose's hips where they belong, seen from the world."""
    to_world = world_to_camera[:, :3, :3].transpose(1, 2)
    turned = to_world @ rotation
    hips_world = (to_world @ (hips - world_to_camera[:, :3, 3])[..., None])[..., 0]
    pelvis = pose_joints(body.to(dtype=rest.transl.dtype), rest)[:, 0]
    # The root turns about the pelvis: hips = R (hips_rest − pelvis) + pelvis + transl.
    lever = (turned @ (_hips(table, body_points)[:, 0] - pelvis)[..., None])[..., 0]
    return PoseParameters(
        betas=rest.betas,
        global_orient=matrix_to_axis_angle(turned),
        body_pose=rest.body_pose,
        transl=hips_world - lever - pelvis,
    )
