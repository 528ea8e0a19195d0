# SPDX-License-Identifier: Apache-2.0
"""What tells how far segments are turned: patterns on the skin of other frames, and anatomy.

Both are tables over hypotheses, in nats: how well two frames' unrolled skin agrees for each
difference of their turns, and how usual a limb's joints are for each turn of its two segments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from ..body import BodyModel, PoseParameters, axis_angle_to_matrix, matrix_to_axis_angle
from ..body_model import kept_with_body
from ..gpu.upload import upload
from ..solver.pose_prior import PosePrior, load_pose_prior
from .segment_strips import ANGLES, SEGMENTS, Strips

__all__ = ["LIMBS", "LimbTables", "limb_tables", "pattern_evidence", "segment_axes"]

LIMBS: tuple[tuple[int, int], ...] = ((0, 2), (1, 3), (4, 6), (5, 7))
"""Upper and lower segment of legs and arms (places in `SEGMENTS`); the neck is on its own."""
NECK = 8
_PIXELS_EACH = 12.0
"""Crop pixels that err together."""
_NOISE = 1.0
"""Mean squared difference, in scales of noise, of two pictures of the same skin."""
_CHUNK_FRAMES, _GPU_CHUNK_FRAMES = 16, 128
"""Frames whose hypotheses are made at once on a CPU and on a GPU; bounds memory."""


def pattern_evidence(
    strips: Strips, sources: Int[Tensor, " source"]
) -> Float[Tensor, "source frame segment angle"]:
    """How much better than at random frames agree with sources, for each difference of turns.

    The cost of a difference d is that of skin which has the source's pattern slid round by d,
    n/2 · log(noise + r²(d)) with r² the mean squared difference of colours where both are seen.
    All differences come from one circular correlation about the bone.

    Args:
        strips: of all frames.
        sources: frames that others are compared with.

    Returns:
        Nats for `turn of the frame − turn of the source` = 0, 5, … 355°.
    """
    weight = strips.weight[..., None]
    weighted = weight * strips.features
    stack = torch.cat([weight, weighted, weighted * strips.features], -1)
    spectrum = torch.fft.rfft(stack.float(), dim=3)
    n = _correlation(spectrum, sources, 0, 0).clamp_min(0.0)
    least = n.clamp_min(1e-2)
    squared = torch.zeros_like(n)
    for c in (1, 2, 3):
        own, other = _correlation(spectrum, sources, c, 0), _correlation(spectrum, sources, 0, c)
        cross = _correlation(spectrum, sources, c, c)
        both = _correlation(spectrum, sources, c + 3, 0) + _correlation(spectrum, sources, 0, c + 3)
        squared = squared + both - 2 * cross - (own - other).square() / least
    mean = (squared / (3 * least)).clamp_min(0.0)
    at_random = (n * mean).sum(-1, keepdim=True) / n.sum(-1, keepdim=True).clamp_min(1e-6)
    gain = (at_random + _NOISE).log() - (mean + _NOISE).log()
    return 1.5 * n / _PIXELS_EACH * gain


def _correlation(
    spectrum: Tensor, sources: Tensor, own: int, other: int
) -> Float[Tensor, "source frame segment angle"]:
    """Σ over rows and angles of source(φ) · frame(φ + d)."""
    first, second = spectrum[sources][..., own].conj(), spectrum[..., other]
    product = torch.einsum("iskq,jskq->ijsq", first, second)
    return torch.fft.irfft(product, n=ANGLES, dim=-1)


@dataclass(frozen=True)
class LimbTables:
    """Log likelihood of joints' rotations under turns that leave all else in place."""

    limbs: Float[Tensor, "frame limb upper lower"]
    """For turns of both segments of each of `LIMBS`."""
    neck: Float[Tensor, "frame angle"]
    """For turns of the neck."""


@kept_with_body
def segment_axes(body: BodyModel) -> Float[Tensor, "segment 3"]:
    """Unit vectors along each segment at rest."""
    joints, ends = upload(np.array(SEGMENTS).T, body.device)
    return normalize(body.joint_template[ends] - body.joint_template[joints], dim=-1)


@dataclass(frozen=True)
class _Density:
    """The pose mixture of some joints' rotation vectors, whatever the others do."""

    means: Float[Tensor, "component dimension"]
    """Multiplied by `inverse`."""
    inverse: Float[Tensor, "component dimension dimension"]
    """Of the covariances' lower triangular roots."""
    offset: Float[Tensor, " component"]
    """Log weight and scale."""

    @classmethod
    def of(cls, prior: PosePrior, joints: tuple[int, ...]) -> _Density:
        whitening = prior.whitening.double()
        covariance = torch.linalg.inv(whitening @ whitening.mT)
        log_weight = -0.5 * (prior.offsets.double() - torch.linalg.slogdet(covariance)[1])
        index = [3 * (joint - 1) + k for joint in joints for k in range(3)]
        root = torch.linalg.cholesky(covariance[:, index][:, :, index])
        scale = root.diagonal(dim1=1, dim2=2).log().sum(1)
        inverse = torch.linalg.inv(root).to(prior.means)
        means = (inverse @ prior.means[:, index, None])[..., 0]
        return cls(means, inverse, (log_weight.log_softmax(0) - scale).to(means))

    def log_likelihood(self, vectors: Float[Tensor, "*batch dimension"]) -> Float[Tensor, "*batch"]:
        """Of the joints' rotation vectors."""
        flat = vectors.flatten(0, -2).expand(len(self.inverse), -1, -1)
        whitened = torch.baddbmm(self.means[:, None], flat, self.inverse.mT, beta=-1.0)
        parts = self.offset[:, None] - 0.5 * whitened.square().sum(-1)
        constant = 0.5 * vectors.shape[-1] * math.log(2 * math.pi)
        return parts.logsumexp(0).unflatten(0, vectors.shape[:-1]) - constant


@lru_cache(maxsize=4)
def _densities(
    joint_names: tuple[str, ...], device: torch.device, dtype: torch.dtype
) -> tuple[_Density, ...]:
    """Of each limb's three joints, and of the neck's two: the same for all bodies of a model."""
    prior = load_pose_prior(joint_names, device, dtype)
    joints = [(*SEGMENTS[upper], SEGMENTS[lower][1]) for upper, lower in LIMBS]
    return tuple(_Density.of(prior, some) for some in (*joints, SEGMENTS[NECK]))


def limb_tables(
    body: BodyModel, parameters: PoseParameters, turns: Float[Tensor, " angle"]
) -> LimbTables:
    """How usual limbs are when their segments turn and what hangs on them stays.

    Hinges tell: a knee or an elbow bends about one axis, wrists and ankles hardly twist.

    Args:
        body: whose bones.
        parameters: poses of the frames.
        turns: hypotheses, radians.
    """
    densities = _densities(body.joint_names, body.device, body.dtype)
    vectors = torch.cat([parameters.global_orient[:, None], parameters.body_pose], 1)
    twists = axis_angle_to_matrix(segment_axes(body)[:, None] * turns[:, None])
    chunk = _GPU_CHUNK_FRAMES if body.device.type == "cuda" else _CHUNK_FRAMES
    parts = [
        _tables(axis_angle_to_matrix(part), twists, densities) for part in vectors.split(chunk)
    ]
    return LimbTables(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _tables(
    local: Float[Tensor, "frame joint 3 3"],
    twists: Float[Tensor, "segment angle 3 3"],
    densities: tuple[_Density, ...],
) -> tuple[Tensor, Tensor]:
    limbs = []
    for (upper, lower), density in zip(LIMBS, densities[:-1], strict=True):
        (hip, knee), (_, ankle) = SEGMENTS[upper], SEGMENTS[lower]
        above, below = twists[upper], twists[lower]
        first = matrix_to_axis_angle(local[:, hip, None] @ above)
        middle = above.mT[:, None] @ local[:, knee, None, None] @ below
        middle = matrix_to_axis_angle(middle)
        last = matrix_to_axis_angle(below.mT @ local[:, ankle, None])
        first, last = first[:, :, None].expand_as(middle), last[:, None].expand_as(middle)
        vectors = torch.cat([first, middle, last], -1)
        limbs.append(density.log_likelihood(vectors))
    neck, head = SEGMENTS[NECK]
    ends = (local[:, neck, None] @ twists[NECK], twists[NECK].mT @ local[:, head, None])
    vectors = torch.cat([matrix_to_axis_angle(one) for one in ends], -1)
    return torch.stack(limbs, 1), densities[-1].log_likelihood(vectors)
