# SPDX-License-Identifier: Apache-2.0
"""Frames of a clip that are solved together, and the clip that such parts make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from posefit_shared.sequence import Sequence as PoseSequence

from ..body import BodyModel, PoseParameters
from ..gpu.upload import upload
from ..parameters import sequence_with_parameters
from .observation import Look, LookFigures
from .shared_errors import Expectation
from .twist_search import turned_by
from .windows import join_windows

__all__ = ["Part", "gather", "joined", "mean_of_views", "turned_input"]


@dataclass(frozen=True)
class Part:
    """Some frames of the clip, solved together."""

    rows: Int[Tensor, " part"]
    """Frames of the sequence."""
    parameters: PoseParameters
    """Where they are now."""
    reference: PoseParameters
    """Where they came from."""
    expectation: Expectation
    """Where they are expected: the reference, or what other frames' corrections make of it."""
    input_scale: float = 1.0
    """Scale of the priors' σ: how far the input may be off."""
    before: LookFigures | None = None
    """What the first look said of the input, over all views."""
    after: LookFigures | None = None
    """What a look of its own says of the result."""
    withheld_m: Float[Tensor, "part 2"] | None = None
    """How far input and result are from what the last round saw and was not told to the solver."""
    joint_sigma: Float[Tensor, "part joint"] | None = None
    turns: Float[Tensor, "part segment"] | None = None
    """By how much its segments were turned about their bones (`twist_search`), radians."""
    camera: Float[Tensor, "part 2"] | None = None
    """Focal length and lens beside the given ones (`camera_refinement`); None: as given."""

    @classmethod
    def begin(
        cls,
        rows: Int[Tensor, " part"],
        start: PoseParameters,
        reference: PoseParameters,
        camera: Float[Tensor, "part 2"] | None = None,
    ) -> Part:
        """Frames before anything is known of them."""
        joints = 1 + start.body_pose.shape[1]
        stiffness = start.transl.new_ones(len(rows), joints)
        return cls(rows, start, reference, Expectation(reference, stiffness), camera=camera)

    def turned(self, body: BodyModel, turns: Float[Tensor, "part segment"]) -> Part:
        """The part from another start: where it is, came from and is expected, all turned alike.

        Args:
            body: gives the segments' axes.
            turns: radians.
        """

        if not bool(turns.any()):
            return self

        def turn(one: PoseParameters) -> PoseParameters:
            return turned_by(body, one, turns)

        return replace(
            self,
            parameters=turn(self.parameters),
            reference=turn(self.reference),
            expectation=replace(self.expectation, reference=turn(self.expectation.reference)),
            turns=turns if self.turns is None else self.turns + turns,
        )


def turned_input(
    sequence: PoseSequence,
    start: PoseParameters,
    parts: Sequence[Part],
    body: BodyModel,
) -> tuple[PoseSequence, PoseParameters]:
    """The input with the turns that its parts were given: what frames go back to.

    A turn was decided by evidence of its own, so a frame keeps it whatever is said of the rest.

    Args:
        sequence: the input.
        start: its parameters.
        parts: what became of it.
        body: of both.

    Returns:
        The sequence and its parameters; frames without a turn are the input's, bit by bit.
    """
    turns = gather(parts, lambda part: part.turns, len(start))
    if turns is None or not bool(turns.any()):
        return sequence, start
    turned = turned_by(body, start, turns)
    poses = torch.cat([turned.global_orient[:, None], turned.body_pose], 1).cpu().numpy()
    touched = turns.any(1).cpu().numpy()[:, None, None]
    return sequence.replace(poses=np.where(touched, poses, sequence.poses)), turned


def joined(sequence: PoseSequence, windows, parts, start, body: BodyModel) -> PoseSequence:
    """The solved windows as one sequence, the input where nothing is solved yet."""

    def arrays(part: Part) -> tuple[np.ndarray, np.ndarray]:
        p = part.parameters
        poses = torch.cat([p.global_orient[:, None], p.body_pose], 1)
        return poses.cpu().numpy(), p.transl.cpu().numpy()

    poses, trans = join_windows(windows, [arrays(part) for part in parts])
    done = len(poses)
    shaped = sequence_with_parameters(sequence, start, body)
    return shaped.replace(
        poses=np.concatenate([poses, sequence.poses[done:]]),
        trans=np.concatenate([trans, sequence.trans[done:]]),
    )


def mean_of_views(looks: Sequence[Look]) -> LookFigures:
    """Each frame's figures, over the views that saw it."""
    if len(looks) == 1:
        return looks[0].figures
    views = [vars(look.figures) for look in looks]
    return LookFigures(**{n: torch.stack([v[n] for v in views]).nanmean(0) for n in views[0]})


def gather(
    parts: Sequence[Part], take: Callable[[Part], Tensor | None], frames: int
) -> Tensor | None:
    """One row for each frame of the clip; later windows win where they overlap.

    Args:
        parts: the windows.
        take: a part's rows; None where a part has none, and then the clip has none.
        frames: of the clip.
    """
    values = [value for part in parts if (value := take(part)) is not None]
    if len(values) < len(parts):
        return None
    first = values[0]
    if len(values) == 1 and len(first) == frames:
        return first
    gathered = first.new_zeros(frames, *first.shape[1:])
    for part, value in zip(parts, values, strict=True):
        gathered[upload(part.rows.numpy(), first.device)] = value
    return gathered
