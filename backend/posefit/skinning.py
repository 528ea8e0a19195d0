# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of linear blend skinning: a joint tree's frames, and points that hang on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["joint_frames", "pose_feature", "skin"]


@dataclass(frozen=True)
class _Level:
    """The joints at one depth below the root."""

    joints: Int[Tensor, " member"]
    parent_places: Int[Tensor, " member"]
    """Where each one's parent is among the joints one level up; the root's is its own."""


@lru_cache(maxsize=32)
def _levels(
    parents: tuple[int, ...], device: torch.device
) -> tuple[tuple[_Level, ...], Int[Tensor, " joint"], Int[Tensor, " joint"]]:
    """Levels from the root down, each joint's place among all levels' joints, and its parent
    (the root's: itself)."""
    depth = [0] * len(parents)
    for joint in range(1, len(parents)):
        depth[joint] = depth[parents[joint]] + 1
    members = [[j for j, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]
    order = [joint for level in members for joint in level]

    def index(places: list[int]) -> Tensor:
        return torch.tensor(places, device=device)

    levels = tuple(
        _Level(index(own), index([members[k - 1].index(parents[j]) for j in own] if k else [0]))
        for k, own in enumerate(members)
    )
    back = sorted(range(len(order)), key=order.__getitem__)
    return levels, index(back), index([max(parent, 0) for parent in parents])


def joint_frames(
    rotations: Float[Tensor, "batch joint 3 3"],
    joints: Float[Tensor, "batch joint 3"],
    parents: tuple[int, ...],
) -> tuple[Float[Tensor, "batch joint 3 3"], Float[Tensor, "batch joint 3"]]:
    """Rotation and position of each joint after turning every joint about its parent.

    Args:
        rotations: of each joint in its parent's frame.
        joints: at rest.
        parents: −1 for the root, which comes first.

    Returns:
        Rotation of each joint from rest, and its posed position; one step per depth of the tree.
    """
    levels, back, upper = _levels(parents, joints.device)
    offsets = torch.cat([joints[:, :1], joints[:, 1:] - joints[:, upper[1:]]], dim=1)
    all_rotations, all_positions = [], []
    for depth, level in enumerate(levels):
        turned, placed = rotations[:, level.joints], offsets[:, level.joints]
        if depth:
            above = all_rotations[-1][:, level.parent_places]
            beside = all_positions[-1][:, level.parent_places]
            placed = (above @ placed[..., None])[..., 0] + beside
            turned = above @ turned
        all_rotations.append(turned)
        all_positions.append(placed)
    return torch.cat(all_rotations, 1)[:, back], torch.cat(all_positions, 1)[:, back]


def pose_feature(rotations: Float[Tensor, "batch joint 3 3"]) -> Float[Tensor, "batch feature"]:
    """What pose correctives are linear in: every joint's `rotation − identity` but the root's."""
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[:, 1:] - identity).flatten(1)


def skin(
    points: Float[Tensor, "batch point 3"],
    weights: Float[Tensor, "*#batch point joint"],
    rotations: Float[Tensor, "batch joint 3 3"],
    translations: Float[Tensor, "batch joint 3"],
) -> Float[Tensor, "batch point 3"]:
    """Points moved by the weighted mean of the joints' rigid motions.

    Args:
        points: at rest, shaped and corrected.
        weights: share of each joint in each point.
        rotations: of each joint from rest.
        translations: what is added after each rotation about the origin.

    Returns:
        Posed points.
    """
    motions = torch.cat([rotations, translations[..., None]], -1).flatten(2)
    blended = (weights @ motions).unflatten(-1, (3, 4))
    return (blended[..., :3] @ points[..., None])[..., 0] + blended[..., 3]
