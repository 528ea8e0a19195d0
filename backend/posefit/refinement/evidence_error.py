# SPDX-License-Identifier: Apache-2.0
"""How far bodies lie from what was seen of them, metres on the person.

Of an input it says how wrong it is, of a result how well it fits what was held out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..body import BodyModel, PosedBody, PoseParameters, pose_body
from ..gpu.graphs import replayed
from ..solver import Evidence, FacePoints, LandmarkPixels, SurfacePoints, take_frames
from .pictures import project_points

__all__ = ["EVIDENCE_NOISE_M", "evidence_error_m", "points_error_m"]

EVIDENCE_NOISE_M = 0.03
"""How far landmarks and dense maps of a detector lie from a body that is right, metres."""
_POSED_AT_ONCE = 64
"""Frames posed at once; bounds memory."""
_LEAST_WEIGHT = 1e-6
"""Of a frame's points together: below it, nothing was seen."""


def evidence_error_m(
    body: BodyModel, parameters: PoseParameters, evidence: Sequence[Evidence]
) -> Float[Tensor, " frame"] | None:
    """How far bodies lie from landmarks and points that were seen of them, metres across the view.

    Args:
        body: the body model.
        parameters: poses.
        evidence: of the same frames; landmarks in pixels and points in faces count.

    Returns:
        Mean over points and views, weighted by confidence; NaN for frames without any; None
        without such evidence.
    """
    known = [one for one in evidence if isinstance(one, LandmarkPixels | FacePoints)]
    return _error_m(body, parameters, known) if known else None


def points_error_m(
    body: BodyModel, parameters: PoseParameters, views: Sequence[SurfacePoints]
) -> Float[Tensor, " frame"]:
    """How far bodies lie from targets of their surface, metres across the view.

    Args:
        body: the body model.
        parameters: poses.
        views: targets of the same frames; each counts by its weight and certainty.

    Returns:
        Mean over points and views; NaN for frames without targets.
    """
    return replayed(_error_m, body, parameters, list(views))


_Points = LandmarkPixels | FacePoints | SurfacePoints


def _error_m(
    body: BodyModel, parameters: PoseParameters, evidence: Sequence[_Points]
) -> Float[Tensor, " frame"]:
    errors = []
    for first in range(0, len(parameters), _POSED_AT_ONCE):
        part = slice(first, first + _POSED_AT_ONCE)
        posed = pose_body(body, parameters[part])
        error = posed.vertices.new_zeros(len(posed.vertices))
        total = torch.zeros_like(error)
        for one in evidence:
            apart, weights = _apart_m(body, posed, take_frames(one, part))
            error += (weights * apart).sum(1)
            total += weights.sum(1)
        errors.append(torch.where(total > _LEAST_WEIGHT, error / total, torch.nan))
    return torch.cat(errors)


def _apart_m(
    body: BodyModel, posed: PosedBody, seen: _Points
) -> tuple[Float[Tensor, "batch point"], Float[Tensor, "batch point"]]:
    """How far each point lies from where it was seen, and how much that counts."""
    points, weights = _points_of(body, posed, seen)
    pixels = project_points(points, seen.world_to_camera, seen.intrinsics)
    depth = (points @ seen.world_to_camera[:, 2, :3, None])[..., 0]
    depth = depth + seen.world_to_camera[:, 2, 3:]
    apart = (pixels - seen.targets).norm(dim=-1) * depth / seen.intrinsics[:, :1, 0]
    return apart.nan_to_num(0.0), torch.where(apart.isfinite(), weights, 0.0)


def _points_of(
    body: BodyModel, posed: PosedBody, seen: _Points
) -> tuple[Float[Tensor, "batch point 3"], Float[Tensor, "batch point"]]:
    """Where the body has the points that were seen, and how much each counts."""
    if isinstance(seen, LandmarkPixels):
        bound = seen.table.bind(body, body.dtype)
        sources = torch.cat([posed.joints, posed.vertices[:, bound.vertices]], 1)
        return torch.einsum("bsx,sl->blx", sources, bound.mixture), seen.weights * bound.known
    rows = torch.arange(len(posed.vertices), device=posed.vertices.device)[:, None]
    if isinstance(seen, FacePoints):
        corners = posed.vertices[rows[..., None], seen.corners]
        return (corners * seen.shares[..., None]).sum(2), seen.weights
    certainty = seen.weights / (seen.scales.square() + 1.0)
    return posed.vertices[rows, seen.vertex_indices], certainty
