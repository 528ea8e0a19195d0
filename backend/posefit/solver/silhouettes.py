# SPDX-License-Identifier: Apache-2.0
"""A person's silhouette as evidence: the body stays inside it, and reaches its outline.

Both directions are worked out anew at every linearisation, from the vertices as they stand: those
that project outside of the mask are pulled in along the mask's distance map, and every point of the
mask's outline pulls the vertex that projects nearest to it outwards until the body reaches it.
What may hide the person, or lies beyond the picture, is unknown: the body may be there for free.

Source: Lassner et al., Unite the People, CVPR 2017, equation 3 (both distances); distance along the
outline's normal, robust kernel and closed-form Jacobian are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..body import BodyModel
from .config import SolverConfig
from .evidence import BoundEvidence
from .kinematics import PointSet, PosedPoints, bind_points, pose_points, pull_back
from .lens import Lens, refined_pixels
from .skeleton import Skeleton, SkeletonModel
from .terms import Term, geman_mcclure, project_points

__all__ = ["Silhouettes"]

_OUTSIDE_SHARE = 0.1
"""Share of a body's vertices that lie near its contour: pulls from outside count as so many."""


@dataclass(frozen=True)
class Silhouettes:
    """Masks of one view, cut around the person."""

    vertex_indices: Int[Tensor, " point"]
    """Vertices, spread over the body, that stand for its surface in all frames."""
    distance: Float[Tensor, "batch height width"]
    """Pixels from each pixel centre to the nearest one where the person is or may be; 0 there."""
    outline: Float[Tensor, "batch outline 2"]
    """Points of the mask's outline, pixels."""
    inward: Float[Tensor, "batch outline 2"]
    """Unit vectors into the mask."""
    weights: Float[Tensor, "batch outline"]
    """1 for each point of the outline, 0 where there is none; a frame without any says nothing."""
    scales: Float[Tensor, " batch"]
    """σ of the outline, pixels: the mask's error, and clothes that the body does not have."""
    intrinsics: Float[Tensor, "batch 3 3"]
    """Pinhole of the maps, pixels."""
    world_to_camera: Float[Tensor, "batch 4 4"]
    """Metres."""

    def bind(
        self, body: BodyModel, model: SkeletonModel, frames: slice, config: SolverConfig
    ) -> BoundEvidence:
        """See `Evidence`. Each direction has half the weight of `config.map_points`."""
        dtype = model.joint_template.dtype
        points = bind_points(body, model, self.vertex_indices)
        weights = self.weights[frames].to(dtype)
        total = weights.sum(-1)
        scale = self.scales[frames].to(dtype)[:, None]
        precision = 0.5 * config.map_points * (total > 0).to(dtype)[:, None]
        precision = precision / (scale.square() + config.scale_floor_px**2)
        robust = scale * config.robust_scale_factor + config.robust_scale_offset_px
        bound = _BoundMasks(
            distance=self.distance[frames].to(dtype),
            outline=self.outline[frames].to(dtype),
            inward=self.inward[frames].to(dtype),
            outside_precision=precision / (_OUTSIDE_SHARE * len(self.vertex_indices)),
            reach_precision=precision * weights / total.clamp_min(1.0)[:, None],
            robust_scale=robust * config.robust_widening,
        )
        intrinsics = self.intrinsics[frames].to(dtype)
        projection = intrinsics @ self.world_to_camera[frames].to(dtype)[:, :3]
        lens = Lens.of(intrinsics)

        term = partial(_silhouettes, points, projection, bound, config.min_depth_m, lens)
        return BoundEvidence(term, total, total.new_zeros((), dtype=torch.int64))


def _silhouettes(
    points: PointSet,
    projection: Float[Tensor, "batch 3 4"],
    masks: _BoundMasks,
    min_depth_m: float,
    lens: Lens,
    skeleton: Skeleton,
) -> Term:
    posed, camera = pose_points(points, skeleton), skeleton.state.camera
    return silhouette_term(posed, projection, masks, min_depth_m, lens, camera)


@dataclass(frozen=True)
class _BoundMasks:
    """Silhouettes of some frames in the solver's precision."""

    distance: Float[Tensor, "batch height width"]
    outline: Float[Tensor, "batch outline 2"]
    inward: Float[Tensor, "batch outline 2"]
    outside_precision: Float[Tensor, "batch 1"]
    reach_precision: Float[Tensor, "batch outline"]
    robust_scale: Float[Tensor, "batch 1"]


def silhouette_term(
    points: PosedPoints,
    projection: Float[Tensor, "batch 3 4"],
    masks: _BoundMasks,
    min_depth: float,
    lens: Lens | None = None,
    camera: Float[Tensor, "batch 2"] | None = None,
) -> Term:
    """Rows of both directions: one a vertex, one a point of the outline.

    Args:
        points: posed vertices, world.
        projection: intrinsics @ world_to_camera[:3] of the maps.
        masks: of the same frames.
        min_depth: metres in front of the camera from which vertices count.
        lens, camera: the view's focal length and the camera's unknowns, where there are any.

    Returns:
        Scalar residuals in σ: pixels outside of the mask, pixels short of the outline.
    """
    pixels, by_position, depth = project_points(points.positions, projection, min_depth)
    by_unknown = by_position
    if lens is not None and camera is not None:
        pixels, by_position, by_camera = refined_pixels(pixels, by_position, lens, camera)
        by_unknown = torch.cat([by_position, by_camera.transpose(1, 2)], 2)
    in_front = (depth >= min_depth) & pixels.isfinite().all(1)
    outside, slope = _sample(masks.distance, torch.where(in_front[:, None], pixels, -1e6))
    own = _rows(outside, slope, masks.outside_precision, masks.robust_scale, by_unknown, in_front)
    far = torch.where(in_front[:, None], pixels, 1e6)
    nearest = torch.cdist(masks.outline, far.transpose(1, 2)).argmin(-1)
    reached = far.gather(2, nearest[:, None].expand(-1, 2, -1))
    inward = masks.inward.transpose(1, 2)
    short = ((reached - masks.outline.transpose(1, 2)) * inward).sum(1)
    index = nearest[:, None, None].expand(-1, 2, by_unknown.shape[2], -1)
    pulled = _rows(
        short.clamp_min(0.0),
        torch.where((short > 0)[:, None], inward, 0.0),
        masks.reach_precision,
        masks.robust_scale,
        by_unknown.gather(3, index),
        in_front.gather(1, nearest),
    )
    chosen = _take(points, nearest)
    rows = ((points, own[1]), (chosen, pulled[1]))
    jacobian = [pull_back(where, row[:, :, :3]).flatten(2) for where, row in rows]
    return Term(
        torch.cat([own[0], pulled[0]], -1),
        torch.cat(jacobian, -1),
        own[2] + pulled[2],
        None if camera is None else torch.cat([row[:, 0, 3:] for _, row in rows], -1),
    )


def _rows(
    residual: Float[Tensor, "batch point"],
    slope: Float[Tensor, "batch 2 point"],
    precision: Float[Tensor, "batch any"],
    robust_scale: Float[Tensor, "batch 1"],
    by_unknown: Float[Tensor, "batch 2 unknown point"],
    counts: Bool[Tensor, "batch point"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled residuals, covectors (batch, 1, unknown, point) and robust cost of scalar residuals.

    Unknowns are the position's three and, where there are any, the camera's two. Points behind the
    camera cost as much as the worst outlier, as in `pixel_term`.
    """
    residual = torch.where(counts, residual, 0.0)
    robust_scale = robust_scale.expand_as(residual)
    cost, weight = geman_mcclure(residual.square(), robust_scale)
    cost = precision * torch.where(counts, cost, robust_scale.square())
    root = (precision * weight * counts).sqrt()
    covectors = torch.einsum("bpn,bpdn->bdn", slope, by_unknown)
    covectors = torch.where(counts[:, None], covectors, 0.0) * root[:, None]
    return residual * root, covectors[:, None], cost.sum(-1)


def _take(points: PosedPoints, index: Int[Tensor, "batch chosen"]) -> PosedPoints:
    """Some of each frame's points."""

    def take(values: Tensor) -> Tensor:
        shaped = index.view(len(index), *[1] * (values.ndim - 2), -1)
        return values.gather(-1, shaped.expand(*values.shape[:-1], -1))

    return PosedPoints(take(points.positions), take(points.arms), take(points.shape_jacobian))


def _sample(
    distance: Float[Tensor, "batch height width"], pixels: Float[Tensor, "batch 2 point"]
) -> tuple[Float[Tensor, "batch point"], Float[Tensor, "batch 2 point"]]:
    """Bilinear distance and its exact gradient; beyond the map its border's value, growing by the
    pixels that a point is off it along each axis."""
    height, width = distance.shape[1:]
    place = pixels - 0.5
    inside = torch.stack(
        [place[:, 0].clamp(0.0, width - 1.001), place[:, 1].clamp(0.0, height - 1.001)], 1
    )
    beyond = (place - inside).clamp(-1e4, 1e4)
    cell = inside.floor()
    fx, fy = (inside - cell).unbind(1)
    column, row = cell.long().unbind(1)
    flat = distance.flatten(1)
    first = row * width + column
    a, b, c, d = (flat.gather(1, first + step) for step in (0, 1, width, width + 1))
    top, bottom = a + fx * (b - a), c + fx * (d - c)
    by_x = (b - a) + fy * ((d - c) - (b - a))
    slope = torch.stack([by_x, bottom - top], 1)
    off = beyond.abs() > 1e-6
    slope = torch.where(off, beyond.sign(), slope)
    return top + fy * (bottom - top) + beyond.abs().sum(1), slope
