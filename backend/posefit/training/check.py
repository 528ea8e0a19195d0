# SPDX-License-Identifier: Apache-2.0
"""Proof, before GPU time is spent, that generator and rasterizer are right on this device."""

from __future__ import annotations

import logging

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import PosefitError
from .batch import TrainingBatch
from .estimate_errors import TWIST_JOINTS, no_errors
from .generator import Generator, Truth

__all__ = ["CheckError", "check_generator", "displacement_in_float64", "nearest_faces"]

logger = logging.getLogger(__name__)


class CheckError(PosefitError):
    """The generator is wrong on this device."""


def check_generator(generator: Generator) -> None:
    """Compares a few batches with what they must be.

    Args:
        generator: to test; its random numbers move on.

    Raises:
        CheckError: a figure is off; the message says which.
    """
    config = generator.config
    batch_size = config.people * config.frames
    device = generator.draws.device
    batch, truth = generator.batch_with_truth()
    if not all(torch.isfinite(t).all() for t in (batch.render, batch.image, batch.displacement)):
        raise CheckError("a batch holds numbers that aren't finite")
    share = batch.mask.float().mean().item()
    if not 0.04 < share < 0.7:
        raise CheckError(f"{share:.1%} of the pixels show a body, expected 4 to 70%")
    wrong = _largest_difference(generator, batch, truth)
    if wrong > 0.05:
        raise CheckError(f"displacements are off by {wrong:.3f} px from float64, expected < 0.05")
    disagreeing = nearest_faces(generator, truth, samples=256)
    if disagreeing > 0.02:
        raise CheckError(f"{disagreeing:.1%} of sampled pixels show another face than by search")
    still = torch.zeros(batch_size, len(TWIST_JOINTS), device=device)
    right, _ = generator.batch_with_truth(errors=no_errors(batch_size, device), twists=still)
    moved = right.displacement.abs().max().item()
    if moved > 0.05:
        raise CheckError(f"right estimates are displaced by {moved:.3f} px, expected 0")
    logger.info(
        "generator checked: body %.1f%%, difference %.4f px, faces %.2f%% off, still %.4f px, "
        "mean displacement %.2f px, visible %.1f%%, textured %.1f%%",
        100 * share, wrong, 100 * disagreeing, moved,
        (batch.displacement.norm(dim=1) * batch.mask).sum() / batch.mask.sum(),
        100 * batch.visible.sum() / batch.mask.sum(),
        100 * batch.render[:, 3].sum() / batch.render[:, 4].sum(),
    )  # fmt: skip


def displacement_in_float64(
    generator: Generator, truth: Truth, picks: Tensor
) -> Float[Tensor, "pick 2"]:
    """Displacements of some pixels, worked out afresh from faces and true vertices.

    Args:
        generator: whose body it is.
        truth: how the batch came about.
        picks: (pick, 3) sample, row, column of body pixels.
    """
    sample, row, column = picks.unbind(1)
    fragments, scene = truth.fragments, truth.scene
    face = fragments.pix_to_face[sample, row, column].long()
    corners = generator.assets.body.faces.long()[face]
    estimated = scene.estimated.vertices.double()[sample[:, None], corners]
    camera = scene.intrinsics.double()[sample]
    pixel = torch.stack([column + 0.5, row + 0.5, torch.ones_like(row)], dim=1).double()
    ray = torch.linalg.solve(camera, pixel[..., None])[..., 0]
    # ray · t = Σ bary_i corner_i with Σ bary = 1
    system = torch.cat([estimated.transpose(1, 2), -ray[..., None]], dim=2)
    ones = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64, device=ray.device)
    system = torch.cat([system, ones.expand(len(picks), 1, 4)], dim=1)
    right = torch.zeros(len(picks), 4, 1, dtype=torch.float64, device=ray.device)
    right[:, 3] = 1.0
    bary = torch.linalg.solve(system, right)[:, :3, 0]
    true_corners = scene.true.vertices.double()[sample[:, None], corners]
    point = (bary[..., None] * true_corners).sum(1)
    seen = (scene.true_intrinsics.double()[sample] @ point[..., None])[..., 0]
    return seen[:, :2] / seen[:, 2:] - pixel[:, :2]


def _largest_difference(
    generator: Generator, batch: TrainingBatch, truth: Truth, samples: int = 256
) -> float:
    """Difference of the batch's displacements from those in float64, pixels.

    The 98th percentile: on faces seen edge-on both are ill-conditioned.
    """
    where = batch.mask.nonzero()
    picks = where[torch.linspace(0, len(where) - 1, samples, device=where.device).long()]
    exact = displacement_in_float64(generator, truth, picks)
    given = batch.displacement[picks[:, 0], :, picks[:, 1], picks[:, 2]].double()
    return (given - exact).abs().amax(1).quantile(0.98).item()


def nearest_faces(generator: Generator, truth: Truth, samples: int) -> float:
    """Share of sampled pixels whose depth differs from that of the nearest face by search.

    Args:
        generator: whose body it is.
        truth: how the batch came about.
        samples: pixels to search, half of them where a body is drawn.
    """
    fragments, scene = truth.fragments, truth.scene
    size = generator.config.size
    vertices = scene.estimated.vertices[0].double()
    camera = scene.intrinsics[0].double()
    faces = generator.assets.body.faces.long()
    points = vertices @ camera.T
    corners = (points[:, :2] / points[:, 2:])[faces]
    inverse_depth = 1.0 / points[:, 2][faces]
    drawn = (fragments.pix_to_face[0].flatten() >= 0).nonzero()[:, 0]
    step = torch.linspace(0, 1, samples // 2, device=vertices.device)
    picks = torch.cat([drawn[(step * (len(drawn) - 1)).long()], (step * (size**2 - 1)).long()])
    off = 0
    for pick in picks.tolist():
        pixel = corners.new_tensor([pick % size + 0.5, pick // size + 0.5])
        a, b, c = (corners - pixel).unbind(1)
        weights = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], 1)
        area = weights.sum(1)
        inside = (weights * area.sign()[:, None] >= 0).all(1) & (area.abs() > 1e-9)
        depth = 1.0 / ((weights / area[:, None]) * inverse_depth).sum(1)
        depth = torch.where(inside & (points[faces][:, :, 2] > 0.05).all(1), depth, torch.inf)
        nearest, shown = depth.min().item(), fragments.zbuf[0].flatten()[pick].item()
        nearest = -1.0 if nearest == float("inf") else nearest
        off += abs(nearest - shown) > 1e-3
    return off / len(picks)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
