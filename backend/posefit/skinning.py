# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of linear blend skinning: a joint tree's frames, and points that hang on them."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["ancestors_of", "joint_frames", "pose_feature", "skin"]


@lru_cache(maxsize=32)
def ancestors_of(
    parents: tuple[int, ...], device: torch.device
) -> tuple[Int[Tensor, " joint_and_world"], ...]:
    """Ancestors 1, 2, 4, … levels up, until all are the world: what a chain doubles by.

    Args:
        parents: −1 for the root.
        device: of the indices.

    Returns:
        Indices of joints; `joint count` stands for the world, above the root, and comes last.
    """
    world = len(parents)
    level = [parent if parent >= 0 else world for parent in parents] + [world]
    levels = []
    while any(joint != world for joint in level) or not levels:
        levels.append(torch.tensor(level, device=device))
        level = [level[joint] for joint in level]
    return tuple(levels)


@lru_cache(maxsize=32)
def _upper(parents: tuple[int, ...], device: torch.device) -> Int[Tensor, " joint"]:
    """Each joint's parent; the root's is itself."""
    return torch.tensor([max(parent, 0) for parent in parents], device=device)


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
        Rotation of each joint from rest, and its posed position; by pointer doubling, log2(depth)
        products of all joints in place of one for each depth of the tree.
    """
    upper = _upper(parents, joints.device)
    offsets = torch.cat([joints[:, :1], joints[:, 1:] - joints[:, upper[1:]]], dim=1)
    world = torch.eye(4, dtype=joints.dtype, device=joints.device).expand(len(joints), 1, 4, 4)
    chain = torch.cat([rotations, offsets[..., None]], dim=3)
    chain = torch.cat([chain, world[:, :, 3:].expand(-1, len(parents), -1, -1)], dim=2)
    chain = torch.cat([chain, world], dim=1)
    for level in ancestors_of(parents, joints.device):
        chain = chain[:, level] @ chain
    return chain[:, :-1, :3, :3], chain[:, :-1, :3, 3]


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
