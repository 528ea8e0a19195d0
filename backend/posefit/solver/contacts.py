# SPDX-License-Identifier: Apache-2.0
"""Points that touch something hold still in the world: residuals between a frame and the next.

A held point's step from one frame to the next is measured in σ = speed · time, so that frames far
apart are hardly coupled, and a robust kernel lets go of what was wrongly taken for a contact.
Where the ground is known, held soles lie on it and no sole goes through it. Which points touch when
is for `posefit.refinement.contacts` to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..body import BodyModel
from .config import SolverConfig
from .kinematics import PointSet, bind_points, pose_points, pull_back
from .skeleton import Skeleton, SkeletonModel
from .smoothness import Band
from .terms import geman_mcclure

__all__ = ["BoundContacts", "Contacts", "bind_contacts", "contact_band"]


@dataclass(frozen=True)
class Contacts:
    """Which surface points touch something in which frames."""

    vertex_indices: Int[Tensor, " point"]
    """Vertices that may touch."""
    held: Float[Tensor, "batch point"]
    """How sure it is that the point touches, 0 to 1. Neighbouring frames hold together."""
    is_sole: Bool[Tensor, " point"]
    """Points that the ground bears and stops."""
    clearance: Float[Tensor, " point"]
    """Metres that each point is above the ground when the sole is flat on it."""
    ground: Float[Tensor, " 4"] | None = None
    """Plane n·x + d = 0 in the world, n of unit length and upwards, or None if unknown."""


@dataclass(frozen=True)
class BoundContacts:
    """Contacts tied to a body and the frames of a solve."""

    points: PointSet
    pair_precision: Float[Tensor, "batch point"]
    """Of the step from a frame to the next, 1 / m²; the last row is zero."""
    robust_scale: Float[Tensor, " batch"]
    """Metres of such a step at which the kernel lets go."""
    height_precision: Float[Tensor, "batch point"]
    """Of a held sole's height, 1 / m²."""
    sink_precision: Float[Tensor, " point"]
    """Of a sole's depth below the ground, 1 / m²."""
    robust_height: Float[Tensor, ""]
    """Metres above the ground at which a held sole is let go of."""
    plane: Float[Tensor, " 4"]
    clearance: Float[Tensor, " point"]


def bind_contacts(
    contacts: Contacts,
    body: BodyModel,
    model: SkeletonModel,
    times: Float[Tensor, " batch"],
    config: SolverConfig,
) -> BoundContacts:
    """Contacts ready to be linearised.

    Args:
        contacts: what touches when.
        body: the body model.
        model: its joints in the solver's dtype.
        times: seconds of each frame, increasing.
        config: settings.

    Returns:
        Bound contacts; without a ground its precisions are zero.
    """
    dtype = model.joint_template.dtype
    held = contacts.held.to(dtype)
    together = torch.nn.functional.pad(torch.minimum(held[:-1], held[1:]), (0, 0, 0, 1))
    step = torch.nn.functional.pad(times.diff(), (0, 1), value=1.0).to(held)
    sigma = config.contact_speed_sigma * step
    soles = contacts.is_sole.to(dtype)
    plane = contacts.ground
    known = float(plane is not None)
    level = torch.eye(4, dtype=held.dtype, device=held.device)[2]
    plane = level if plane is None else plane.to(held)
    weight = config.contact_weight
    return BoundContacts(
        points=bind_points(body, model, contacts.vertex_indices),
        pair_precision=weight * together / sigma.square()[:, None],
        robust_scale=config.contact_robust_speed * step,
        height_precision=known * weight * held * soles / config.ground_sigma_m**2,
        sink_precision=known * weight * soles / config.ground_sigma_m**2,
        robust_height=held.new_full((), config.ground_robust_factor * config.ground_sigma_m),
        plane=plane,
        clearance=contacts.clearance.to(dtype),
    )


def contact_band(bound: BoundContacts, skeleton: Skeleton) -> Band:
    """Normal equations of all contacts.

    Args:
        bound: from `bind_contacts`.
        skeleton: the posed joints of all frames.

    Returns:
        Blocks, half the gradient, and cost; nothing reaches the second next frame.
    """
    points = pose_points(bound.points, skeleton)
    positions = points.positions
    identity = torch.eye(3, device=positions.device, dtype=positions.dtype)
    covectors = identity[None, :, :, None].expand(len(positions), 3, 3, positions.shape[2])
    jacobian = pull_back(points, covectors)
    step = torch.nn.functional.pad(positions.diff(dim=0), (0, 0, 0, 0, 0, 1))
    scale = bound.robust_scale[:, None].expand_as(bound.pair_precision)
    cost, pull = geman_mcclure(step.square().sum(1), scale)
    cost = (bound.pair_precision * cost).sum(-1)
    pull = (bound.pair_precision * pull)[:, None].expand_as(step)
    # A frame meets the step that leaves it and the one that led to it.
    arriving = torch.nn.functional.pad(pull[:-1], (0, 0, 0, 0, 1, 0))
    forces = torch.nn.functional.pad((pull * step)[:-1], (0, 0, 0, 0, 1, 0)) - pull * step
    rows = jacobian.flatten(2)
    later = torch.nn.functional.pad(rows[1:], (0, 0, 0, 0, 0, 1))
    ground_rows, ground_residual, ground_cost = _ground_rows(bound, positions, jacobian)
    diagonal = (rows * (pull + arriving).flatten(1)[:, None]) @ rows.transpose(1, 2)
    gradient = (rows @ forces.flatten(1)[..., None])[..., 0]
    next_frame = -(rows * pull.flatten(1)[:, None]) @ later.transpose(1, 2)
    return Band(
        diagonal=diagonal + ground_rows @ ground_rows.transpose(1, 2),
        next_frame=next_frame,
        second_frame=torch.zeros_like(next_frame),
        gradient=gradient + (ground_rows @ ground_residual[..., None])[..., 0],
        cost=cost + ground_cost,
    )


def _ground_rows(
    bound: BoundContacts,
    positions: Float[Tensor, "batch 3 point"],
    jacobian: Float[Tensor, "batch parameter 3 point"],
) -> tuple[
    Float[Tensor, "batch parameter point"], Float[Tensor, "batch point"], Float[Tensor, " batch"]
]:
    """Height of held soles and depth of those below the ground, in σ, and their cost.

    A held sole far above the ground is let go of; one below it never is.
    """
    normal, offset = bound.plane[:3], bound.plane[3]
    height = torch.einsum("bcp,c->bp", positions, normal) + offset - bound.clearance
    is_below = height < 0
    above, pull = geman_mcclure(height.square(), bound.robust_height.expand_as(height))
    precision = torch.where(
        is_below,
        torch.maximum(bound.height_precision, bound.sink_precision),
        bound.height_precision * pull,
    )
    squared = torch.where(is_below, height.square() * precision, above * bound.height_precision)
    root = precision.sqrt()
    by_height = torch.einsum("bqcp,c->bqp", jacobian, normal)
    return by_height * root[:, None], height * root, squared.sum(-1)
