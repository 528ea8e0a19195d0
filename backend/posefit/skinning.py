# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of linear blend skinning: a joint tree's frames, and points that hang on them."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["joint_frames", "pose_feature", "skin"]


@lru_cache(maxsize=32)
def _levels(parents: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """For each depth below the root: its joints, and their parents' places one level up."""
    depth = [0] * len(parents)
    for joint in range(1, len(parents)):
        depth[joint] = depth[parents[joint]] + 1
    levels = [
        tuple(joint for joint, d in enumerate(depth) if d == level)
        for level in range(max(depth) + 1)
    ]
    return tuple(
        (joints, tuple(levels[level - 1].index(parents[j]) for j in joints) if level else ())
        for level, joints in enumerate(levels)
    )


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
    offsets = torch.cat([joints[:, :1], joints[:, 1:] - joints[:, list(parents[1:])]], dim=1)
    all_rotations, all_positions, order = [], [], []
    for level, (members, parent_places) in enumerate(_levels(parents)):
        index = list(members)
        turned, placed = rotations[:, index], offsets[:, index]
        if level:
            above = all_rotations[-1][:, list(parent_places)]
            placed = (above @ placed[..., None])[..., 0] + all_positions[-1][:, list(parent_places)]
            turned = above @ turned
        all_rotations.append(turned)
        all_positions.append(placed)
        order.extend(members)
    back = sorted(range(len(order)), key=order.__getitem__)
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
