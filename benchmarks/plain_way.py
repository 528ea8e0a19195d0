# SPDX-License-Identifier: Apache-2.0
"""Solving as one would without a solver: smplx, autograd and Adam on the solver's energy.

`refine_speed.py` times it beside ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import torch
from solver import smplx_model

from posefit.body import (
    BodyModel,
    PoseParameters,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    pose_body,
)
from posefit.solver import SolverConfig, SurfacePoints
from posefit.solver.evidence import shared_weight
from posefit.solver.priors import joint_sigmas

__all__ = ["PLAIN", "adam", "energy_of", "forward_of", "wait"]

PLAIN = SolverConfig(
    shape="fixed", limit_weight=0.0, self_penetration_weight=0.0, effective_points=30.0
)
"""What both ways of solving minimise."""


def wait(body: BodyModel) -> None:
    """Until the device is done."""
    if body.device.type == "cuda":
        torch.cuda.synchronize(body.device)


def forward_of(body: BodyModel, frames: int) -> Callable[[PoseParameters], tuple]:
    """Vertices and pelvis of posed bodies."""
    if not find_spec("smplx"):

        def posed(p: PoseParameters) -> tuple:
            made = pose_body(body, p)
            return made.vertices, made.joints[:, 0]

        return posed
    model = smplx_model(body, frames)

    def through_smplx(p: PoseParameters) -> tuple:
        made = model(
            betas=p.betas, global_orient=p.global_orient, body_pose=p.body_pose.flatten(1),
            transl=p.transl,
        )  # fmt: skip
        return made.vertices, made.joints[:, 0]

    return through_smplx


def energy_of(
    body: BodyModel, points: SurfacePoints, start: PoseParameters, forward: Callable
) -> Callable[[PoseParameters], torch.Tensor]:
    """The solver's energy under PLAIN, written for autograd; summed over frames."""
    weights = shared_weight(points.weights, PLAIN.effective_points)
    precision = weights / (points.scales.square() + PLAIN.scale_floor_px**2)
    robust = points.scales * PLAIN.robust_scale_factor + PLAIN.robust_scale_offset_px
    matrix = points.world_to_camera
    projection = points.intrinsics @ matrix[:, :3]
    index = points.vertex_indices[..., None].expand(-1, -1, 3)
    sigmas = joint_sigmas(body)[:, None]
    with torch.no_grad():
        first, pelvis = _rotations(start), forward(start)[1]
        position = (matrix[:, :3, :3] @ pelvis[..., None])[..., 0] + matrix[:, :3, 3]
        distance = position.norm(dim=-1, keepdim=True)
        ray = (matrix[:, :3, :3].mT @ (position / distance)[..., None])[..., 0]

    def energy(parameters: PoseParameters) -> torch.Tensor:
        vertices, root = forward(parameters)
        seen = vertices.gather(1, index) @ projection[:, :, :3].mT + projection[:, None, :, 3]
        squared = (seen[..., :2] / seen[..., 2:] - points.targets).square().sum(-1)
        data = (precision * squared / (1.0 + squared / robust.square())).sum()
        turned = matrix_to_axis_angle(_rotations(parameters) @ first.mT)
        offset = (root - pelvis) / distance
        along = (offset * ray).sum(-1, keepdim=True)
        placed = (along / PLAIN.depth_sigma_fraction).square().sum()
        across = ((offset - along * ray) / PLAIN.lateral_sigma_fraction).square().sum()
        return data + (turned / sigmas).square().sum() + placed + across

    return energy


def _rotations(parameters: PoseParameters) -> torch.Tensor:
    return axis_angle_to_matrix(
        torch.cat([parameters.global_orient[:, None], parameters.body_pose], 1)
    )


def adam(
    energy: Callable, start: PoseParameters, target: float, steps: int, body: BodyModel
) -> tuple[PoseParameters, float, int]:
    """Adam until the energy is no larger than the target: parameters, seconds, steps."""
    free = {
        name: getattr(start, name).detach().clone().requires_grad_()
        for name in ("global_orient", "body_pose", "transl")
    }
    optimiser = torch.optim.Adam(free.values(), lr=0.01)
    parameters = replace(start, **free)
    wait(body)
    began = time.perf_counter()
    taken = 0
    while taken < steps:
        optimiser.zero_grad(set_to_none=True)
        value = energy(parameters)
        if float(value.detach()) <= target:
            break
        value.backward()
        optimiser.step()
        taken += 1
    wait(body)
    return parameters.detach(), time.perf_counter() - began, taken
