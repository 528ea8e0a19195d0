# SPDX-License-Identifier: Apache-2.0
"""What is known before looking: the input's pose, joint limits, likely poses, shape, depth.

Pure functions of the posed skeleton that return Terms, like the evidence (`terms`). Rotations of a
joint are measured in its parent's frame, while the solver turns joints in the world: a step ω moves
the local rotation vector φ by J_l⁻¹(φ) G_parentᵀ ω.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..body_model import BodyModel, kept_with_body
from ..rotations import matrix_to_axis_angle
from .pose_prior import PosePrior
from .rotation_vectors import inverse_left_jacobian
from .skeleton import Skeleton
from .terms import Term

__all__ = [
    "REFERENCE_SIGMA_RAD",
    "LocalRotations",
    "limit_term",
    "local_rotations",
    "pelvis_term",
    "pose_prior_term",
    "joint_sigmas",
    "reference_sigmas",
    "reference_term",
    "shape_term",
]

REFERENCE_SIGMA_RAD: dict[str, float] = {
    "Pelvis": 0.15, "Hip": 0.2, "Spine1": 0.1, "Knee": 0.22, "Spine2": 0.1, "Ankle": 0.25,
    "Spine3": 0.1, "Foot": 0.1, "Neck": 0.18, "Collar": 0.08, "Head": 0.18, "Shoulder": 0.3,
    "Elbow": 0.35, "Wrist": 0.3, "Hand": 0.05, "Jaw": 0.1, "Eye": 0.1,
}  # fmt: skip
"""How far each joint of a good estimate is usually off, radians, by name without its side. Chosen
on rendered sequences whose estimates came from several regressors' error statistics."""

_FINGER_SIGMA_RAD = 0.2
_LIMIT_STIFFENS_RAD = 0.05


def reference_sigmas(joint_names: tuple[str, ...]) -> list[float]:
    """σ of each joint about the reference, radians; fingers share one."""
    bare = [name.removeprefix("L_").removeprefix("R_") for name in joint_names]
    return [REFERENCE_SIGMA_RAD.get(name, _FINGER_SIGMA_RAD) for name in bare]


@kept_with_body
def joint_sigmas(body: BodyModel) -> Float[Tensor, " joint"]:
    """The same on the body's device."""
    return torch.tensor(reference_sigmas(body.joint_names), device=body.device)


@dataclass(frozen=True)
class LocalRotations:
    """Rotations of joints relative to fixed ones, and how the solver's turns move them."""

    rotvec: Float[Tensor, "batch joint 3"]
    """log(R R_fixedᵀ), radians, in the parent's frame."""
    by_turn: Float[Tensor, "batch joint 3 3"]
    """Derivative by the world turn of the joint itself; others do not matter."""


def local_rotations(
    skeleton: Skeleton, *fixed: Float[Tensor, "batch joint 3 3"] | None
) -> list[LocalRotations]:
    """Rotations relative to each of several fixed ones, all worked out in one batch.

    Args:
        skeleton: the posed joints.
        fixed: local rotations to measure from; None is the rest pose.

    Returns:
        One entry for each of `fixed`.
    """
    local = skeleton.state.rotations
    relative = [local if f is None else local @ f.transpose(-1, -2) for f in fixed]
    rotvec = matrix_to_axis_angle(torch.stack(relative))
    by_turn = inverse_left_jacobian(rotvec) @ skeleton.parent_rotations.transpose(-1, -2)
    return [LocalRotations(*pair) for pair in zip(rotvec, by_turn, strict=True)]


def _spread(
    blocks: Float[Tensor, "batch joint 3 3"], parameters: int
) -> Float[Tensor, "batch parameter row"]:
    """Jacobian whose rows of joint j depend on joint j alone; blocks are (residual, turn)."""
    batch, joints = blocks.shape[:2]
    jacobian = blocks.new_zeros(batch, parameters, joints, 3)
    own = torch.arange(joints, device=blocks.device)
    turns = jacobian[:, : 3 * joints].unflatten(1, (joints, 3))
    turns[:, own, :, own] = blocks.permute(1, 0, 3, 2)
    return jacobian.flatten(2)


def _squared(residual: Float[Tensor, "batch row"], jacobian: Tensor) -> Term:
    return Term(residual, jacobian, residual.square().sum(-1))


def reference_term(
    rotations: LocalRotations,
    precision_root: Float[Tensor, "batch joint"],
    parameters: int,
) -> Term:
    """Gaussian pull of every joint towards its reference rotation.

    Args:
        rotations: relative to the reference's.
        precision_root: 1 / σ of each joint, 1 / rad.
        parameters: number of the solver's parameters a frame.

    Returns:
        Three rows a joint: log(R R_refᵀ) / σ.
    """
    blocks = rotations.by_turn * precision_root[..., None, None]
    residual = (rotations.rotvec * precision_root[..., None]).flatten(1)
    return _squared(residual, _spread(blocks, parameters))


def limit_term(
    rotations: LocalRotations,
    lower: Float[Tensor, "joint 3"],
    upper: Float[Tensor, "joint 3"],
    precision_root: float,
    parameters: int,
) -> Term:
    """One-sided pull back into each joint's box of local rotation vectors, that stiffens.

    The residual is x (1 + x² / h²) / σ for an excess x, h = 0.05 rad: evidence that is wrong and
    sure of itself meets a wall after a few degrees.

    Args:
        rotations: relative to the rest pose.
        lower: smallest rotation vector of each joint, radians; −∞ where there is no limit.
        upper: largest one.
        precision_root: √weight / σ, 1 / rad.
        parameters: number of the solver's parameters a frame.

    Returns:
        Three rows a joint, zero inside the box.
    """
    rotvec = rotations.rotvec
    excess = rotvec - torch.minimum(torch.maximum(rotvec, lower), upper)
    stiffer = (excess / _LIMIT_STIFFENS_RAD).square()
    slope = (excess != 0) * (1.0 + 3.0 * stiffer) * precision_root
    blocks = rotations.by_turn * slope[..., None]
    residual = excess * (1.0 + stiffer) * precision_root
    return _squared(residual.flatten(1), _spread(blocks, parameters))


def pose_prior_term(
    rotations: LocalRotations,
    prior: PosePrior,
    weight_root: float | Float[Tensor, ""],
    parameters: int,
) -> Term:
    """The likeliest component of a Gaussian mixture over body poses, and how unlikely it is.

    Args:
        rotations: relative to the rest pose; only the prior's joints are judged.
        prior: the mixture.
        weight_root: √weight.
        parameters: number of the solver's parameters a frame.

    Returns:
        One row a dimension of the mixture.

    Source:
        Bogo et al., Keep it SMPL, ECCV 2016, equation 6 (min over components instead of the sum).
    """
    joints = prior.joint_count
    judged = slice(1, 1 + joints)
    centred = rotations.rotvec[:, judged].flatten(1)[:, None] - prior.means
    whitened = torch.einsum("bkd,kde->bke", centred, prior.whitening)
    energy = whitened.square().sum(-1) + prior.offsets
    best = energy.argmin(1)
    whitening = prior.whitening[best].unflatten(1, (joints, 3))
    by_turn = (
        torch.einsum("bjrt,bjre->bjte", rotations.by_turn[:, judged], whitening).flatten(1, 2)
        * weight_root
    )
    jacobian = by_turn.new_zeros(len(best), parameters, by_turn.shape[2])
    jacobian[:, 3 : 3 + 3 * joints] = by_turn
    residual = whitened[torch.arange(len(best), device=best.device), best] * weight_root
    return Term(residual, jacobian, energy.amin(1) * weight_root**2)


def pelvis_term(
    skeleton: Skeleton,
    reference: Float[Tensor, "batch 3"],
    precision_root: Float[Tensor, "batch 3 3"],
    parameters: int,
    slide: Float[Tensor, "batch 3"] | None = None,
) -> Term:
    """Gaussian pull of the pelvis towards where the reference has it.

    An estimate's depth came from its focal length: where the focal length is an unknown, eˢ of
    the given one, the reference slides along the optical axis and stays as large in the picture.

    Args:
        skeleton: the posed joints.
        reference: the reference's pelvis, metres, world.
        precision_root: rows that measure a world offset in σ, e.g. diag(1/σ) world_to_camera.
        parameters: number of the solver's parameters a frame.
        slide: the reference's depth times the optical axis, metres, world.

    Returns:
        Three rows.
    """
    offset, by_camera = skeleton.joints[:, 0] - reference, None
    if slide is not None and skeleton.state.camera is not None:
        grown = skeleton.state.camera[:, :1].exp()
        offset = offset - (grown - 1.0) * slide
        by_focal = -(precision_root @ (grown * slide)[..., None])[..., 0]
        by_camera = torch.stack([by_focal, torch.zeros_like(by_focal)], 1)
    residual = (precision_root @ offset[..., None])[..., 0]
    joints = skeleton.joints.shape[1]
    jacobian = residual.new_zeros(len(residual), parameters, 3)
    jacobian[:, 3 * joints : 3 * joints + 3] = precision_root.transpose(1, 2)
    betas = parameters - 3 * joints - 3
    if betas:
        by_shape = precision_root @ skeleton.joint_shape_jacobian[:, 0]
        jacobian[:, 3 * joints + 3 :] = by_shape.transpose(1, 2)
    return Term(residual, jacobian, residual.square().sum(-1), by_camera)


def shape_term(
    betas: Float[Tensor, "batch beta"],
    reference: Float[Tensor, "batch beta"],
    sigma: float | Float[Tensor, ""],
    parameters: int,
) -> Term:
    """Gaussian pull of the shape coefficients.

    Args:
        betas: current coefficients.
        reference: where they are pulled.
        sigma: in the model's standard deviations.
        parameters: number of the solver's parameters a frame, betas last.

    Returns:
        One row a coefficient.
    """
    count = betas.shape[1]
    jacobian = betas.new_zeros(len(betas), parameters, count)
    jacobian[:, parameters - count :] = torch.eye(count, device=betas.device) / sigma
    return _squared((betas - reference) / sigma, jacobian)
