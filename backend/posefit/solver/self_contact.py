# SPDX-License-Identifier: Apache-2.0
"""Limbs stay out of the body: capsules around bones, and a residual for going deeper.

Each bone is a capsule as thick as the body around it. Two capsules of limbs that may meet (arms and
torso, arms and legs, both legs, both arms) are penalised for what they overlap *more* than they did
in the reference: a body that sits with crossed legs or has its hands on its hips stays as it is.
A cheap stand-in for the surface, a centimetre or two off: it keeps gross errors from growing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..body import BodyModel
from ..body_model import kept_with_body
from ..gpu.choice import takes_kernels
from .kinematics import joint_points, pull_back
from .skeleton import Skeleton
from .terms import Term

__all__ = ["Capsules", "body_capsules", "overlaps", "self_penetration_term"]

_BONES: dict[str, tuple[tuple[str, str], ...]] = {
    "torso": (("Pelvis", "Spine1"), ("Spine1", "Spine3"), ("Spine3", "Neck")),
    "head": (("Neck", "Head"),),
    "left arm": (("L_Elbow", "L_Wrist"), ("L_Wrist", "L_Hand")),
    "right arm": (("R_Elbow", "R_Wrist"), ("R_Wrist", "R_Hand")),
    "left thigh": (("L_Hip", "L_Knee"),),
    "right thigh": (("R_Hip", "R_Knee"),),
    "left shank": (("L_Knee", "L_Ankle"), ("L_Ankle", "L_Foot")),
    "right shank": (("R_Knee", "R_Ankle"), ("R_Ankle", "R_Foot")),
}
_MEETINGS: tuple[tuple[str, str], ...] = (
    ("left arm", "torso"), ("right arm", "torso"), ("left arm", "head"), ("right arm", "head"),
    ("left arm", "right arm"), ("left arm", "left thigh"), ("left arm", "right thigh"),
    ("right arm", "left thigh"), ("right arm", "right thigh"), ("left shank", "right shank"),
    ("left thigh", "right thigh"), ("left thigh", "right shank"), ("right thigh", "left shank"),
)  # fmt: skip
_THICKNESS_QUANTILE = 0.4
"""Share of a bone's vertices inside its capsule: limbs are not round, trunks not at all."""


@dataclass(frozen=True)
class Capsules:
    """Bones with their thickness, and which of them may meet."""

    ends: Int[Tensor, "bone 2"]
    """Joints at both ends."""
    radii: Float[Tensor, " bone"]
    """Metres."""
    pairs: Int[Tensor, "pair 2"]
    """Bones that must not go into each other."""


@kept_with_body
def body_capsules(body: BodyModel) -> Capsules:
    """Capsules of a body's mean shape; bones whose joints the body lacks are left out.

    Args:
        body: the body model.
    """
    names = {name: index for index, name in enumerate(body.joint_names)}
    ends, radii, parts = [], [], {}
    owner = body.lbs_weights.argmax(1)
    for part, bones in _BONES.items():
        for start, end in bones:
            if start in names and end in names:
                parts.setdefault(part, []).append(len(ends))
                ends.append((names[start], names[end]))
                radii.append(_radius(body, owner, names[start], names[end]))
    pairs = [
        (i, j) for one, two in _MEETINGS for i in parts.get(one, []) for j in parts.get(two, [])
    ]
    device = body.v_template.device
    return Capsules(
        torch.tensor(ends, device=device),
        torch.tensor(radii, device=device, dtype=body.v_template.dtype),
        torch.tensor(pairs, device=device).reshape(-1, 2),
    )


def _radius(body: BodyModel, owner: Int[Tensor, " vertex"], start: int, end: int) -> float:
    """Typical distance of the vertices that follow a bone from its axis, metres."""
    own = body.v_template[owner == start]
    if not len(own):
        return 0.03
    first, last = body.joint_template[start], body.joint_template[end]
    axis = last - first
    along = ((own - first) @ axis / axis.square().sum()).clamp(0.0, 1.0)
    distance = (own - first - along[:, None] * axis).norm(dim=1)
    return float(torch.quantile(distance, _THICKNESS_QUANTILE))


@dataclass(frozen=True)
class _Closest:
    """Where the axes of two bones come nearest."""

    shares: Float[Tensor, "batch pair 2"]
    """How far along each bone, 0 to 1."""
    direction: Float[Tensor, "batch pair 3"]
    """From the second bone to the first, unit length."""
    depth: Float[Tensor, "batch pair"]
    """Overlap of the capsules, metres; negative where they are apart."""


def _closest(capsules: Capsules, joints: Float[Tensor, "batch joint 3"]) -> _Closest:
    """Nearest points of two segments (Ericson, Real-time collision detection, 2005, 5.1.9)."""
    start, end = joints[:, capsules.ends[:, 0]], joints[:, capsules.ends[:, 1]]
    one, two = capsules.pairs.unbind(1)
    u, v = (end - start)[:, one], (end - start)[:, two]
    between = start[:, one] - start[:, two]
    a, e = (w.square().sum(-1).clamp_min(1e-9) for w in (u, v))
    b, c, f = (u * v).sum(-1), (u * between).sum(-1), (v * between).sum(-1)
    slack = a * e - b.square()
    s = torch.where(slack > 1e-9, (b * f - c * e) / slack.clamp_min(1e-9), 0.0).clamp(0.0, 1.0)
    t = ((b * s + f) / e).clamp(0.0, 1.0)
    s = ((b * t - c) / a).clamp(0.0, 1.0)
    offset = between + s[..., None] * u - t[..., None] * v
    distance = offset.norm(dim=-1)
    reach = capsules.radii[one] + capsules.radii[two]
    direction = offset / distance.clamp_min(1e-6)[..., None]
    return _Closest(torch.stack([s, t], -1), direction, reach - distance)


def overlaps(
    capsules: Capsules, joints: Float[Tensor, "batch joint 3"]
) -> Float[Tensor, "batch pair"]:
    """How deep each pair of bones overlaps, metres, 0 where they are apart.

    Args:
        capsules: from `body_capsules`.
        joints: posed joints.
    """
    return _closest(capsules, joints).depth.clamp_min(0.0)


def self_penetration_term(
    skeleton: Skeleton,
    capsules: Capsules,
    allowed: Float[Tensor, "batch pair"],
    precision_root: float,
) -> Term:
    """One-sided push out of what overlaps more than it is allowed to.

    Args:
        skeleton: the posed joints.
        capsules: from `body_capsules`.
        allowed: overlap of the reference, metres.
        precision_root: √weight / σ, 1 / m.

    Returns:
        A row a pair, zero where the overlap has not grown.
    """
    if takes_kernels(skeleton.joints):
        from ..gpu.terms import contact_rows  # Warp takes half a second to import

        rows = contact_rows(
            skeleton.joints, skeleton.joint_shape_jacobian, skeleton.is_below, capsules.ends,
            capsules.radii, capsules.pairs, allowed, precision_root,
        )  # fmt: skip
        return Term.of_rows(rows, rows[:, -1].square().sum(-1))
    near = _closest(capsules, skeleton.joints)
    excess = (near.depth - allowed).clamp_min(0.0)
    points = joint_points(skeleton)
    identity = torch.eye(3, device=excess.device, dtype=excess.dtype)
    covectors = identity[None, :, :, None].expand(len(excess), 3, 3, skeleton.joints.shape[1])
    by_joint = pull_back(points, covectors)
    ends = capsules.ends[capsules.pairs]
    shares = torch.stack([1.0 - near.shares, near.shares], -1)
    sign = torch.arange(-1, 2, 2, device=excess.device, dtype=excess.dtype)[:, None]
    # The depth falls as the first bone moves along `direction` and grows as the second does.
    weights = shares * sign * (excess > 0)[..., None, None] * precision_root
    jacobian = excess.new_zeros(len(excess), by_joint.shape[1], excess.shape[1])
    for bone in range(2):
        for tip in range(2):
            moved = by_joint[:, :, :, ends[:, bone, tip]]
            along = torch.einsum("bqcp,bpc->bqp", moved, near.direction)
            jacobian = jacobian + along * weights[:, None, :, bone, tip]
    residual = excess * precision_root
    return Term(residual, jacobian, residual.square().sum(-1))
