# SPDX-License-Identifier: Apache-2.0
"""Everything one solve minimises, put together once: evidence, priors, what may change.

Frames are bound in chunks of bounded memory; `normal_equations` linearises them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..body import BodyModel, PoseParameters
from ..gpu.upload import upload
from .bound_priors import ChunkTerm, bind_priors
from .config import SolverConfig, Strengths
from .contacts import BoundContacts, Contacts, bind_contacts
from .evidence import Evidence
from .skeleton import SkeletonModel, State, pose_skeleton, state_from_parameters
from .smoothness import local_acceleration, motion_points, second_differences

__all__ = ["Freedom", "Problem", "build_problem", "freedom_of", "posed_problem"]


@dataclass(frozen=True)
class Freedom:
    """What may change, and when each frame was."""

    locked: Bool[Tensor, "batch joint"]
    """Joints that keep their rotation."""
    pinned: Bool[Tensor, " batch"]
    """Frames that keep everything, and hold their neighbours through smoothness."""
    stiffness: Float[Tensor, "batch joint"]
    """Multiplies the precision of the pull to the reference."""
    times: Float[Tensor, " batch"]
    """Seconds, increasing."""
    has_pins: bool
    """Some frame is pinned."""


@dataclass(frozen=True)
class Problem:
    """A solve's fixed part: what is minimised, over which parameters."""

    model: SkeletonModel
    config: SolverConfig
    chunks: tuple[tuple[slice, tuple[ChunkTerm, ...]], ...]
    """Terms of each chunk of frames; at least one chunk, terms may be none."""
    free: Float[Tensor, "batch parameter"]
    """1 for per-frame parameters that may change."""
    shape_is_shared: bool
    """One betas for all frames, outside the frames' blocks."""
    shape_is_free: bool
    """Betas are solved for, shared or per frame."""
    shape_reference: Float[Tensor, "batch beta"]
    """What betas are expected to be."""
    shape_sigma: Float[Tensor, ""]
    """How far they may be off."""
    differences: Float[Tensor, "batch 3"] | None
    """Acceleration coefficients; None without smoothness."""
    acceleration_sigma: Float[Tensor, "batch point"] | None
    """How much acceleration each point may have, m/s²; None without smoothness."""
    contacts: BoundContacts | None
    """Points that hold still between frames."""
    has_evidence: Bool[Tensor, " batch"]
    """Frames that something was observed in."""
    dropped: Int[Tensor, ""]
    """Targets that were not finite."""

    @property
    def is_coupled(self) -> bool:
        """Frames share betas, camera, smoothness or contacts: steps are accepted for all."""
        is_banded = self.differences is not None or self.contacts is not None
        return is_banded or bool(self.shared_betas or self.shared_camera)

    @property
    def shared_betas(self) -> int:
        """How many shape coefficients are solved for all frames together."""
        is_shared = self.shape_is_shared and self.shape_is_free
        return self.shape_reference.shape[1] if is_shared else 0

    @property
    def shared_camera(self) -> int:
        """How many of the camera's unknowns are solved for all frames together."""
        return len(self.config.camera_unknowns) if self.config.camera_is_shared else 0


def posed_problem(
    body: BodyModel,
    start: PoseParameters,
    evidence: Sequence[Evidence],
    config: SolverConfig,
    strengths: Strengths,
    reference: PoseParameters | None,
    freedom: Freedom,
    contacts: Contacts | None,
    camera: Float[Tensor, "batch 2"] | None,
) -> tuple[Problem, State]:
    """What is minimised, and the first state."""
    first = state_from_parameters(start)
    if config.shape == "sequence" and not freedom.has_pins:
        mean = first.betas.mean(0, keepdim=True).expand_as(first.betas)
        first = replace(first, betas=mean)
    if config.camera_unknowns or camera is not None:
        known = first.transl.new_zeros(len(first.transl), 2) if camera is None else camera
        known = known.mean(0, keepdim=True).expand_as(known) if config.camera_is_shared else known
        first = replace(first, camera=known.to(first.transl))
    anchor = None if reference is None else state_from_parameters(reference)
    problem = build_problem(
        body, first, evidence, config, strengths,
        reference=anchor, freedom=freedom, contacts=contacts,
    )  # fmt: skip
    return problem, first


def freedom_of(start: PoseParameters, locked, stiffness, pinned, times) -> Freedom:
    """What may change, of what `solve` was given.

    Raises:
        ValueError: shapes or times that do not fit together.
    """
    batch, joints = len(start), 1 + start.body_pose.shape[1]
    like = start.transl

    def per_joint(values: Tensor | None, default: Tensor, name: str) -> Tensor:
        values = default if values is None else values.to(like.device)
        if values.shape not in {(joints,), (batch, joints)}:
            raise ValueError(
                f"{name} is {tuple(values.shape)}, expected ({joints},) or ({batch}, {joints})"
            )
        return values.expand(batch, joints)

    none = torch.zeros(joints, dtype=torch.bool, device=like.device)
    times = torch.arange(batch, dtype=torch.float64) / 30.0 if times is None else times.double()
    if times.shape != (batch,) or not bool((times.diff() > 0).all()):
        raise ValueError(f"times are {tuple(times.shape)}, expected {batch} increasing seconds")
    return Freedom(
        locked=per_joint(locked, none, "locked").bool(),
        pinned=none.new_zeros(batch) if pinned is None else pinned.to(like.device).bool(),
        stiffness=per_joint(stiffness, like.new_ones(joints), "stiffness").to(like.dtype),
        times=upload(times.cpu().numpy(), like.device),
        has_pins=pinned is not None and bool(pinned.any()),
    )


def build_problem(
    body: BodyModel,
    start: State,
    evidence: Sequence[Evidence],
    config: SolverConfig,
    strengths: Strengths,
    *,
    reference: State | None,
    freedom: Freedom,
    contacts: Contacts | None = None,
) -> Problem:
    """Binds evidence and priors to the body and the frames.

    Args:
        body: the body model.
        start: the first state; decides dtype and batch.
        evidence: what was observed, one entry a kind and view.
        config: settings.
        strengths: in place of what of `config` follows from the input.
        reference: the original input to stay near; None for estimates from scratch.
        freedom: what may change.
        contacts: points that hold still, or None.

    Returns:
        The problem.
    """
    if config.focal == "frame" and config.shape != "fixed":
        raise ValueError("a focal length of each frame needs a shape that is fixed")
    batch, joints = start.rotations.shape[:2]
    model = SkeletonModel.from_body(body, start.betas.shape[1], start.transl.dtype)
    prior_terms = bind_priors(
        body,
        model,
        start,
        evidence,
        config,
        strengths,
        reference=reference,
        stiffness=freedom.stiffness,
    )
    chunks, usable = [], []
    dropped = torch.zeros((), dtype=torch.int64, device=start.transl.device)
    chunk = config.chunk_frames or (512 if start.transl.is_cuda else 64)
    for first in range(0, batch, chunk):
        frames = slice(first, min(first + chunk, batch))
        bound = [entry.bind(body, model, frames, config) for entry in evidence]
        terms = [entry.term for entry in bound] + [bind(frames) for bind in prior_terms]
        chunks.append((frames, tuple(terms)))
        zero = start.transl.new_zeros(frames.stop - first)
        usable.append(sum((entry.usable for entry in bound), zero))
        dropped = sum((entry.dropped for entry in bound), dropped)
    has_evidence = torch.cat(usable) > 0
    is_smooth = config.smoothness > 0 and batch > 2
    # Shape belongs to the person, so a frame that must not change holds a shared shape.
    is_shared = config.shape == "sequence"
    shape_is_free = config.shape != "fixed" and not (is_shared and freedom.has_pins)
    is_carried = is_smooth or contacts is not None
    frozen = freedom.pinned if is_carried else freedom.pinned | ~has_evidence
    shape_reference, shape_sigma = _shape_prior(start, config, strengths, reference)
    free = _free_parameters(freedom.locked, frozen, config, start, not is_shared and shape_is_free)
    return Problem(
        model=model,
        config=config,
        chunks=tuple(chunks),
        free=free,
        shape_is_shared=is_shared,
        shape_is_free=shape_is_free,
        shape_reference=shape_reference,
        shape_sigma=shape_sigma,
        differences=second_differences(freedom.times).to(start.transl) if is_smooth else None,
        acceleration_sigma=_usual_acceleration(model, start, config, freedom.times)
        if is_smooth
        else None,
        contacts=None
        if contacts is None or batch < 2
        else bind_contacts(contacts, body, model, freedom.times, config),
        has_evidence=has_evidence,
        dropped=dropped,
    )


def _shape_prior(
    start: State, config: SolverConfig, strengths: Strengths, reference: State | None
) -> tuple[Float[Tensor, "batch beta"], Float[Tensor, ""]]:
    """Mean and σ of betas: people as the body model knows them, and the reference, if there is one,
    as two observations of the same shape."""
    people = start.transl.new_full((), config.shape_sigma)
    if reference is None:
        return torch.zeros_like(start.betas), people
    about_reference = strengths.shape_reference_sigma
    share = people.square() / (people.square() + about_reference.square())
    return share * reference.betas, about_reference * share.sqrt()


def _usual_acceleration(
    model: SkeletonModel, start: State, config: SolverConfig, times: Float[Tensor, " batch"]
) -> Float[Tensor, "batch point"]:
    """σ of the acceleration penalty of each point, m/s²."""
    positions, _ = motion_points(
        pose_skeleton(model, start, with_shape=False), config.bone_axis_length_m
    )
    shown = local_acceleration(positions, times.to(positions.device), config.acceleration_span_s)
    share = config.acceleration_share
    return (config.acceleration_sigma**2 + (share * shown).square()).sqrt()


def _free_parameters(
    locked: Bool[Tensor, "batch joint"],
    frozen: Bool[Tensor, " batch"],
    config: SolverConfig,
    start: State,
    with_shape: bool,
) -> Float[Tensor, "batch parameter"]:
    batch = len(locked)
    turns = (~locked).repeat_interleave(3, 1)
    others = 3 + (start.betas.shape[1] if with_shape else 0)
    rest = torch.ones(batch, others, dtype=torch.bool, device=locked.device)
    rest[:, :3].fill_(config.solve_translation)
    if config.camera_unknowns and not config.camera_is_shared:
        rest = torch.cat([rest, rest.new_ones(batch, len(config.camera_unknowns))], 1)
    return (torch.cat([turns, rest], 1) & ~frozen[:, None]).to(start.transl.dtype)
