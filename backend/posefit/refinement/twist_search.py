# SPDX-License-Identifier: Apache-2.0
"""Segments turned about their own bones, found by search where a network hardly sees them.

A limb that turns about its bone keeps its outline, and small steps cannot find it. So every turn is
tried: other frames' unrolled skin says which ones put the same pattern on the same place, anatomy
says which ones bend knees and elbows as they bend. All frames' turns are found together, for each
frame is judged by others that may be turned as well. What is decided is turned, and everything that
hangs on it stays in place; what isn't stays as it came.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..body import (
    BodyModel,
    PoseParameters,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    pose_body,
)
from ..gpu.graphs import replayed
from ..gpu.upload import upload
from .method import TwistSearch
from .others import Occluders
from .pictures import Picture
from .segment_strips import ANGLES, SEGMENTS, Strips, observe_strips, segment_grid
from .twist_evidence import (
    LIMBS,
    NECK,
    LimbTables,
    limb_tables,
    pattern_evidence,
    segment_axes,
)

__all__ = ["Twists", "find_twists", "free_segments", "turned_by"]

_STEP = 2 * math.pi / ANGLES
_STEPS = 12
"""Hypotheses either way: up to 60°."""
_NEAR = 2
"""Hypotheses either way that count as one answer."""
_RIGHT_SIGMA, _WRONG_SIGMA = math.radians(6.0), math.radians(35.0)
_RIGHT_SHARE = 0.7
"""What is expected of inputs: most segments are turned by little, some by anything."""
_MOST_SOURCES = 16
"""Frames that others are compared with."""
_ROUNDS, _RISING = 25, 10
"""Rounds of telling each other, and those in which the pictures' part rises to its own."""


@dataclass(frozen=True)
class Twists:
    """How far segments should turn."""

    angles: Float[Tensor, "frame segment"]
    """Radians about each segment's own axis; 0 where nothing is decided."""
    sigma: Float[Tensor, "frame segment"]
    """σ of the answer, decided or not, radians."""
    is_decided: Bool[Tensor, "frame segment"]
    """Where another angle than the input's is so much likelier that it is taken."""

    def joint_sigma(self, joints: int) -> Float[Tensor, "frame joint"]:
        """σ of the decided joints' turns, radians; infinite for all others.

        Args:
            joints: of the body.
        """
        result = self.sigma.new_full((len(self.sigma), joints), torch.inf)
        for column, (joint, _) in enumerate(SEGMENTS):
            decided = self.is_decided[:, column]
            result[:, joint] = torch.where(decided, self.sigma[:, column], torch.inf)
        return result


def find_twists(
    body: BodyModel,
    parameters: PoseParameters,
    views: Sequence[Sequence[Picture | None]],
    seconds: Float[Tensor, " frame"],
    search: TwistSearch,
    *,
    exclusion_seconds: float = 0.25,
    free: Bool[Tensor, "frame segment"] | None = None,
    others: Occluders | None = None,
    backend: str = "warp",
) -> Twists:
    """How far the segments of some frames of one person should turn about their bones.

    Args:
        body: the model.
        parameters: estimates, one row a frame; on the body's device.
        views: for each view the pictures of the frames.
        seconds: times of the frames.
        search: what counts how much, and when a turn is decided.
        exclusion_seconds: frames nearer than this share their errors and say nothing of them.
        free: segments that may turn; all by default.
        others: who else is there; what they hide says nothing.
        backend: of the rasterizer.

    Returns:
        Angles for `turned_by`.
    """
    steps = torch.arange(-_STEPS, _STEPS + 1, device=body.device)
    turns = steps.to(body.dtype) * _STEP
    tables = replayed(limb_tables, body, parameters, turns)
    chosen = _spread(len(seconds))
    sources = upload(chosen, body.device)
    told = None
    if search.picture_weight > 0 and len(seconds) > 1 and views:
        vertices, grid = pose_body(body, parameters).vertices, segment_grid(body)
        strips = [
            observe_strips(grid, body, vertices, one, others=others, backend=backend)
            for one in views
        ]
        times = seconds.cpu().numpy()
        apart = upload(np.abs(times[chosen, None] - times) >= exclusion_seconds, body.device)
        told = replayed(_told_by_pictures, strips, sources, apart, steps, search)
    free = None if free is None else upload(free.cpu().numpy(), body.device)
    return replayed(_search, tables, told, sources, turns, search, free)


def _told_by_pictures(
    strips: Sequence[Strips],
    sources: Int[Tensor, " source"],
    apart: Bool[Tensor, "source frame"],
    steps: Int[Tensor, " angle"],
    search: TwistSearch,
) -> Float[Tensor, "source frame segment angle angle"]:
    """What pairs of frames say of both their turns."""
    evidence = torch.stack([pattern_evidence(one, sources) for one in strips]).sum(0)
    told = _doubted(evidence, search) * apart[..., None, None].to(evidence)
    return told[..., (steps[None] - steps[:, None]) % ANGLES]


def _search(
    tables: LimbTables,
    told: Float[Tensor, "source frame segment angle angle"] | None,
    sources: Int[Tensor, " source"],
    turns: Float[Tensor, " angle"],
    search: TwistSearch,
    free: Bool[Tensor, "frame segment"] | None,
) -> Twists:
    told = None if told is None else told.to(turns)
    beliefs = _beliefs(tables, told, sources, _expected(turns), search)
    return _decided(beliefs, turns, search, free)


def _spread(frames: int) -> npt.NDArray[np.int64]:
    """Evenly spread frames, each once."""
    places = np.linspace(0, frames - 1, min(frames, _MOST_SOURCES)).round()
    return np.unique(places).astype(np.int64)


def free_segments(
    frames: int,
    locked: Bool[Tensor, " joint"] | Bool[Tensor, "frame joint"] | None,
    pinned: Bool[Tensor, " frame"] | None,
) -> Bool[Tensor, "frame segment"]:
    """Segments whose joints may both turn.

    Args:
        frames: how many.
        locked: joints that keep their rotation.
        pinned: frames that never change.
    """
    free = torch.ones(frames, len(SEGMENTS), dtype=torch.bool)
    if locked is not None:
        held = torch.as_tensor(locked).cpu().expand(frames, -1)
        free &= torch.stack([~(held[:, a] | held[:, b]) for a, b in SEGMENTS], 1)
    if pinned is not None:
        free &= ~pinned.cpu()[:, None]
    return free


def turned_by(
    body: BodyModel, parameters: PoseParameters, angles: Float[Tensor, "frame segment"]
) -> PoseParameters:
    """Bodies with segments turned about their own axes, and all that hangs on them in place.

    Args:
        body: gives the axes.
        parameters: one row a frame.
        angles: radians.
    """
    return replayed(_turned_by, body, parameters, angles)


def _turned_by(body: BodyModel, parameters: PoseParameters, angles: Tensor) -> PoseParameters:
    local = list(axis_angle_to_matrix(parameters.body_pose).unbind(1))  # joints 1 …
    twists = axis_angle_to_matrix(segment_axes(body) * angles[..., None])
    for column, (joint, _) in enumerate(SEGMENTS):
        twist = twists[:, column]
        local[joint - 1] = local[joint - 1] @ twist
        for child in range(1, body.num_joints):
            if body.parents[child] == joint:
                local[child - 1] = twist.mT @ local[child - 1]
    touched = angles.abs().amax(1) > 0
    body_pose = matrix_to_axis_angle(torch.stack(local, 1))
    body_pose = torch.where(touched[:, None, None], body_pose, parameters.body_pose)
    return dataclasses.replace(parameters, body_pose=body_pose)


def _expected(turns: Float[Tensor, " angle"]) -> Float[Tensor, " angle"]:
    """Log probability of how far inputs have to turn."""
    right = _RIGHT_SHARE / _RIGHT_SIGMA * torch.exp(-0.5 * (turns / _RIGHT_SIGMA).square())
    wrong = (1 - _RIGHT_SHARE) / _WRONG_SIGMA * torch.exp(-0.5 * (turns / _WRONG_SIGMA).square())
    return ((right + wrong) / (right + wrong).sum()).log()


def _doubted(evidence: Tensor, search: TwistSearch) -> Tensor:
    """Evidence of pairs of frames, any of which may be of something else altogether."""
    likely = (search.picture_weight * evidence).log_softmax(-1) + math.log(ANGLES)
    doubt = torch.full_like(likely, math.log(search.picture_doubt))
    return torch.logaddexp(doubt, likely + math.log1p(-search.picture_doubt))


def _beliefs(
    tables: LimbTables,
    evidence: Float[Tensor, "source frame segment angle angle"] | None,
    sources: Int[Tensor, " source"],
    expected: Float[Tensor, " angle"],
    search: TwistSearch,
) -> Float[Tensor, "frame segment angle"]:
    """Log probabilities, by rounds in which frames tell each other what they hold for likely.

    Args:
        tables: what anatomy says.
        evidence: of pairs, by the source's turn and the frame's; None: no pictures.
        sources: frames that tell others.
        expected: log probability of how far inputs have to turn.
        search: what counts how much.

    Source:
        Mean-field approximation; messages are bounded, for the pairs' evidence isn't independent.
    """
    alone = expected.expand(len(tables.neck), len(SEGMENTS), -1)
    fresh = belief = _with_anatomy(tables, alone, search.anatomy_weight)
    for k in range(0 if evidence is None else _ROUNDS):
        message = torch.einsum("ijsab,isa->jsb", evidence, belief[sources].exp())
        message = (message - message.mean(-1, keepdim=True)) * min(1.0, (k + 1) / _RISING)
        bounded = search.most_of_pictures * torch.tanh(message / search.most_of_pictures)
        fresh = _with_anatomy(tables, alone + bounded, search.anatomy_weight)
        belief = (0.5 * (belief + fresh)).log_softmax(-1)
    return fresh


def _with_anatomy(
    tables: LimbTables, told: Float[Tensor, "frame segment angle"], weight: float
) -> Float[Tensor, "frame segment angle"]:
    """Log probability of each segment's turn, whatever its limb's other segment does."""
    result = list(told.unbind(1))
    for column, (upper, lower) in enumerate(LIMBS):
        joint = weight * tables.limbs[:, column] + told[:, upper, :, None] + told[:, lower, None]
        result[upper], result[lower] = joint.logsumexp(2), joint.logsumexp(1)
    result[NECK] = weight * tables.neck + told[:, NECK]
    return torch.stack(result, 1).log_softmax(-1)


def _decided(
    beliefs: Float[Tensor, "frame segment angle"],
    turns: Float[Tensor, " angle"],
    search: TwistSearch,
    free: Bool[Tensor, "frame segment"] | None,
) -> Twists:
    """The likeliest turns, where they are likely enough and much likelier than none."""
    probability, best = beliefs.exp(), beliefs.argmax(-1)
    place = torch.arange(len(turns), device=best.device)
    near = probability * ((place - best[..., None]).abs() <= _NEAR)
    mass = near.sum(-1)
    angle = (near * turns).sum(-1) / mass
    variance = (probability * (turns - angle[..., None]).square()).sum(-1)
    middle = len(turns) // 2
    unturned = probability[..., middle - _NEAR : middle + _NEAR + 1].sum(-1)
    odds = mass.log() - unturned.clamp_min(1e-12).log()
    is_decided = (mass > search.least_share) & (odds > search.least_odds)
    is_decided &= (best - middle).abs() > 1
    if free is not None:
        is_decided &= free
    return Twists(torch.where(is_decided, angle, 0.0), variance.sqrt(), is_decided)
