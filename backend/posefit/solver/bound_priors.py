# SPDX-License-Identifier: Apache-2.0
"""Which priors a solve has, tied to its reference, its settings and its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from ..body import BodyModel
from .config import SolverConfig, Strengths
from .evidence import Evidence
from .pose_prior import load_pose_prior
from .priors import (
    LocalRotations,
    joint_sigmas,
    limit_term,
    local_rotations,
    pelvis_term,
    pose_prior_term,
    reference_term,
)
from .self_contact import body_capsules, overlaps, self_penetration_term
from .skeleton import Skeleton, SkeletonModel, State, pose_skeleton
from .terms import Term, stack_terms

__all__ = ["ChunkTerm", "bind_priors"]

ChunkTerm = Callable[[Skeleton], Term]
"""Linearises one source of knowledge about a chunk of frames; a partial function of module
functions, so that solves can be recorded (`gpu.graphs`)."""

ChunkBinder = Callable[[slice], ChunkTerm]
"""Gives a prior's term for some frames."""

RotationPrior = Callable[[LocalRotations], Term]


def bind_priors(
    body: BodyModel,
    model: SkeletonModel,
    start: State,
    evidence: Sequence[Evidence],
    config: SolverConfig,
    strengths: Strengths,
    *,
    reference: State | None,
    stiffness: Float[Tensor, "batch joint"],
) -> list[ChunkBinder]:
    """The priors that the settings ask for, shape and smoothness apart.

    Args:
        body: the body model.
        model: its joints in the solver's dtype.
        start: the first state; says sizes, dtype and device.
        evidence: the first camera among it says what depth is.
        config: which priors, how strong.
        strengths: in place of what of `config` follows from the input.
        reference: what to stay near, or None.
        stiffness: multiplies the precision of each joint's pull to the reference.

    Returns:
        Functions from a chunk of frames to one of its terms.
    """
    betas = start.betas.shape[1] if config.shape != "fixed" else 0
    parameters = 3 * start.rotations.shape[1] + 3 + betas
    from_rest = _rest_priors(body, config, strengths, parameters, start)
    if reference is None or config.reference_weight <= 0:
        return [_from_rest_alone(from_rest)] if from_rest else []
    sigmas = joint_sigmas(body).to(start.transl)
    root = (config.reference_weight * stiffness).sqrt() / (sigmas * strengths.reference_sigma_scale)
    joints = pose_skeleton(model, reference, with_shape=False).joints
    pelvis = joints[:, 0]
    rows = _pelvis_precision(pelvis, evidence, config, strengths)
    # Only a focal length that is sought moves the reference: a known one it already has.
    slide = _slide(pelvis, evidence) if config.focal != "fixed" else None

    def bind_rotations(frames: slice) -> ChunkTerm:
        return partial(
            _rotations_term, reference.rotations[frames], root[frames], from_rest, parameters
        )

    def bind_pelvis(frames: slice) -> ChunkTerm:
        along = None if slide is None else slide[frames]
        return partial(
            pelvis_term, reference=pelvis[frames], precision_root=rows[frames],
            parameters=parameters, slide=along,
        )  # fmt: skip

    if config.self_penetration_weight <= 0:
        return [bind_rotations, bind_pelvis]
    return [bind_rotations, bind_pelvis, _self_penetration(body, joints, config)]


def _self_penetration(
    body: BodyModel, joints: Float[Tensor, "batch joint 3"], config: SolverConfig
) -> ChunkBinder:
    """Keeps limbs from going deeper into the body than the reference's joints let them."""
    capsules = body_capsules(body)
    capsules = replace(capsules, radii=capsules.radii.to(joints))
    allowed = overlaps(capsules, joints)
    root = config.self_penetration_weight**0.5 / config.self_penetration_sigma_m

    def bind(frames: slice) -> ChunkTerm:
        return partial(
            self_penetration_term, capsules=capsules, allowed=allowed[frames], precision_root=root
        )

    return bind


def _rotations_term(
    reference: Tensor,
    precision_root: Tensor,
    from_rest: Sequence[RotationPrior],
    parameters: int,
    skeleton: Skeleton,
) -> Term:
    rest, near = local_rotations(skeleton, None, reference)
    terms = [prior(rest) for prior in from_rest]
    return stack_terms([*terms, reference_term(near, precision_root, parameters)])


def _from_rest_alone(priors: list[RotationPrior]) -> ChunkBinder:
    return lambda frames: partial(_from_rest_term, priors)


def _from_rest_term(priors: Sequence[RotationPrior], skeleton: Skeleton) -> Term:
    (rest,) = local_rotations(skeleton, None)
    return stack_terms([prior(rest) for prior in priors])


def _rest_priors(
    body: BodyModel, config: SolverConfig, strengths: Strengths, parameters: int, start: State
) -> list[RotationPrior]:
    """Priors on rotations as measured from the rest pose: limits and likely poses."""
    device, dtype = start.transl.device, start.transl.dtype
    priors: list[RotationPrior] = []
    if config.limit_weight <= 0 and config.pose_prior_weight <= 0:
        return priors
    learned = load_pose_prior(body.joint_names, device, dtype)
    if config.limit_weight > 0:
        unlimited = torch.full((body.num_joints, 3), torch.inf, device=device, dtype=dtype)
        limited = slice(1, 1 + learned.joint_count)
        lower, upper = -unlimited, unlimited.clone()
        lower[limited], upper[limited] = learned.lower, learned.upper
        strength = config.limit_weight**0.5 / config.limit_sigma
        priors.append(
            partial(
                limit_term, lower=lower, upper=upper, precision_root=strength, parameters=parameters
            )
        )
    if config.pose_prior_weight > 0:
        root = strengths.pose_prior_weight.sqrt()
        priors.append(
            partial(pose_prior_term, prior=learned, weight_root=root, parameters=parameters)
        )
    return priors


def _pelvis_precision(
    pelvis: Float[Tensor, "batch 3"],
    evidence: Sequence[Evidence],
    config: SolverConfig,
    strengths: Strengths,
) -> Float[Tensor, "batch 3 3"]:
    """Rows that measure a pelvis offset in σ: across the first camera's view, and along it."""
    identity = torch.eye(3, device=pelvis.device, dtype=pelvis.dtype)
    matrix = _first_camera(evidence)
    scale = config.reference_weight**0.5
    if matrix is None:
        return (scale * identity / config.translation_sigma_m).expand(len(pelvis), 3, 3)
    matrix = matrix.to(pelvis.dtype)
    position = (matrix[:, :3, :3] @ pelvis[..., None])[..., 0] + matrix[:, :3, 3]
    distance = position.norm(dim=-1).clamp_min(0.2)
    ray = torch.nn.functional.normalize(position, dim=-1)
    along = ray[:, :, None] * ray[:, None]
    rows = (
        identity - along
    ) / config.lateral_sigma_fraction + along / strengths.depth_sigma_fraction
    return scale * (rows / distance[:, None, None]) @ matrix[:, :3, :3]


def _first_camera(evidence: Sequence[Evidence]) -> Float[Tensor, "batch 4 4"] | None:
    cameras = [getattr(entry, "world_to_camera", None) for entry in evidence]
    return next((camera for camera in cameras if camera is not None), None)


def _slide(
    pelvis: Float[Tensor, "batch 3"], evidence: Sequence[Evidence]
) -> Float[Tensor, "batch 3"] | None:
    """How the reference's pelvis moves by the logarithm of the focal length (`pelvis_term`)."""
    matrix = _first_camera(evidence)
    if matrix is None:
        return None
    axis = matrix[:, 2, :3].to(pelvis.dtype)
    depth = (axis * pelvis).sum(-1, keepdim=True) + matrix[:, 2, 3:].to(pelvis.dtype)
    return depth * axis
