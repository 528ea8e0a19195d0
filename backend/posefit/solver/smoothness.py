# SPDX-License-Identifier: Apache-2.0
"""Acceleration penalty between neighbouring frames, as blocks of a pentadiagonal system.

What is kept smooth are points in the world: every joint, and three points a joint on its own axes,
so that turns about a bone count as well. Their accelerations are second divided differences of
three neighbouring frames, so uneven frame times need no special case, and the normal equations gain
blocks between a frame and the next two only.

How much acceleration is usual depends on the moment: a swinging hand has ten times a standing
foot's. So each point's σ grows with the acceleration that it shows over a tenth of a second, where
jitter hardly counts: fast motion keeps its amplitude, slow motion loses its jitter.
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

__all__ = [
    "Band",
    "local_acceleration",
    "motion_points",
    "second_differences",
    "smoothness_band",
]


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

    def padded(self, count: int) -> Band:
        """The same with `count` more parameters a frame that the penalty does not know."""
        if not count:
            return self

        def pad(blocks: Tensor) -> Tensor:
            return torch.nn.functional.pad(blocks, (0, count, 0, count))

        return Band(
            pad(self.diagonal),
            pad(self.next_frame),
            pad(self.second_frame),
            torch.nn.functional.pad(self.gradient, (0, count)),
            self.cost,
        )

    def plus(self, other: Band) -> Band:
        """The sum of two penalties."""
        return Band(
            self.diagonal + other.diagonal,
            self.next_frame + other.next_frame,
            self.second_frame + other.second_frame,
            self.gradient + other.gradient,
            self.cost + other.cost,
        )


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


def local_acceleration(
    positions: Float[Tensor, "frame row"], times: Float[Tensor, " frame"], span_s: float
) -> Float[Tensor, "frame point"]:
    """Acceleration of each point over a span of time, root mean square of the frames around.

    A second difference over ± span has (span · rate)² times less of a frame's jitter than one over
    neighbouring frames, and still sees a swing of two a second at four fifths of its size.

    Args:
        positions: rows x, y, z of all points, metres, as `motion_points` orders them.
        times: seconds, increasing.
        span_s: seconds to either side.

    Returns:
        m/s², at the ends those of the nearest frame that has neighbours on both sides.
    """
    count = len(times)
    if count < 3:
        return positions.new_zeros(count, positions.shape[1] // 3)
    first, last = torch.searchsorted(times, _reach(times, -span_s), right=True) - 1, count - 1
    after = torch.searchsorted(times, _reach(times, span_s)).clamp(0, last)
    before = first.clamp(0, last)
    own = torch.arange(count, device=times.device)
    # Frames with less than the span on one side take the nearest frame that has both.
    inner = own.clamp(after[0], torch.maximum(before[-1], after[0])).clamp(1, last - 1)
    before = torch.minimum(before[inner], inner - 1)
    after = torch.maximum(after[inner], inner + 1)
    here = positions[inner]
    back = (times[inner] - times[before]).to(positions)[:, None]
    ahead = (times[after] - times[inner]).to(positions)[:, None]
    velocity = (positions[after] - here) / ahead - (here - positions[before]) / back
    squared = (2.0 * velocity / (back + ahead)).unflatten(1, (3, -1)).square().sum(1)
    return _mean_around(squared, times, span_s).sqrt()


def _reach(times: Float[Tensor, " frame"], seconds: float) -> Float[Tensor, " frame"]:
    """Times moved by a little less, so that rounding takes in frames that lie exactly there."""
    return times + seconds * (1.0 - 1e-6)


def _mean_around(
    values: Float[Tensor, "frame point"], times: Float[Tensor, " frame"], span_s: float
) -> Float[Tensor, "frame point"]:
    """Mean of each frame's neighbours up to `span_s` away, by differences of running sums."""
    low = torch.searchsorted(times, times - span_s * (1.0 + 1e-6))
    high = torch.searchsorted(times, times + span_s * (1.0 + 1e-6), right=True)
    sums = torch.nn.functional.pad(values.double().cumsum(0), (0, 0, 1, 0))
    return ((sums[high] - sums[low]) / (high - low)[:, None]).clamp_min(0.0).to(values)


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
    sigma: Float[Tensor, "frame point"],
    robust_factor: float,
) -> Band:
    """Robust acceleration penalty of all points, with its Gauss–Newton blocks.

    Args:
        positions: from `motion_points`.
        jacobian: from `motion_points`.
        coefficients: from `second_differences`.
        weight: of one squared acceleration in σ.
        sigma: how much acceleration is usual, m/s².
        robust_factor: Geman–McClure scale in σ; the kernel sees a point's three axes together.

    Returns:
        Blocks, half the gradient, and cost.
    """
    padded = torch.nn.functional.pad(positions.T, (1, 1), mode="replicate").T
    neighbours = torch.stack([padded[:-2], padded[1:-1], padded[2:]], -1)
    acceleration = (neighbours * coefficients[:, None]).sum(-1)
    precision = sigma.square().reciprocal()
    squared = acceleration.unflatten(1, (3, -1)).square().sum(1) * precision
    cost, pull = geman_mcclure(squared, torch.full_like(squared, robust_factor))
    weight = weight / _POINTS_A_JOINT
    pull = (weight * pull * precision).repeat(1, 3)
    # c[t, i]: coefficient of frame t in the acceleration centred at t − 1, t, t + 1.
    own = _of_frame(coefficients)
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
