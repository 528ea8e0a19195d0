# SPDX-License-Identifier: Apache-2.0
"""The solver's largest terms as a GPU computes them, a launch each; `terms` and `self_contact` come
here by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import warp as wp
from jaxtyping import Float
from torch import Tensor

from ..gpu.warp_runtime import launch, warp_array
from . import kernels
from .kinematics import PosedPoints

if TYPE_CHECKING:
    from .self_contact import Capsules
    from .skeleton import Skeleton

__all__ = ["contact_rows", "pixel_rows"]


def pixel_rows(
    points: PosedPoints,
    projection: Float[Tensor, "batch 3 4"],
    targets: Float[Tensor, "batch 2 point"],
    precision: Float[Tensor, "batch point"],
    robust_scale: Float[Tensor, "batch point"],
    min_depth: float,
) -> tuple[Float[Tensor, "batch parameter_and_residual 2 point"], Float[Tensor, "batch point"]]:
    """Rows (Jacobian, and the residual behind it) and costs of `terms.pixel_term`, without a lens.

    Args:
        points: posed points, each of which takes the whole translation; float32.
        projection, targets, precision, robust_scale, min_depth: as there.
    """
    batch, joints, _, count = points.arms.shape
    betas, like = points.shape_jacobian.shape[2], points.positions
    rows = like.new_empty(batch, 3 * joints + 3 + betas + 1, 2, count)
    costs = like.new_empty(batch, count)
    taken = (
        points.positions, points.arms, points.shape_jacobian.expand(batch, -1, -1, -1), projection,
        targets, precision.expand(batch, count), robust_scale.expand(batch, count),
    )  # fmt: skip
    launch(
        kernels.pixel_rows, like.device, (batch, count),
        *(warp_array(one, wp.float32) for one in taken), min_depth,
        warp_array(rows, wp.float32), warp_array(costs, wp.float32),
    )  # fmt: skip
    return rows, costs


def contact_rows(
    skeleton: Skeleton,
    capsules: Capsules,
    allowed: Float[Tensor, "batch pair"],
    precision_root: float,
) -> Float[Tensor, "batch parameter_and_residual pair"]:
    """Rows (Jacobian, and the residual behind it) of `self_contact.self_penetration_term`.

    Args:
        skeleton: the posed joints; float32.
        capsules, allowed, precision_root: as there.
    """
    batch, joints = skeleton.joints.shape[:2]
    jacobian = skeleton.joint_shape_jacobian.expand(batch, -1, -1, -1)
    pairs = len(capsules.pairs)
    rows = skeleton.joints.new_empty(batch, 3 * joints + 3 + jacobian.shape[3] + 1, pairs)
    if pairs:
        launch(
            kernels.contact_rows, rows.device, (batch, pairs),
            warp_array(skeleton.joints, wp.float32), warp_array(jacobian, wp.float32),
            warp_array(skeleton.is_below, wp.float32), warp_array(capsules.ends, wp.int64),
            warp_array(capsules.radii.float(), wp.float32), warp_array(capsules.pairs, wp.int64),
            warp_array(allowed.expand(batch, pairs), wp.float32), precision_root,
            warp_array(rows, wp.float32),
        )  # fmt: skip
    return rows
