# SPDX-License-Identifier: Apache-2.0
"""A body solved for from named points in space, for results of models that are not SMPL's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from posefit_shared.skeleton import MODEL_JOINT_COUNTS

from ..body import BodyModel, PoseParameters, load_body, pose_body
from ..solver import (
    LandmarkPositions,
    LandmarkTable,
    SolverConfig,
    held_joints,
    initial_root,
    named_points,
    solve,
    take_frames,
)
from .fields import Array

__all__ = ["PointFit", "fit_points"]

_SIGMA_M = 0.01
"""σ of a point: models put joints and landmarks of one name a centimetre apart."""
_SHAPE_FRAMES = 48
_FRAMES_AT_ONCE = 256
_MODELS = {count: name for name, count in MODEL_JOINT_COUNTS.items()}


@dataclass(frozen=True)
class PointFit:
    """The body that meets the points."""

    poses: Array
    """(T, J, 3)."""
    trans: Array
    """(T, 3) metres, in the camera's frame."""
    betas: Array
    """(N,) of all frames."""
    model_type: str
    """Whose joints these are."""
    miss_m: float
    """Mean distance of a point from its place on the body."""


@torch.no_grad()
def fit_points(
    body_file: str | Path, names: tuple[str, ...], points: Array, intrinsics: Array
) -> PointFit:
    """Pose, place and shape that put a body's named points where they are.

    Args:
        body_file: the body.
        names: of the points, as the solver knows them; those that the body lacks are left out.
        points: (T, N, 3) before an OpenCV camera, metres.
        intrinsics: (3, 3) of that camera.
    """
    body = load_body(str(body_file))
    table = named_points(*names)
    targets = torch.tensor(points, dtype=body.dtype)
    lens = torch.tensor(intrinsics, dtype=body.dtype).expand(len(points), 3, 3)
    weights = torch.ones(targets.shape[:2], dtype=body.dtype)
    world = torch.eye(4, dtype=body.dtype).expand(len(points), 4, 4)
    seen = targets @ lens.mT
    start = initial_root(body, table, seen[..., :2] / seen[..., 2:], targets, weights, lens, world)
    evidence = LandmarkPositions(table, targets, weights, torch.full_like(weights, _SIGMA_M))
    parts = []
    betas = None
    config = SolverConfig(max_iterations=30, pose_prior_weight=0.1, shape="fixed")
    for rows in _runs(len(points)):
        seen_part, part = take_frames(evidence, rows), start[rows]
        held = held_joints(body, [seen_part], len(rows))
        fingers = None if held is None else held[0]
        root = torch.ones(body.num_joints, dtype=torch.bool)
        root[0] = False
        far = replace(config, robust_widening=10.0)
        part = solve(body, part, [seen_part], far, locked=root).parameters
        part = solve(body, part, [seen_part], far, locked=fingers).parameters
        if betas is None:
            some = torch.from_numpy(
                np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SHAPE_FRAMES)).round())
            ).long()
            shaped = solve(
                body, part[some], [take_frames(seen_part, some)],
                replace(config, shape="sequence"), locked=fingers,
            ).parameters  # fmt: skip
            betas = shaped.betas[:1]
        part = replace(part, betas=betas.expand(len(rows), -1).contiguous())
        parts.append(solve(body, part, [seen_part], config, locked=fingers).parameters)
    return _result(body, table, targets, parts)


def _runs(frames: int) -> list[torch.Tensor]:
    return list(torch.arange(frames).split(_FRAMES_AT_ONCE))


def _result(
    body: BodyModel, table: LandmarkTable, targets: torch.Tensor, parts: list[PoseParameters]
) -> PointFit:
    bound = table.bind(body, body.dtype)
    misses, first = [], 0
    for part in parts:
        posed = pose_body(body, part)
        sources = torch.cat([posed.joints, posed.vertices[:, bound.vertices]], 1)
        apart = (bound.mixture.T @ sources - targets[first : first + len(part)]).norm(dim=-1)
        misses.append(apart[:, bound.known])
        first += len(part)
    poses = torch.cat([torch.cat([one.global_orient[:, None], one.body_pose], 1) for one in parts])
    return PointFit(
        poses=poses.double().numpy(),
        trans=torch.cat([one.transl for one in parts]).double().numpy(),
        betas=parts[0].betas[0].double().numpy(),
        model_type=_MODELS[body.num_joints],
        miss_m=float(torch.cat(misses).mean()),
    )
