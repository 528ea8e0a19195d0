# SPDX-License-Identifier: Apache-2.0
"""Displacement fields to vertices: where each seen vertex should go, how surely, and which to use.

Step in the path: `displacement` says for each pixel how far the body point shown there is off;
`solver` wants the same for points of the body. A vertex takes the mean over the pixels of its
faces, weighted by barycentric coordinate b and confidence c:

    d_v = Σ b c d / Σ b c        c = visibility · σ₀² / (scale² + σ₀²)

so that c is visibility times what the field's own scale leaves of certainty, between 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .displacement import DisplacementField
from .rasterizer import Fragments, accumulate
from .solver.evidence import SurfacePoints

__all__ = ["VertexTargets", "aggregate", "confidence", "select_points", "surface_points"]

SCALE_FLOOR_PX = 0.7
"""σ₀: no displacement is known better than this, crop pixels."""
_LEAST_SUPPORT = 1e-4
"""Σ b c below which a vertex counts as unseen: its mean would be rounding noise."""


@dataclass(frozen=True)
class VertexTargets:
    """Displacement of each vertex in one view."""

    displacement: Float[Tensor, "batch vertex 2"]
    """Crop pixels, x right and y down; 0 for unseen vertices."""
    weight: Float[Tensor, "batch vertex"]
    """How much of the vertex was seen, 0 to 1: 1 − exp(−Σ b · visibility). Small support counts in
    proportion, so a pixel that many small faces share is one pixel's worth of evidence."""
    scale: Float[Tensor, "batch vertex"]
    """σ of the displacement, crop pixels; the mean over its pixels, for neighbouring pixels err
    together. 0 for unseen vertices."""


def confidence(
    scale: Float[Tensor, "*shape"],
    visibility: Float[Tensor, "*shape"],
    scale_floor_px: float = SCALE_FLOOR_PX,
) -> Float[Tensor, "*shape"]:
    """Weight of a pixel in its vertices' means, 0 to 1.

    Args:
        scale: σ of the displacement, pixels.
        visibility: 0 to 1.
        scale_floor_px: σ₀.

    Returns:
        visibility · σ₀² / (scale² + σ₀²); 0 where either is not finite.
    """
    floor = scale_floor_px**2
    certainty = visibility.clamp(0.0, 1.0) * floor / (scale.square() + floor)
    return certainty.nan_to_num(0.0, 0.0, 0.0)


def aggregate(
    fragments: Fragments,
    faces: Int[Tensor, "face 3"],
    num_vertices: int,
    field: DisplacementField,
) -> VertexTargets:
    """Mean displacement of each vertex over the pixels of its faces.

    Args:
        fragments: which face each pixel shows, and where on it.
        faces: vertices of each face.
        num_vertices: of the mesh.
        field: displacement, scale and visibility of the same pixels.

    Returns:
        Targets; vertices that no confident pixel shows have weight 0.
    """
    certainty = confidence(field.scale, field.visibility)
    certainty = certainty * field.displacement.isfinite().all(-1)
    weighted, seen = certainty[..., None], field.visibility[..., None].clamp(0.0, 1.0)
    values = torch.cat(
        [weighted * field.displacement, weighted * field.scale[..., None], weighted, seen], -1
    )
    sums = accumulate(fragments, faces, num_vertices, values, certainty > 0)
    support, seen = sums[..., 3], sums[..., 4]
    is_seen = support > _LEAST_SUPPORT
    mean = torch.where(is_seen[..., None], sums[..., :3] / support.clamp_min(1e-9)[..., None], 0.0)
    mean = mean.to(values.dtype)
    return VertexTargets(
        displacement=mean[..., :2],
        weight=torch.where(is_seen, -torch.expm1(-seen), 0.0).to(values.dtype),
        scale=mean[..., 2],
    )


def select_points(
    weight: Float[Tensor, "batch vertex"], max_points: int
) -> tuple[Int[Tensor, "batch point"], Float[Tensor, "batch point"]]:
    """A fixed number of vertices of each frame, drawn evenly from the weight.

    Systematic sampling: vertex v is taken about `max_points · w_v / Σ w` times, so that every draw
    stands for the same share of what was seen. Deterministic; heavy vertices may come twice.

    Args:
        weight: of each vertex, ≥ 0.
        max_points: draws a frame.

    Returns:
        Vertex indices, and the weight of each draw: Σ w / max_points, so totals are kept.
    """
    cumulative = weight.double().cumsum(1)
    total = cumulative[:, -1:]
    steps = torch.arange(max_points, device=weight.device, dtype=torch.float64) + 0.5
    indices = torch.searchsorted(cumulative, steps / max_points * total, right=True)
    share = (total / max_points).to(weight.dtype)
    return indices.clamp(max=weight.shape[1] - 1), share.expand(-1, max_points)


def surface_points(
    targets: VertexTargets,
    projected: Float[Tensor, "batch vertex 2"],
    intrinsics: Float[Tensor, "batch 3 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
    *,
    max_points: int = 1000,
) -> SurfacePoints:
    """Evidence for the solver: a subset of the vertices with the pixels they should move to.

    Args:
        targets: of one view.
        projected: where that view shows the vertices now, in the pixels of `targets`.
        intrinsics: the crop's pinhole.
        world_to_camera: metres.
        max_points: vertices a frame; neighbours err together, so more say nothing new.

    Returns:
        Surface points of all frames.
    """
    indices, weights = select_points(targets.weight, max_points)
    pairs = indices[..., None].expand(-1, -1, 2)
    return SurfacePoints(
        vertex_indices=indices,
        targets=projected.gather(1, pairs) + targets.displacement.gather(1, pairs),
        weights=weights,
        scales=targets.scale.gather(1, indices),
        intrinsics=intrinsics,
        world_to_camera=world_to_camera,
    )
