# SPDX-License-Identifier: Apache-2.0
"""Acceleration penalty between neighbouring frames, as blocks of a pentadiagonal system.

What is kept smooth are points in the world: every joint, and three points a joint on its own axes,
so that turns about a bone count as well. Their accelerations are second divided differences of
three neighbouring frames, so uneven frame times need no special case, and the normal equations gain
blocks between a frame and the next two only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .kinematics import axis_points, join_points, joint_points, pull_back
from .skeleton import Skeleton
from .terms import geman_mcclure

_POINTS_A_JOINT = 4
"""Its position and its three axes share the weight of one joint."""

__all__ = ["Band", "motion_points", "second_differences", "smoothness_band"]


@dataclass(frozen=True)
class Band:
    """The penalty's normal equations: only what couples frames less than three apart."""

    diagonal: Float[Tensor, "frame parameter parameter"]
    next_frame: Float[Tensor, "frame parameter parameter"]
    """Block (t, t + 1); the last is zero."""
    second_frame: Float[Tensor, "frame parameter parameter"]
    """Block (t, t + 2); the last two are zero."""
    gradient: Float[Tensor, "frame parameter"]
    cost: Float[Tensor, " frame"]
    """Of the acceleration centred at each frame; 0 at both ends."""


def second_differences(times: Float[Tensor, " frame"]) -> Float[Tensor, "frame 3"]:
    """Coefficients of the frames before, at and after in the acceleration at each frame.

    Args:
        times: seconds, increasing.

    Returns:
        1 / s²; zero at both ends, where there is no second difference.
    """
    coefficients = times.new_zeros(len(times), 3)
    if len(times) < 3:
        return coefficients
    before, after = (times[1:-1] - times[:-2]), (times[2:] - times[1:-1])
    span = before + after
    coefficients[1:-1] = torch.stack(
        [2 / (before * span), -2 / (before * after), 2 / (after * span)], -1
    )
    return coefficients


def motion_points(
    skeleton: Skeleton, axis_length: float
) -> tuple[Float[Tensor, "frame row"], Float[Tensor, "frame parameter row"]]:
    """Coordinates that are kept smooth, and their derivative by all parameters.

    Args:
        skeleton: the posed joints of all frames.
        axis_length: metres from a joint to the points on its axes.

    Returns:
        Rows ordered x, y, z of all points; Jacobian.
    """
    points = join_points(joint_points(skeleton), axis_points(skeleton, axis_length))
    identity = torch.eye(3, device=points.positions.device, dtype=points.positions.dtype)
    covectors = identity[None, :, :, None].expand(*points.positions.shape[:1], 3, 3, 1)
    jacobian = pull_back(points, covectors.expand(-1, -1, -1, points.positions.shape[-1]))
    return points.positions.flatten(1), jacobian.flatten(2)


def smoothness_band(
    positions: Float[Tensor, "frame row"],
    jacobian: Float[Tensor, "frame parameter row"],
    coefficients: Float[Tensor, "frame 3"],
    weight: float,
    sigma: float,
    robust_factor: float,
) -> Band:
    """Robust acceleration penalty of all points, with its Gauss–Newton blocks.

    Args:
        positions: from `motion_points`.
        jacobian: from `motion_points`.
        coefficients: from `second_differences`.
        weight: of one squared acceleration in σ.
        sigma: m/s².
        robust_factor: Geman–McClure scale in σ; the kernel sees a point's three axes together.

    Returns:
        Blocks, half the gradient, and cost.
    """
    scaled = coefficients / sigma
    padded = torch.nn.functional.pad(positions.T, (1, 1), mode="replicate").T
    neighbours = torch.stack([padded[:-2], padded[1:-1], padded[2:]], -1)
    acceleration = (neighbours * scaled[:, None]).sum(-1)
    squared = acceleration.unflatten(1, (3, -1)).square().sum(1)
    cost, pull = geman_mcclure(squared, torch.full_like(squared, robust_factor))
    weight = weight / _POINTS_A_JOINT
    pull = (weight * pull).repeat(1, 3)
    # c[t, i]: coefficient of frame t in the acceleration centred at t − 1, t, t + 1.
    own = _of_frame(scaled)
    centred = _shifted(pull)
    pulled = _shifted(pull * acceleration)
    diagonal = (centred * own.square()[:, :, None]).sum(1)
    gradient_rows = (pulled * own[:, :, None]).sum(1)
    # Pairs (t, t+1) meet in the accelerations centred at t and t + 1; (t, t+2) in that at t + 1.
    ahead = torch.nn.functional.pad(own[1:], (0, 0, 0, 1))
    twice = torch.nn.functional.pad(own[2:], (0, 0, 0, 2))[: len(own)]
    near = (centred[:, 1:] * (own[:, 1:] * ahead[:, :2])[:, :, None]).sum(1)
    far = centred[:, 2] * (own[:, 2] * twice[:, 0])[:, None]
    return Band(
        diagonal=(jacobian * diagonal[:, None]) @ jacobian.transpose(1, 2),
        next_frame=(jacobian * near[:, None]) @ _later(jacobian, 1).transpose(1, 2),
        second_frame=(jacobian * far[:, None]) @ _later(jacobian, 2).transpose(1, 2),
        gradient=(jacobian @ gradient_rows[..., None])[..., 0],
        cost=weight * cost.sum(-1),
    )


def _of_frame(coefficients: Float[Tensor, "frame 3"]) -> Float[Tensor, "frame 3"]:
    """Frame t's coefficient in the accelerations centred at t − 1, t and t + 1."""
    before = torch.nn.functional.pad(coefficients[:-1, 2], (1, 0))
    after = torch.nn.functional.pad(coefficients[1:, 0], (0, 1))
    return torch.stack([before, coefficients[:, 1], after], -1)


def _shifted(rows: Float[Tensor, "frame row"]) -> Float[Tensor, "frame 3 row"]:
    """Rows of frames t − 1, t and t + 1, zero beyond the ends."""
    padded = torch.nn.functional.pad(rows, (0, 0, 1, 1))
    return torch.stack([padded[:-2], padded[1:-1], padded[2:]], 1)


def _later(jacobian: Float[Tensor, "frame parameter row"], by: int) -> Tensor:
    """The Jacobian of frame t + by in place of frame t's, zero beyond the end."""
    return torch.nn.functional.pad(jacobian[by:], (0, 0, 0, 0, 0, by))[: len(jacobian)]
