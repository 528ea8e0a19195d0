# SPDX-License-Identifier: Apache-2.0
"""The learned pose mixture and joint limits that ship with the project.

Learned by tools/priors from public motion capture; assets/priors/README.md has sources and licence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["PosePrior", "load_pose_prior"]

_ASSET = "assets/priors/pose_prior.npz"


@dataclass(frozen=True)
class PosePrior:
    """A Gaussian mixture over local rotation vectors of joints 1…n, and a box for each."""

    means: Float[Tensor, "component dimension"]
    """Radians, joints 1…n flattened."""
    whitening: Float[Tensor, "component dimension dimension"]
    """L with L Lᵀ = Σ⁻¹: `(θ − μ) @ L` has unit variance."""
    offsets: Float[Tensor, " component"]
    """−2 log weight + log |Σ|, shifted so that the smallest is 0."""
    lower: Float[Tensor, "joint 3"]
    """Smallest rotation vector of joints 1…n, radians."""
    upper: Float[Tensor, "joint 3"]
    """Largest rotation vector of joints 1…n, radians."""

    @property
    def joint_count(self) -> int:
        """How many joints after the root the prior judges."""
        return self.lower.shape[0]


@lru_cache(maxsize=8)
def load_pose_prior(device: torch.device | str, dtype: torch.dtype) -> PosePrior:
    """The prior that ships with the project.

    Args:
        device: where its tensors go.
        dtype: their type.

    Returns:
        The prior over SMPL's joints 1…21 (hands are left alone); SMPL-H and SMPL-X share them.
    """
    with resources.files("posefit").joinpath(_ASSET).open("rb") as file, np.load(file) as arrays:
        values = {
            name: torch.tensor(arrays[name], device=device, dtype=dtype)
            for name in ("means", "whitening", "offsets", "lower", "upper")
        }
    return PosePrior(**values)
