# SPDX-License-Identifier: Apache-2.0
"""How far bodies lie from what was seen of them, metres on the person: how wrong an input is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .body import BodyModel, PosedBody, PoseParameters, pose_body
from .pictures import project_points
from .solver import Evidence, FacePoints, LandmarkPixels

__all__ = ["EVIDENCE_NOISE_M", "evidence_error_m"]

EVIDENCE_NOISE_M = 0.03
"""How far landmarks and dense maps of a detector lie from a body that is right, metres."""


def evidence_error_m(
    body: BodyModel, parameters: PoseParameters, evidence: Sequence[Evidence]
) -> Float[Tensor, " frame"] | None:
    """How far bodies lie from landmarks and points that were seen of them, metres on the person.

    Args:
        body: the body model.
        parameters: poses.
        evidence: of the same frames; landmarks in pixels and points in faces count.

    Returns:
        Mean over points and views, weighted by confidence; NaN for frames without any; None
        without such evidence.
    """
    known = [one for one in evidence if isinstance(one, LandmarkPixels | FacePoints)]
    if not known:
        return None
    posed = pose_body(body, parameters)
    metres = posed.vertices.new_zeros(len(posed.vertices))
    total = torch.zeros_like(metres)
    for one in known:
        points, weights = _points_of(body, posed, one)
        pixels = project_points(points, one.world_to_camera, one.intrinsics)
        depth = (points @ one.world_to_camera[:, 2, :3, None])[..., 0]
        depth = depth + one.world_to_camera[:, 2, 3:]
        apart = (pixels - one.targets).norm(dim=-1) * depth / one.intrinsics[:, :1, 0]
        weights = torch.where(apart.isfinite(), weights, 0.0)
        metres += (weights * apart.nan_to_num()).sum(1)
        total += weights.sum(1)
    return torch.where(total > 0, metres / total.clamp_min(1e-9), torch.nan)


def _points_of(
    body: BodyModel, posed: PosedBody, evidence: LandmarkPixels | FacePoints
) -> tuple[Float[Tensor, "batch point 3"], Float[Tensor, "batch point"]]:
    """Where the body has the points that were seen, and how much each counts."""
    if isinstance(evidence, FacePoints):
        rows = torch.arange(len(posed.vertices), device=posed.vertices.device)[:, None, None]
        corners = posed.vertices[rows, evidence.corners]
        return (corners * evidence.shares[..., None]).sum(2), evidence.weights
    bound = evidence.table.bind(body, body.dtype)
    sources = torch.cat([posed.joints, posed.vertices[:, bound.vertices]], 1)
    return torch.einsum("bsx,sl->blx", sources, bound.mixture), evidence.weights * bound.known
