# SPDX-License-Identifier: Apache-2.0
"""True poses: frames of motion clips with noise, and poses drawn at random within reach."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posefit_shared.skeleton import SMPL_MIRROR

from .draws import Draws

__all__ = ["PoseBank", "is_validation", "mirror_pose"]

VALIDATION_SHARE = 12
"""One clip, pattern or photograph in this many is kept for validation."""

JOINT_SPREAD = (
    0.10, 0.13, 0.13, 0.06, 0.15, 0.15, 0.06, 0.20, 0.20, 0.06, 0.10, 0.10, 0.12, 0.05, 0.05, 0.12,
    0.20, 0.20, 0.25, 0.25, 0.25, 0.25, 0.10, 0.10,
)  # fmt: skip
"""How far regressors err at each joint, radians; also the spread of random poses."""


def is_validation(name: str) -> bool:
    """Whether a clip or photograph of this name is kept for validation.

    Mirrored copies and parts of one recording share their name's start and so their side.
    """
    stem = name.replace("_mirror", "").replace("/train_", "/test_").rstrip("0123456789")
    return zlib.crc32(stem.encode()) % VALIDATION_SHARE == 5


def mirror_pose(
    pose: Float[Tensor, "*batch joint 3"],
) -> Float[Tensor, "*batch joint 3"]:
    """The pose seen in a mirror: sides exchanged, rotation vectors reflected in x."""
    x, y, z = torch.stack([pose[..., joint, :] for joint in SMPL_MIRROR], dim=-2).unbind(-1)
    return torch.stack([x, -y, -z], dim=-1)


class PoseBank:
    """Poses of motion clips on a device, one side of the split."""

    def __init__(self, path: Path, device: torch.device | str, *, validation: bool) -> None:
        """Reads the poses.

        Args:
            path: file of tools/training/prepare_poses.py.
            device: where they are kept.
            validation: which side of the split.
        """
        with np.load(path) as data:
            chosen = np.array([is_validation(str(name)) == validation for name in data["names"]])
            rows = chosen[data["clip"]]
            pose, clip = data["pose"][rows], data["clip"][rows]
        if not len(pose):
            raise ValueError(f"{path} has no poses for validation={validation}, expected some")
        self.pose = torch.from_numpy(pose.astype(np.float32)).to(device)
        self.clip = torch.from_numpy(clip.astype(np.int64)).to(device)

    def sample(
        self, draws: Draws, people: int, frames: int, random_share: float
    ) -> Float[Tensor, "people frames 24 3"]:
        """Poses of people over frames of one clip each.

        Args:
            draws: random numbers.
            people: how many people.
            frames: frames of each, within up to 100 rows of the clip, in no order.
            random_share: share of people whose poses are drawn joint by joint.

        Returns:
            Rotation vectors; the root has no heading.
        """
        start = draws.integers(len(self.pose), people)[:, None]
        spread = draws.log_uniform(people, 1, low=6.0, high=100.0)
        row = start + (draws.uniform(people, frames) * spread).long()
        row = row.clamp_max(len(self.pose) - 1)
        row = torch.where(self.clip[row] == self.clip[start], row, start)
        pose = self.pose[row] + draws.normal(people, 1, 24, 3) * 0.08
        pose = pose + draws.normal(people, frames, 24, 3) * 0.05
        invented = _random_pose(draws, people, frames)
        pose = torch.where(draws.happens(random_share, people, 1, 1, 1), invented, pose)
        return torch.where(draws.happens(0.5, people, 1, 1, 1), mirror_pose(pose), pose)


def _random_pose(draws: Draws, people: int, frames: int) -> Float[Tensor, "people frames 24 3"]:
    """Poses of a standing, reaching or sitting body, joint by joint."""
    shape = (people, frames)
    pose = draws.normal(*shape, 24, 3) * draws.constant(*JOINT_SPREAD)[:, None] * 0.8
    side = draws.constant(1.0, -1.0)
    shoulders, elbows = pose[..., 16:18, :], pose[..., 18:20, :]
    hips, knees, spine = pose[..., 1:3, :], pose[..., 4:6, :], pose[..., 3:10:3, :]
    shoulders[..., 2] += side * draws.uniform(*shape, 2, low=-1.45, high=0.6)
    shoulders[..., 1] += side * draws.uniform(*shape, 2, low=-1.0, high=0.5)
    shoulders[..., 0] += draws.uniform(*shape, 2, low=-0.8, high=0.8)
    bent = draws.happens(0.8, *shape, 2)
    elbows[..., 1] -= side * draws.uniform(*shape, 2, high=2.2) * bent
    raised = draws.happens(0.7, *shape, 2)
    hips[..., 0] -= draws.uniform(*shape, 2, low=-0.4, high=1.3) * raised
    hips[..., 2] += side * draws.uniform(*shape, 2, low=-0.1, high=0.5) * raised
    bent = draws.happens(0.7, *shape, 2)
    knees[..., 0] += draws.uniform(*shape, 2, high=1.7) * bent
    spine[..., 0] += draws.uniform(*shape, 1, low=-0.05, high=0.25)
    pose[..., 0, :] = draws.normal(*shape, 3) * 0.12
    return pose
