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

    def first_joints(self, count: int) -> PosePrior:
        """The prior of joints 1…count alone. Exact where the joints left out are independent of the
        others, as SMPL's hands are here: `whitening` is then block diagonal."""
        size = 3 * count
        return PosePrior(
            self.means[:, :size],
            self.whitening[:, :size, :size],
            self.offsets,
            self.lower[:count],
            self.upper[:count],
        )

    @property
    def mean_pose(self) -> Float[Tensor, "joint 3"]:
        """Rotation vectors of the mean pose: standing, arms hanging, slightly bent."""
        return self.means[-1].unflatten(0, (-1, 3))

    @property
    def joint_count(self) -> int:
        """How many joints after the root the prior judges."""
        return self.lower.shape[0]


_SHARED_JOINTS = 21
"""Joints 1…21 are the same in SMPL, SMPL-H and SMPL-X; then come hands, jaw or fingers."""


def load_pose_prior(
    joint_names: tuple[str, ...], device: torch.device | str, dtype: torch.dtype
) -> PosePrior:
    """The prior that ships with the project, for a body's joints.

    Args:
        joint_names: the body's. SMPL-H and SMPL-X get the prior without SMPL's hand joints.
        device: where its tensors go.
        dtype: their type.

    Returns:
        The prior over joints 1…23 or 1…21.
    """
    prior = _read_prior(str(device), dtype)
    has_hands = joint_names[1 + _SHARED_JOINTS : 2 + prior.joint_count] == ("L_Hand", "R_Hand")
    return prior if has_hands else prior.first_joints(_SHARED_JOINTS)


@lru_cache(maxsize=8)
def _read_prior(device: str, dtype: torch.dtype) -> PosePrior:
    with resources.files("posefit").joinpath(_ASSET).open("rb") as file, np.load(file) as arrays:
        values = {
            name: torch.tensor(arrays[name], device=device, dtype=dtype)
            for name in ("means", "whitening", "offsets", "lower", "upper")
        }
    return PosePrior(**values)
