# SPDX-License-Identifier: Apache-2.0
"""What was observed, as values: surface points, landmarks in pixels, landmarks in metres, bones.

Several views are several entries of one list. Each entry binds itself to a body and to some frames,
which gives a function from the posed skeleton to a Term (`terms`). Targets that are not finite and
weights that are not positive pull nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..body import BodyModel
from .config import SolverConfig
from .kinematics import PointSet, PosedPoints, bind_points, blend_corners, pose_points
from .landmarks import LandmarkTable, pose_landmarks
from .lens import Lens
from .skeleton import Skeleton, SkeletonModel
from .terms import Term, direction_term, pixel_term, position_term

__all__ = [
    "BoneDirections",
    "BoundEvidence",
    "Evidence",
    "FacePoints",
    "LandmarkPixels",
    "LandmarkPositions",
    "SurfacePoints",
    "shared_weight",
    "take_frames",
]

TermFunction = Callable[[Skeleton], Term]
"""A partial function of module functions, so that solves can be recorded (`gpu.graphs`)."""


@dataclass(frozen=True)
class BoundEvidence:
    """Evidence tied to a body and some frames."""

    term: TermFunction
    """Linearises the evidence at a posed skeleton."""
    usable: Float[Tensor, " batch"]
    """Sum of the usable weights of each frame."""
    dropped: Int[Tensor, ""]
    """How many targets were not finite though their weight was positive."""


@runtime_checkable
class Evidence(Protocol):
    """Anything that can be bound to a body and give a term."""

    def bind(
        self, body: BodyModel, model: SkeletonModel, frames: slice, config: SolverConfig
    ) -> BoundEvidence:
        """The evidence of some frames, ready to be linearised again and again."""
        ...


_LARGEST_TARGET = 1e8
"""Pixels, or metres: what is further off is no number that came from a picture, and its square is
none that float32 holds."""

AnyEvidence = TypeVar("AnyEvidence", bound=Evidence)


@dataclass(frozen=True)
class SurfacePoints:
    """Vertices and the pixels where they should be: what displacement fields become."""

    vertex_indices: Int[Tensor, " point"] | Int[Tensor, "batch point"]
    """Vertices, shared by all frames or a row for each."""
    targets: Float[Tensor, "batch point 2"]
    """Pixels of this view's camera."""
    weights: Float[Tensor, "batch point"]
    """How much of each point was seen, 0 to 1 (`VertexTargets.weight`)."""
    scales: Float[Tensor, "batch point"]
    """σ of each target, pixels."""
    intrinsics: Float[Tensor, "batch 3 3"]
    """Pinhole, pixels."""
    world_to_camera: Float[Tensor, "batch 4 4"]
    """Metres."""

    def bind(
        self, body: BodyModel, model: SkeletonModel, frames: slice, config: SolverConfig
    ) -> BoundEvidence:
        """See `Evidence`. The view's total weight is that of `config.effective_points`."""
        indices = self.vertex_indices
        indices = indices if indices.ndim == 1 else indices[frames]
        points = bind_points(body, model, indices)
        pose = partial(pose_points, points)
        targets, weights, dropped = _usable(self.targets[frames], self.weights[frames], model)
        weights = shared_weight(weights, config.effective_points)
        variance = _scales(self.scales[frames], model).square() + config.scale_floor_px**2
        term = _pixel_function(
            pose,
            self.intrinsics[frames],
            self.world_to_camera[frames],
            targets,
            weights / variance,
            _robust_px(_scales(self.scales[frames], model), config),
            config,
        )
        return BoundEvidence(term, weights.sum(-1), dropped)


@dataclass(frozen=True)
class FacePoints:
    """Points inside faces and the pixels that show them: what dense correspondences become."""

    corners: Int[Tensor, "batch point 3"]
    """Vertices of the face that each point lies in."""
    shares: Float[Tensor, "batch point 3"]
    """Barycentric coordinates; they sum to 1."""
    targets: Float[Tensor, "batch point 2"]
    """Pixels of this view's camera."""
    weights: Float[Tensor, "batch point"]
    """How much of each point was seen, 0 to 1."""
    scales: Float[Tensor, "batch point"]
    """σ of each target, pixels."""
    intrinsics: Float[Tensor, "batch 3 3"]
    """Pinhole, pixels."""
    world_to_camera: Float[Tensor, "batch 4 4"]
    """Metres."""

    def bind(
        self, body: BodyModel, model: SkeletonModel, frames: slice, config: SolverConfig
    ) -> BoundEvidence:
        """See `Evidence`. The view's total weight is that of `config.map_points`."""
        corners = bind_points(body, model, self.corners[frames].flatten(1))
        shares = self.shares[frames].to(model.joint_template.dtype)
        targets, weights, dropped = _usable(self.targets[frames], self.weights[frames], model)
        weights = shared_weight(weights, config.map_points)
        scales = _scales(self.scales[frames], model)
        term = _pixel_function(
            partial(_pose_in_faces, corners, shares),
            self.intrinsics[frames],
            self.world_to_camera[frames],
            targets,
            weights / (scales.square() + config.scale_floor_px**2),
            _robust_px(scales, config),
            config,
        )
        return BoundEvidence(term, weights.sum(-1), dropped)


@dataclass(frozen=True)
class LandmarkPixels:
    """A keypoint detector's landmarks in one view."""

    table: LandmarkTable
    """What each landmark is on the body, in the detector's order."""
    targets: Float[Tensor, "batch landmark 2"]
    """Pixels of this view's camera."""
    weights: Float[Tensor, "batch landmark"]
    """Confidence, ≥ 0. Landmarks count each for themselves."""
    scales: Float[Tensor, "batch landmark"]
    """σ of each target, pixels: detector noise and what the table is off by; 1 to 3% of a
    person's height in the picture."""
    intrinsics: Float[Tensor, "batch 3 3"]
    """Pinhole, pixels."""
    world_to_camera: Float[Tensor, "batch 4 4"]
    """Metres."""

    def bind(
        self, body: BodyModel, model: SkeletonModel, frames: slice, config: SolverConfig
    ) -> BoundEvidence:
        """See `Evidence`."""
        bound = self.table.bind(body, model.joint_template.dtype)
        pose = partial(pose_landmarks, bound.mixture, bound.point_set(body, model))
        weights = self.weights[frames] * bound.known
        targets, weights, dropped = _usable(self.targets[frames], weights, model)
        scales = _scales(self.scales[frames], model)
        term = _pixel_function(
            pose,
            self.intrinsics[frames],
            self.world_to_camera[frames],
            targets,
            weights / (scales.square() + config.scale_floor_px**2),
            _robust_px(scales, config),
            config,
        )
        return BoundEvidence(term, weights.sum(-1), dropped)


@dataclass(frozen=True)
class LandmarkPositions:
    """Landmarks in metres: triangulated (absolute), or relative to the midpoint of some of them.

    BlazePose's world landmarks are relative to the hips' midpoint, camera-oriented, and of a
    body whose size is unknown: give them `relative_to`, and a wide scale, or use BoneDirections.
    """

    table: LandmarkTable
    """What each landmark is on the body."""
    targets: Float[Tensor, "batch landmark 3"]
    """Metres, in the frame that `world_to_camera` leads to (world where it is None)."""
    weights: Float[Tensor, "batch landmark"]
    """Confidence, ≥ 0."""
    scales: Float[Tensor, "batch landmark"]
    """σ, metres."""
    world_to_camera: Float[Tensor, "batch 4 4"] | None = None
    """Where the targets are not in the world."""
    relative_to: tuple[str, ...] = ()
    """Landmarks whose mean is the origin of both sides; empty: positions are absolute."""
    robust_factor: float = 4.0
    """The Geman–McClure scale in σ."""

    def bind(
        self, body: BodyModel, model: SkeletonModel, frames: slice, config: SolverConfig
    ) -> BoundEvidence:
        """See `Evidence`."""
        bound = self.table.bind(body, model.joint_template.dtype)
        targets, weights, dropped = _usable(
            self.targets[frames], self.weights[frames] * bound.known, model
        )
        mixture = bound.mixture
        rotation, offset = _rotation_and_offset(self.world_to_camera, frames, targets)
        if self.relative_to:
            origin = [self.table.index(name) for name in self.relative_to]
            has_origin = (weights[:, origin] > 0).all(-1, keepdim=True)
            targets = targets - targets[..., origin].mean(-1, keepdim=True)
            mixture = mixture - mixture[:, origin].mean(1, keepdim=True)
            weights = weights * has_origin
        else:
            targets = targets - offset[..., None]
        scales = _scales(self.scales[frames], model)
        term = _position_function(
            partial(pose_landmarks, mixture, bound.point_set(body, model)),
            rotation,
            targets,
            weights / scales.square(),
            scales * (self.robust_factor * config.robust_widening),
        )
        return BoundEvidence(term, weights.sum(-1), dropped)


@dataclass(frozen=True)
class BoneDirections:
    """Directions between pairs of landmarks in 3D: says the pose whatever the body's size."""

    table: LandmarkTable
    """What each landmark is on the body."""
    bones: tuple[tuple[str, str], ...]
    """Start and end of each bone, by the table's names."""
    positions: Float[Tensor, "batch landmark 3"]
    """Landmarks in 3D, any origin and size, in the frame that `world_to_camera` leads to."""
    weights: Float[Tensor, "batch landmark"]
    """Confidence, ≥ 0; a bone has the smaller one of its ends."""
    scale_rad: float = 0.25
    """σ of a direction. A monocular detector's depth is a guess: 0.2 to 0.4."""
    world_to_camera: Float[Tensor, "batch 4 4"] | None = None
    """Where the positions are not world-oriented."""
    robust_factor: float = 4.0
    """The Geman–McClure scale in σ."""

    def bind(
        self, body: BodyModel, model: SkeletonModel, frames: slice, config: SolverConfig
    ) -> BoundEvidence:
        """See `Evidence`."""
        bound = self.table.bind(body, model.joint_template.dtype)
        starts = [self.table.index(start) for start, _ in self.bones]
        ends = [self.table.index(end) for _, end in self.bones]
        positions, weights, dropped = _usable(
            self.positions[frames], self.weights[frames] * bound.known, model
        )
        vectors = positions[..., ends] - positions[..., starts]
        length = vectors.square().sum(1).sqrt()
        weights = torch.minimum(weights[:, starts], weights[:, ends]) * (length > 1e-4)
        rotation, _ = _rotation_and_offset(self.world_to_camera, frames, positions)
        scale = torch.full_like(weights, self.scale_rad)
        term = _direction_function(
            partial(
                pose_landmarks,
                bound.mixture[:, ends] - bound.mixture[:, starts],
                bound.point_set(body, model),
            ),
            rotation,
            vectors / length.clamp_min(1e-4)[:, None],
            weights / self.scale_rad**2,
            scale * (self.robust_factor * config.robust_widening),
        )
        return BoundEvidence(term, weights.sum(-1), dropped)


def take_frames(evidence: AnyEvidence, frames: slice | Int[Tensor, " part"]) -> AnyEvidence:
    """The evidence of some frames: every field that has a row a frame is cut.

    A field has a row a frame unless it is vertex numbers that all frames share.
    """
    changes = {}
    for field in dataclasses.fields(evidence):  # type: ignore[arg-type]
        value = getattr(evidence, field.name)
        if isinstance(value, Tensor) and not (field.name == "vertex_indices" and value.ndim == 1):
            changes[field.name] = value[frames]
    return dataclasses.replace(evidence, **changes)  # type: ignore[type-var]


def shared_weight(
    weights: Float[Tensor, "batch point"], effective_points: float
) -> Float[Tensor, "batch point"]:
    """Weights of points that err together: all of a frame count as `effective_points` at most.

    No point counts for more than one, so a frame with a handful of points stays humble.
    """
    total = weights.sum(-1, keepdim=True)
    return weights * (effective_points / total.clamp_min(effective_points))


def _usable(
    targets: Float[Tensor, "batch point xy"], weights: Float[Tensor, "batch point"], model
) -> tuple[Float[Tensor, "batch xy point"], Float[Tensor, "batch point"], Int[Tensor, ""]]:
    """Targets with points last, weights cleaned, and how many targets were no usable number."""
    dtype = model.joint_template.dtype
    is_finite = (targets.abs() < _LARGEST_TARGET).all(-1) & weights.isfinite()
    dropped = (~is_finite & ~(weights <= 0)).sum()
    weights = torch.where(is_finite & (weights > 0), weights, 0.0).to(dtype)
    targets = torch.where(is_finite[..., None], targets, 0.0).to(dtype)
    return targets.transpose(1, 2).contiguous(), weights, dropped


def _scales(scales: Float[Tensor, "batch point"], model: SkeletonModel) -> Tensor:
    """Scales in the solver's dtype; those that are no number become a huge one."""
    return scales.to(model.joint_template.dtype).nan_to_num(1e6, 1e6).clamp(1e-6, 1e6)


def _robust_px(scales: Float[Tensor, "batch point"], config: SolverConfig) -> Tensor:
    scale = scales * config.robust_scale_factor + config.robust_scale_offset_px
    return scale * config.robust_widening


def _rotation_and_offset(
    world_to_camera: Tensor | None, frames: slice, like: Tensor
) -> tuple[Tensor, Tensor]:
    if world_to_camera is None:
        identity = torch.eye(3, device=like.device, dtype=like.dtype)
        return identity.expand(len(like), 3, 3), like.new_zeros(len(like), 3)
    matrix = world_to_camera[frames].to(like.dtype)
    return matrix[:, :3, :3], matrix[:, :3, 3]


def _pixel_function(
    pose: Callable[[Skeleton], PosedPoints],
    intrinsics: Tensor,
    world_to_camera: Tensor,
    targets: Tensor,
    precision: Tensor,
    robust_scale: Tensor,
    config: SolverConfig,
) -> TermFunction:
    dtype = targets.dtype
    projection = intrinsics.to(dtype) @ world_to_camera.to(dtype)[:, :3]
    lens = Lens.of(intrinsics.to(dtype))
    return partial(
        _pixels, pose, projection, targets, precision, robust_scale, config.min_depth_m, lens
    )


def _pixels(
    pose: Callable[[Skeleton], PosedPoints],
    projection: Tensor,
    targets: Tensor,
    precision: Tensor,
    robust_scale: Tensor,
    min_depth_m: float,
    lens: Lens,
    skeleton: Skeleton,
) -> Term:
    camera = skeleton.state.camera
    return pixel_term(
        pose(skeleton), projection, targets, precision, robust_scale, min_depth_m, lens, camera
    )


def _pose_in_faces(corners: PointSet, shares: Tensor, skeleton: Skeleton) -> PosedPoints:
    return blend_corners(pose_points(corners, skeleton), shares)


def _position_function(pose, rotation, targets, precision, robust_scale) -> TermFunction:
    return partial(_positions, pose, rotation, targets, precision, robust_scale)


def _positions(pose, rotation, targets, precision, robust_scale, skeleton: Skeleton) -> Term:
    return position_term(pose(skeleton), rotation, targets, precision, robust_scale)


def _direction_function(pose, rotation, targets, precision, robust_scale) -> TermFunction:
    return partial(_directions, pose, rotation, targets, precision, robust_scale)


def _directions(pose, rotation, targets, precision, robust_scale, skeleton: Skeleton) -> Term:
    return direction_term(pose(skeleton), rotation, targets, precision, robust_scale)
