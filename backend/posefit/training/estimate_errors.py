# SPDX-License-Identifier: Apache-2.0
"""Wrong estimates of true poses, with the errors that pose regressors make.

Errors are partly shared by all frames of a person (what smoothing and a common shape leave) and
partly each frame's own; some joints fail badly; depth is worse than the picture plane. Where a
silhouette can't tell, estimates fail on purpose: segments turned about their own axis, limbs of
the two sides exchanged. There only the texture shows the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posefit_shared.skeleton import SMPL_MIRROR, SMPL_PARENTS

from ..body import axis_angle_to_matrix
from .config import GeneratorConfig
from .draws import Draws
from .poses import JOINT_SPREAD

__all__ = [
    "LEGS",
    "TWIST_JOINTS",
    "Errors",
    "compensated_twist",
    "exchange_sides",
    "no_errors",
    "sample_errors",
    "sample_personal",
    "sample_twists",
]

TWIST_JOINTS: tuple[tuple[int, int], ...] = (
    (0, 3), (1, 4), (2, 5), (4, 7), (5, 8), (12, 15), (16, 18), (17, 19), (18, 20), (19, 21),
)  # fmt: skip
"""Segments that can turn about their own axis: the joint that moves them, the joint at the end."""

LEGS = (1, 2, 4, 5, 7, 8, 10, 11)
ARMS = (13, 14, 16, 17, 18, 19, 20, 21, 22, 23)


@dataclass(frozen=True)
class Errors:
    """Errors of the estimates of a batch of frames."""

    rotations: Float[Tensor, "batch 24 3 3"]
    """Applied after each joint's true local rotation."""
    betas: Float[Tensor, "batch 10"]
    """Added to the true shape."""
    shift: Float[Tensor, "batch 2"]
    """Added to the root in the picture plane, metres."""
    depth_factor: Float[Tensor, " batch"]
    """Multiplies the root's distance."""
    focal_factor: Float[Tensor, " batch"]
    """True focal length over the assumed one."""
    leg_swap: Tensor
    """Whether the legs are exchanged."""
    arm_swap: Tensor
    """Whether the arms are exchanged."""


def no_errors(batch: int, device: torch.device | str) -> Errors:
    """Estimates that are right; `dataclasses.replace` puts single errors in.

    Args:
        batch: number of frames.
        device: where the tensors go.
    """
    zeros = torch.zeros(batch, device=device)
    return Errors(
        rotations=torch.eye(3, device=device).expand(batch, 24, 3, 3),
        betas=zeros[:, None].expand(-1, 10),
        shift=zeros[:, None].expand(-1, 2),
        depth_factor=zeros + 1.0,
        focal_factor=zeros + 1.0,
        leg_swap=zeros.bool(),
        arm_swap=zeros.bool(),
    )


def sample_severity(
    draws: Draws, people: int, frames: int, personal: Bool[Tensor, " people"]
) -> Float[Tensor, "people frames"]:
    """How large each frame's errors are, 1 being a mean joint error of about 85 mm.

    People are of four kinds: all frames vary; most frames are good and a few bad (so that the
    bad ones have a sharp texture); all frames are nearly right, as in a second round; and people
    whom only the texture tells about, whose frames are right but for twists and exchanged limbs.

    Args:
        draws: random numbers.
        people, frames: how many.
        personal: people of the last kind.
    """
    any_size = draws.uniform(people, frames, low=0.1, high=1.6)
    good = draws.uniform(people, frames, low=0.05, high=0.45)
    mixed = torch.where(draws.happens(0.45, people, frames), any_size, good)
    small = draws.uniform(people, frames, low=0.02, high=0.4)
    kind = draws.uniform(people, 1)
    severity = torch.where(kind < 0.4, any_size, torch.where(kind < 0.85, mixed, small))
    almost_right = draws.uniform(people, frames, low=0.01, high=0.2)
    return torch.where(personal[:, None], almost_right, severity)


def sample_personal(draws: Draws, config: GeneratorConfig) -> Bool[Tensor, " people"]:
    """People some of whose frames are wrong only where texture tells; the others are right."""
    return draws.happens(config.personal_share, config.people)


def sample_errors(
    draws: Draws, config: GeneratorConfig, personal: Bool[Tensor, " people"] | None = None
) -> Errors:
    """Errors of all frames of a batch.

    Args:
        draws: random numbers.
        config: shares; `severity` fixes the size.
        personal: from `sample_personal`; nobody if None.
    """
    people, frames = config.people, config.frames
    if personal is None:
        personal = torch.zeros(people, dtype=torch.bool, device=draws.device)
    severity = sample_severity(draws, people, frames, personal)
    if config.severity is not None:
        severity = torch.full_like(severity, config.severity)
    shared_share = draws.uniform(people, 1, 1, 1, low=0.3, high=0.85)
    vectors = draws.normal(people, 1, 24, 3) * shared_share
    vectors = vectors + draws.normal(people, frames, 24, 3) * (1 - shared_share**2).sqrt()
    vectors = vectors * torch.where(draws.happens(0.06, people, frames, 24, 1), 2.5, 1.0)
    spread = draws.constant(*JOINT_SPREAD)[:, None]
    vectors = vectors * spread * severity[..., None, None]
    small = severity.clamp_max(1.0).flatten()
    batch = people * frames
    depth = 0.5 * draws.normal(people, 1) + 0.8 * draws.normal(people, frames)
    focal = torch.exp(
        draws.normal(people, 1) * 0.12 * draws.happens(config.wrong_focal_share, people, 1)
    )
    swap_share = torch.where(personal, 4.0, 1.0).repeat_interleave(frames) * config.leg_swap_share
    return Errors(
        rotations=axis_angle_to_matrix(vectors.flatten(0, 1)),
        betas=(draws.normal(people, 1, 10) * 0.6).expand(-1, frames, -1).reshape(batch, 10)
        * small[:, None],
        shift=draws.normal(batch, 2) * 0.025 * severity.flatten()[:, None],
        depth_factor=1.0 + 0.05 * depth.flatten() * severity.flatten(),
        focal_factor=focal.expand(-1, frames).reshape(batch),
        leg_swap=draws.uniform(batch) < swap_share,
        arm_swap=draws.uniform(batch) < 0.5 * swap_share,
    )


def apply_errors(
    rotations: Float[Tensor, "batch 24 3 3"], errors: Errors
) -> Float[Tensor, "batch 24 3 3"]:
    """Local rotations of the estimates, but for twists.

    Args:
        rotations: true local rotations.
        errors: what goes wrong.
    """
    wrong = rotations
    for swapped, joints in ((errors.leg_swap, LEGS), (errors.arm_swap, ARMS)):
        exchanged = exchange_sides(wrong, joints)
        wrong = torch.where(swapped[:, None, None, None], exchanged, wrong)
    return wrong @ errors.rotations


def exchange_sides(
    rotations: Float[Tensor, "batch 24 3 3"], joints: tuple[int, ...]
) -> Float[Tensor, "batch 24 3 3"]:
    """Rotations with the two sides of some joints exchanged: the legs cross over, say."""
    columns = [
        _reflected(rotations[:, SMPL_MIRROR[joint]]) if joint in joints else rotations[:, joint]
        for joint in range(rotations.shape[1])
    ]
    return torch.stack(columns, dim=1)


def _reflected(matrices: Float[Tensor, "batch 3 3"]) -> Float[Tensor, "batch 3 3"]:
    """Rotations seen in a mirror across x: row and column x change sign, their meeting doesn't."""
    first, second, third = matrices.unbind(2)
    turned = torch.stack([-first, second, third], dim=2)
    first, second, third = turned.unbind(1)
    return torch.stack([-first, second, third], dim=1)


def sample_twists(
    draws: Draws, config: GeneratorConfig, personal: Bool[Tensor, " people"] | None = None
) -> Float[Tensor, "batch segment"]:
    """Angles by which estimates turn segments about their own axis, radians.

    Args:
        draws: random numbers.
        config: shares.
        personal: people whose twists are large and each frame's own, so that most of their frames
            show where the surface belongs; nobody if None.
    """
    people, frames, segments = config.people, config.frames, len(TWIST_JOINTS)
    batch = people * frames
    if personal is None:
        personal = torch.zeros(people, dtype=torch.bool, device=draws.device)
    is_personal = personal.repeat_interleave(frames)[:, None]
    shared = draws.normal(people, 1, segments).expand(-1, frames, -1).flatten(0, 1)
    shared = shared * torch.where(is_personal, 0.0, 0.5)
    angles = shared + 0.8 * draws.normal(batch, segments)
    size = draws.uniform(batch, 1, low=0.2, high=0.9) + 0.3 * is_personal
    chosen = draws.happens(0.5, batch, segments) & draws.happens(config.twist_share, batch, 1)
    return angles * size * chosen


def compensated_twist(
    rotations: Float[Tensor, "batch 24 3 3"],
    angles: Float[Tensor, "batch segment"],
    rest_joints: Float[Tensor, "24 3"],
) -> Float[Tensor, "batch 24 3 3"]:
    """Segments turned about their own axes, while what hangs on them stays where it was.

    Args:
        rotations: local rotations.
        angles: of each segment of `TWIST_JOINTS`, radians.
        rest_joints: joints at rest, which give the axes.
    """
    turned = list(rotations.unbind(1))
    axes = torch.stack([rest_joints[end] - rest_joints[joint] for joint, end in TWIST_JOINTS])
    axes = torch.nn.functional.normalize(axes, dim=1)
    twists = axis_angle_to_matrix(axes * angles[:, :, None])
    for column, (joint, _) in enumerate(TWIST_JOINTS):
        twist = twists[:, column]
        turned[joint] = turned[joint] @ twist
        for child, parent in enumerate(SMPL_PARENTS):
            if parent == joint:
                turned[child] = twist.transpose(1, 2) @ turned[child]
    return torch.stack(turned, dim=1)
