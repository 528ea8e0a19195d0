# SPDX-License-Identifier: Apache-2.0
"""Residuals and Jacobians of what was observed: pure functions, weights and robustness inside.

Every term gives rows whose squared norm has the gradient and the Gauss–Newton curvature of its
robust cost, and that cost itself, which is what the solver's acceptance test compares. Points and
rows lie in the last dimension (see `kinematics`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..gpu.choice import takes_kernels
from .kinematics import PosedPoints, pull_back
from .lens import Lens, refined_pixels

__all__ = [
    "Term",
    "direction_term",
    "geman_mcclure",
    "pixel_term",
    "position_term",
    "stack_terms",
]


@dataclass(frozen=True)
class Term:
    """One term of the energy, linearised; no reduction but the cost's."""

    residual: Float[Tensor, "batch row"]
    """Scaled residuals: `jacobian @ residual` is half the gradient of `cost`."""
    jacobian: Float[Tensor, "batch parameter row"]
    """Their derivative, parameters first."""
    cost: Float[Tensor, " batch"]
    """The term's robust cost of each frame."""
    camera: Float[Tensor, "batch 2 row"] | None = None
    """Derivative by the camera's unknowns (`lens`); None: they don't matter, or are none."""
    rows: Float[Tensor, "batch parameter_and_residual row"] | None = None
    """Jacobian and residual in one piece of memory, where they were made so: one product of it
    with itself holds both JᵀJ and Jᵀr."""

    @classmethod
    def of_rows(
        cls,
        rows: Float[Tensor, "batch parameter_and_residual row"],
        cost: Float[Tensor, " batch"],
        camera: Float[Tensor, "batch 2 row"] | None = None,
    ) -> Term:
        """A term from what `pull_back` makes of covectors and a residual."""
        return cls(rows[:, -1], rows[:, :-1], cost, camera, rows)


def stack_terms(terms: list[Term]) -> Term:
    """All rows of several terms, and the sum of their costs."""
    return Term(
        torch.cat([term.residual for term in terms], -1),
        torch.cat([term.jacobian for term in terms], -1),
        torch.stack([term.cost for term in terms]).sum(0),
    )


def geman_mcclure(
    squared: Float[Tensor, "*shape"], scale: Float[Tensor, "*shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Geman–McClure cost s / (1 + s / c²) of a squared residual s, and its derivative by s.

    Args:
        squared: squared residual norms.
        scale: c, in the residual's unit: at c the pull has fallen to a quarter; the cost never
            exceeds c².

    Returns:
        Cost and weight (1 + s / c²)⁻², both of the input's shape.

    Source:
        Geman and McClure, Statistical methods for tomographic image reconstruction, 1987.
    """
    decay = 1.0 / (1.0 + squared / scale.square())
    return squared * decay, decay.square()


def project_points(
    positions: Float[Tensor, "batch 3 point"],
    projection: Float[Tensor, "batch 3 4"],
    min_depth: float,
) -> tuple[
    Float[Tensor, "batch 2 point"],
    Float[Tensor, "batch 2 3 point"],
    Float[Tensor, "batch point"],
]:
    """Pixels of world points and their derivative.

    With q = P (x, 1): u = q₀ / q₂ and du/dx = (P₀ − u P₂) / q₂, for any intrinsics.

    Args:
        positions: metres, world.
        projection: intrinsics @ world_to_camera[:3].
        min_depth: metres; nearer points are divided by this instead.

    Returns:
        Pixels, d pixel / d position, depth in metres.
    """
    matrix = projection[:, :, :3]
    homogeneous = torch.baddbmm(projection[:, :, 3:], matrix, positions)
    depth = homogeneous[:, 2]
    inverse = 1.0 / depth.clamp_min(min_depth)
    pixels = homogeneous[:, :2] * inverse[:, None]
    jacobian = matrix[:, :2, :, None] - pixels[:, :, None] * matrix[:, 2:, :, None]
    return pixels, jacobian * inverse[:, None, None], depth


def pixel_term(
    points: PosedPoints,
    projection: Float[Tensor, "batch 3 4"],
    targets: Float[Tensor, "batch 2 point"],
    precision: Float[Tensor, "batch point"],
    robust_scale: Float[Tensor, "batch point"],
    min_depth: float,
    lens: Lens | None = None,
    camera: Float[Tensor, "batch 2"] | None = None,
) -> Term:
    """Robust pull of projected points towards pixels.

    A point behind the camera pulls nothing and costs as much as the worst outlier, so that no
    step gains by moving points out of sight.

    Args:
        points: posed points, world.
        projection: intrinsics @ world_to_camera[:3] of each frame.
        targets: where each point should be, pixels of that camera.
        precision: weight / σ² of each target, 1 / px², ≥ 0.
        robust_scale: residual in pixels at which the kernel lets go.
        min_depth: metres in front of the camera from which points count.
        lens, camera: the view's focal length and the camera's unknowns, where there are any.

    Returns:
        Two rows a point.
    """
    if camera is None and points.follows is None and takes_kernels(points.positions):
        from ..gpu.terms import pixel_rows  # Warp takes half a second to import

        rows, costs = pixel_rows(
            points.positions, points.arms, points.shape_jacobian, projection, targets, precision,
            robust_scale, min_depth,
        )  # fmt: skip
        return Term.of_rows(rows.flatten(2), costs.sum(-1))
    pixels, by_position, depth = project_points(points.positions, projection, min_depth)
    by_camera = None
    if lens is not None and camera is not None:
        pixels, by_position, by_camera = refined_pixels(pixels, by_position, lens, camera)
    residual = pixels - targets
    in_front = (depth >= min_depth) & residual.isfinite().all(1)
    residual = torch.where(in_front[:, None], residual, 0.0)
    cost, weight = geman_mcclure(residual.square().sum(1), robust_scale)
    cost = precision * torch.where(in_front, cost, robust_scale.square())
    root = (precision * weight * in_front).sqrt()[:, None]
    covectors = torch.where(in_front[:, None, None], by_position, 0.0) * root[:, None]
    rows = pull_back(points, covectors, residual * root)
    if by_camera is not None:
        by_camera = torch.where(in_front[:, None, None], by_camera, 0.0) * root[:, None]
        by_camera = by_camera.flatten(2)
    return Term.of_rows(rows.flatten(2), cost.sum(-1), by_camera)


def position_term(
    points: PosedPoints,
    rotation: Float[Tensor, "batch 3 3"],
    targets: Float[Tensor, "batch 3 point"],
    precision: Float[Tensor, "batch point"],
    robust_scale: Float[Tensor, "batch point"],
) -> Term:
    """Robust pull of points, or of differences of points, towards positions in metres.

    Args:
        points: posed points, world; already relative to another point where that is meant.
        rotation: world to the frame of `targets`.
        targets: where each point should be, metres, minus that frame's translation.
        precision: weight / σ² of each target, 1 / m².
        robust_scale: metres at which the kernel lets go.

    Returns:
        Three rows a point.
    """
    residual = rotation @ points.positions - targets
    cost, weight = geman_mcclure(residual.square().sum(1), robust_scale)
    root = (precision * weight).sqrt()[:, None]
    covectors = rotation[..., None] * root[:, :, None]
    rows = pull_back(points, covectors, residual * root)
    return Term.of_rows(rows.flatten(2), (precision * cost).sum(-1))


def direction_term(
    bones: PosedPoints,
    rotation: Float[Tensor, "batch 3 3"],
    targets: Float[Tensor, "batch 3 bone"],
    precision: Float[Tensor, "batch bone"],
    robust_scale: Float[Tensor, "batch bone"],
) -> Term:
    """Robust pull of the directions of bones towards unit vectors; lengths don't matter.

    The derivative of v / |v| is (I − v̂ v̂ᵀ) / |v|.

    Args:
        bones: end minus start of each bone, world, metres.
        rotation: world to the frame of `targets`.
        targets: unit vectors.
        precision: weight / σ², 1 / rad².
        robust_scale: radians at which the kernel lets go.

    Returns:
        Three rows a bone.
    """
    vectors = rotation @ bones.positions
    length = vectors.square().sum(1, keepdim=True).sqrt().clamp_min(1e-6)
    unit = vectors / length
    residual = unit - targets
    cost, weight = geman_mcclure(residual.square().sum(1), robust_scale)
    root = (precision * weight).sqrt()[:, None]
    # Row r of (I − û ûᵀ) R / |v|, for every bone.
    along = torch.einsum("bcn,bcd->bdn", unit, rotation)
    covectors = rotation[..., None] - unit[:, :, None] * along[:, None]
    rows = pull_back(bones, covectors * (root / length)[:, :, None], residual * root)
    return Term.of_rows(rows.flatten(2), (precision * cost).sum(-1))
