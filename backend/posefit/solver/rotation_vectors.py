# SPDX-License-Identifier: Apache-2.0
"""How a rotation vector moves when its rotation is turned a little: SO(3)'s left Jacobian.

Source: Solà, Deray and Atchuthan, A micro Lie theory for state estimation in robotics, 2018,
equations 145 and 146.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..gpu.choice import takes_kernels
from ..rotations import cross_matrix

__all__ = ["inverse_left_jacobian"]


def inverse_left_jacobian(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Derivative of log(exp(δ) exp(rotvec)) by δ at 0.

    Args:
        rotvec: rotation vectors, radians, shorter than 2π.

    Returns:
        I − ½ [φ] + (1 − (φ/2) cot(φ/2)) / φ² [φ]².
    """
    if takes_kernels(rotvec):
        from ..gpu.rotations import inverse_left_jacobians  # Warp takes half a second to import

        return inverse_left_jacobians(rotvec)
    squared = rotvec.square().sum(-1)
    is_small = squared < 1e-3
    safe = torch.where(is_small, 1.0, squared)
    half = safe.sqrt() / 2
    exact = (1.0 - half * torch.cos(half) / torch.sin(half)) / safe
    series = 1.0 / 12.0 + squared / 720.0 + squared.square() / 30240.0
    factor = torch.where(is_small, series, exact)[..., None, None]
    cross = cross_matrix(rotvec)
    identity = torch.eye(3, device=rotvec.device, dtype=rotvec.dtype)
    return identity - 0.5 * cross + factor * (cross @ cross)
