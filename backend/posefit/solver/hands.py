# SPDX-License-Identifier: Apache-2.0
"""Joints beyond the body's own: fingers are solved where landmarks tell of them, else they stay.

SMPL-H has thirty finger joints, SMPL-X a jaw and two eyes besides. A surface point on a fingertip
or a landmark at a knuckle says little of them, and a noisy one bends them out of shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from posefit_shared.skeleton import SMPL_JOINT_NAMES

from ..body import BodyModel
from .evidence import Evidence, LandmarkPixels, LandmarkPositions

__all__ = ["carried_fingers", "held_joints"]

LEAST_LANDMARKS = 5
"""Landmarks of a hand that must be seen before its fingers move."""
_LEAST_SKINNING = 0.3
"""Share of a vertex's weights below a joint from which the joint counts as moving it."""
_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")


def held_joints(
    body: BodyModel,
    evidence: Sequence[Evidence],
    frames: int,
    locked: Bool[Tensor, " joint"] | None = None,
) -> Bool[Tensor, "*frames joint"] | None:
    """Joints that keep their rotation: those locked, and what nothing tells of.

    Args:
        body: the body model.
        evidence: of the frames that are solved.
        frames: how many.
        locked: joints that were not to move.

    Returns:
        (frame, joint) for bodies with fingers; `locked` itself for others.
    """
    details = [name not in SMPL_JOINT_NAMES for name in body.joint_names]
    if not any(details) or body.num_joints <= len(SMPL_JOINT_NAMES):
        return locked
    held = torch.tensor(details, device=body.device) & ~carried_fingers(body, evidence, frames)
    return held if locked is None else held | locked


def carried_fingers(
    body: BodyModel, evidence: Sequence[Evidence], frames: int
) -> Bool[Tensor, "frame joint"]:
    """Finger joints that seen landmarks tell of, in hands of which enough is seen.

    Args:
        body: the body model.
        evidence: landmarks count; surface points do not.
        frames: how many.
    """
    carried = torch.zeros(frames, body.num_joints, dtype=torch.bool, device=body.device)
    for entry in evidence:
        if not isinstance(entry, LandmarkPixels | LandmarkPositions):
            continue
        moves = _moves(body, entry)
        seen = entry.weights.to(body.device) > 0
        for side in ("L", "R"):
            own = torch.tensor(
                [_is_finger(name, side) for name in body.joint_names], device=body.device
            )
            of_hand = moves[own].any(0)
            enough = (seen & of_hand).sum(1) >= LEAST_LANDMARKS
            told = (seen[:, None] & moves[None]).any(2) & own
            carried |= told & enough[:, None]
    return carried


def _is_finger(name: str, side: str) -> bool:
    return any(name.startswith(f"{side}_{finger}") for finger in _FINGERS)


def _moves(
    body: BodyModel, entry: LandmarkPixels | LandmarkPositions
) -> Bool[Tensor, "joint landmark"]:
    """Whether a turn of each joint moves each landmark of a table."""
    bound = entry.table.bind(body, body.dtype)
    below = body.is_descendant.clone()
    skinned = (below.to(body.dtype) @ body.lbs_weights[bound.vertices].T) > _LEAST_SKINNING
    below.fill_diagonal_(False)  # a joint's own turn leaves it where it is
    of_source = torch.cat([below, skinned], 1)
    used = bound.mixture.abs() > 1e-6
    return ((of_source.to(body.dtype) @ used.to(body.dtype)) > 0) & bound.known
