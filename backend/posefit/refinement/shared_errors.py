# SPDX-License-Identifier: Apache-2.0
"""What the frames of a clip say about each other's errors.

An estimator that bends an elbow too far does so in many frames. Where a limb is hidden or hardly
seen, the corrections that other frames found are the best guess at its own: a Gaussian process
over time for each joint, in which an error has a constant, a drifting and an own part. Each frame
gets the prediction of the *others*, never of itself, so that nothing is counted twice. The
prediction takes the input's place as the reference of the next solve, with its own, smaller σ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..body import PoseParameters, axis_angle_to_matrix
from ..rotations import matrix_to_axis_angle
from .method import SharedErrors

__all__ = ["Expectation", "expect_from_others", "leave_one_out"]

_LEAST_PRECISION = 1e-3
"""Of what a frame says, by that of the prior: below it, it says nothing."""
_MOST_PRECISION = 100.0
_LARGEST_RAD = 1.5


@dataclass(frozen=True)
class Expectation:
    """Where each frame is expected, before its own picture is looked at."""

    reference: PoseParameters
    """Takes the input's place."""
    stiffness: Float[Tensor, "frame joint"]
    """How much surer than the input the expectation is: a ratio of precisions, about 1 or more."""


def expect_from_others(
    given: PoseParameters,
    solved: PoseParameters,
    solved_sigma: Float[Tensor, "frame joint"],
    before: Expectation,
    prior_sigma: Float[Tensor, " joint"],
    times: Float[Tensor, " frame"],
    shared: SharedErrors,
) -> Expectation:
    """What the corrections of all other frames let expect of each frame.

    Args:
        given: the input.
        solved: poses found near `before`.
        solved_sigma: posterior σ of their joints, radians; infinite where not solved.
        before: what the solve was told to expect.
        prior_sigma: σ of the input's joints, radians.
        times: seconds.
        shared: how errors go together.
    """
    start = _rotations(given)
    prior = prior_sigma.to(start).square()[None]
    told = prior / before.stiffness.to(start)
    found = solved_sigma.nan_to_num(1e6, 1e6, 1e6).clamp(1e-4, 1e6).square()
    own = (1 / found - 1 / told).clamp_min(0.0)
    own = torch.minimum(own, _MOST_PRECISION / prior)
    says_nothing = own < _LEAST_PRECISION / prior
    own = torch.where(says_nothing, _LEAST_PRECISION / prior, own)
    correction = matrix_to_axis_angle(start.mT @ _rotations(solved))
    expected = matrix_to_axis_angle(start.mT @ _rotations(before.reference))
    # The posterior lies between what was expected and what the frame's own picture says.
    pull = torch.where(says_nothing, 0.0, 1 / (told * own))[..., None]
    own_words = (correction + (correction - expected) * pull).clamp(-_LARGEST_RAD, _LARGEST_RAD)
    mean, variance = leave_one_out(own_words, own, prior[0], times, shared)
    rotations = matrix_to_axis_angle(start @ axis_angle_to_matrix(mean.to(start)))
    reference = replace(
        before.reference,
        global_orient=rotations[:, 0].contiguous(),
        body_pose=rotations[:, 1:].contiguous(),
    )
    return Expectation(reference, (prior / variance.to(start)).to(start))


def leave_one_out(
    values: Float[Tensor, "frame joint 3"],
    precision: Float[Tensor, "frame joint"],
    variance: Float[Tensor, " joint"],
    times: Float[Tensor, " frame"],
    shared: SharedErrors,
) -> tuple[Float[Tensor, "frame joint 3"], Float[Tensor, "frame joint"]]:
    """Mean and variance of each frame's error given what all other frames say of theirs.

    Args:
        values: errors as each frame alone has them.
        precision: of these values, > 0.
        variance: of an error before anything is known.
        times: seconds.
        shared: constant, drifting and own part of an error.

    Returns:
        Mean, and variance between 0 and `variance`.

    Source:
        Rasmussen and Williams, Gaussian processes for machine learning, 2006, equations 5.10 and
        5.11.
    """
    frames = len(values)
    seconds = times.to(values.device).double()
    apart = (seconds[:, None] - seconds[None]).abs()
    own = 1.0 - shared.constant - shared.drifting
    identity = torch.eye(frames, dtype=torch.float64, device=values.device)
    drift = shared.drifting * torch.exp(-apart / shared.drift_seconds)
    kernel = shared.constant + drift + own * identity
    noise = 1.0 / precision.double().T
    root, _ = torch.linalg.cholesky_ex(
        variance.double()[:, None, None] * kernel + torch.diag_embed(noise)
    )
    half = torch.linalg.solve_triangular(root, identity.expand_as(root), upper=False)
    inverse = half.mT @ half  # (joint, frame, frame)
    diagonal = inverse.diagonal(dim1=1, dim2=2)
    said = values.double().transpose(0, 1)
    mean = said - (inverse @ said) / diagonal[..., None]
    spread = (1.0 / diagonal - noise).T
    floor = 1e-6 * variance.double()
    spread = torch.minimum(torch.maximum(spread, floor), variance.double())
    return mean.transpose(0, 1).to(values), spread.to(values)


def _rotations(parameters: PoseParameters) -> Float[Tensor, "frame joint 3 3"]:
    turns = torch.cat([parameters.global_orient[:, None], parameters.body_pose], 1)
    return axis_angle_to_matrix(turns)
