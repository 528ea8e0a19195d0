# SPDX-License-Identifier: Apache-2.0
"""What can be told of a frame's result without the truth: the signs that a gate judges by.

Some are evidence that was held out from making the result: a look of its own at the rendered
result, and patches of skin whose displacements the solver never saw. Others say how large the
change is, how much of it goes along the line of sight, where no picture can check it, how usual the
new pose is, and how sure the solver was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..body import BodyModel, PoseParameters, pose_body
from ..gpu.graphs import replayed
from ..solver.pose_prior import load_pose_prior

__all__ = ["FrameSigns", "change_signs", "unusualness"]

_POSED_AT_ONCE = 64


@dataclass(frozen=True)
class FrameSigns:
    """Signs of each frame; NaN where there are none."""

    error_before_m: Float[Tensor, " frame"]
    """How far the input looks off, metres on the person: displacement, or distance of landmarks."""
    error_after_m: Float[Tensor, " frame"]
    """The same of the result, from a look of its own."""
    change_m: Float[Tensor, " frame"]
    """Root of the vertices' mean squared change, pelvis on pelvis."""
    depth_share: Float[Tensor, " frame"]
    """Share of the squared change that goes along the line of sight of every camera."""
    input_scale: Float[Tensor, " frame"]
    """Scale of the priors' σ that the input was given."""
    joint_sigma: Float[Tensor, " frame"]
    """Mean posterior σ of the body's joints, radians."""
    unusual_before: Float[Tensor, " frame"]
    """How far the input is from poses that are usual, in σ a degree of freedom."""
    unusual_after: Float[Tensor, " frame"]
    """The same of the result."""
    withheld_before_m: Float[Tensor, " frame"] | None = None
    """Distance of the input from targets that the solver was not told of."""
    withheld_after_m: Float[Tensor, " frame"] | None = None
    """The same of the result."""
    doubt_m: Float[Tensor, " frame"] | None = None
    """σ of the displacements of the look at the result."""
    seen_share: Float[Tensor, " frame"] | None = None
    """How much of the rendered result can be seen in the picture."""


def change_signs(
    body: BodyModel,
    given: PoseParameters,
    found: PoseParameters,
    cameras: Sequence[Float[Tensor, "frame 4 4"]],
) -> tuple[Float[Tensor, " frame"], Float[Tensor, " frame"]]:
    """How far the vertices moved, pelvis on pelvis, and which share of it no camera can check.

    Args:
        body: the body model.
        given: the input.
        found: the result.
        cameras: world to camera, of each view.

    Returns:
        Metres (root mean square), and the share of its square that goes along the view: of several
        cameras, in the one that sees most of the change.
    """
    totals, shares = [], []
    for first in range(0, len(given), _POSED_AT_ONCE):
        part = slice(first, first + _POSED_AT_ONCE)
        of_part = [camera[part] for camera in cameras]
        total, share = replayed(_change, body, given[part], found[part], of_part)
        totals.append(total)
        shares.append(share)
    return torch.cat(totals), torch.cat(shares)


def _change(
    body: BodyModel,
    given: PoseParameters,
    found: PoseParameters,
    cameras: Sequence[Float[Tensor, "batch 4 4"]],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    before, after = pose_body(body, given), pose_body(body, found)
    moved = (after.vertices - after.joints[:, :1]) - (before.vertices - before.joints[:, :1])
    total = moved.square().sum(-1).mean(1)
    along = [_along_view(moved, after.joints[:, 0], camera) for camera in cameras]
    return total.sqrt(), torch.stack(along).amin(0) / total.clamp_min(1e-12)


def _along_view(
    moved: Float[Tensor, "batch vertex 3"],
    pelvis: Float[Tensor, "batch 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
) -> Float[Tensor, " batch"]:
    """Mean squared part of movements that goes along the ray to the body."""
    camera = world_to_camera.to(moved)
    middle = (camera[:, :3, :3] @ pelvis[..., None])[..., 0] + camera[:, :3, 3]
    ray = torch.nn.functional.normalize(middle, dim=-1)
    ray = (camera[:, :3, :3].mT @ ray[..., None])[..., 0]
    return (moved * ray[:, None]).sum(-1).square().mean(1)


def unusualness(body: BodyModel, parameters: PoseParameters) -> Float[Tensor, " frame"]:
    """How far poses are from the usual ones: root of the mean squared deviation, in σ.

    Args:
        body: names the joints.
        parameters: poses.

    Returns:
        Of the nearest component of the learned mixture; about 1 for usual poses.
    """
    return replayed(_unusualness, body, parameters)


def _unusualness(body: BodyModel, parameters: PoseParameters) -> Float[Tensor, " frame"]:
    prior = load_pose_prior(body.joint_names, body.device, body.dtype)
    pose = parameters.body_pose[:, : prior.joint_count].flatten(1)
    apart = torch.einsum("bcd,cde->bce", pose[:, None] - prior.means, prior.whitening)
    nearest = (apart.square().sum(-1) + prior.offsets).argmin(1)
    chosen = apart[torch.arange(len(pose), device=pose.device), nearest]
    return chosen.square().mean(-1).sqrt()
