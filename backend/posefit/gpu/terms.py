# SPDX-License-Identifier: Apache-2.0
"""The solver's largest terms as a GPU computes them, a launch each; `solver.terms` and
`solver.self_contact` come here by themselves."""

from __future__ import annotations

import warp as wp
from jaxtyping import Float, Int
from torch import Tensor

from . import term_kernels as kernels
from .warp_runtime import launch, warp_array

__all__ = ["contact_rows", "pixel_rows"]


def pixel_rows(
    positions: Float[Tensor, "batch 3 point"],
    arms: Float[Tensor, "batch joint 3 point"],
    shape_jacobian: Float[Tensor, "#batch 3 beta point"],
    projection: Float[Tensor, "batch 3 4"],
    targets: Float[Tensor, "batch 2 point"],
    precision: Float[Tensor, "#batch point"],
    robust_scale: Float[Tensor, "#batch point"],
    min_depth: float,
) -> tuple[Float[Tensor, "batch parameter_and_residual 2 point"], Float[Tensor, "batch point"]]:
    """Rows (Jacobian, and the residual behind it) and costs of `solver.terms.pixel_term`.

    Args:
        positions, arms, shape_jacobian: as `solver.kinematics.PosedPoints` has them; float32.
        projection, targets, precision, robust_scale, min_depth: as for `pixel_term`.
    """
    batch, joints, _, count = arms.shape
    betas = shape_jacobian.shape[2]
    rows = positions.new_empty(batch, 3 * joints + 3 + betas + 1, 2, count)
    costs = positions.new_empty(batch, count)
    taken = (
        positions, arms, shape_jacobian.expand(batch, -1, -1, -1), projection, targets,
        precision.expand(batch, count), robust_scale.expand(batch, count),
    )  # fmt: skip
    launch(
        kernels.pixel_rows, positions.device, (batch, count),
        *(warp_array(one, wp.float32) for one in taken), min_depth,
        warp_array(rows, wp.float32), warp_array(costs, wp.float32),
    )  # fmt: skip
    return rows, costs


def contact_rows(
    joints: Float[Tensor, "batch joint 3"],
    shape_jacobian: Float[Tensor, "#batch joint 3 beta"],
    is_below: Float[Tensor, "joint joint"],
    ends: Int[Tensor, "bone 2"],
    radii: Float[Tensor, " bone"],
    pairs: Int[Tensor, "pair 2"],
    allowed: Float[Tensor, "#batch pair"],
    precision_root: float,
) -> Float[Tensor, "batch parameter_and_residual pair"]:
    """Rows (Jacobian, and the residual behind it) of `solver.self_contact.self_penetration_term`.

    Args:
        joints, shape_jacobian, is_below: as `solver.skeleton.Skeleton` has them; float32.
        ends, radii, pairs: as `solver.self_contact.Capsules` has them.
        allowed: overlap of the reference, metres.
        precision_root: 1 / m.
    """
    batch, count = joints.shape[:2]
    rows = joints.new_empty(batch, 3 * count + 3 + shape_jacobian.shape[3] + 1, len(pairs))
    if rows.numel():
        launch(
            kernels.contact_rows, rows.device, (batch, len(pairs)),
            warp_array(joints, wp.float32),
            warp_array(shape_jacobian.expand(batch, -1, -1, -1), wp.float32),
            warp_array(is_below, wp.float32), warp_array(ends, wp.int64),
            warp_array(radii.float(), wp.float32), warp_array(pairs, wp.int64),
            warp_array(allowed.expand(batch, -1), wp.float32), precision_root,
            warp_array(rows, wp.float32),
        )  # fmt: skip
    return rows
