# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated first estimates: the truth made wrong in the ways that pose regressors are.

Each is the sum of an error that stays over the clip, one that drifts and one of each frame's own,
scaled so that its mean joint error is what the level says; the worse ones also lose single limbs
for a few frames. They are simulated: no regressor made them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation

from posefit.body import BodyModel, PoseParameters, pose_joints

__all__ = ["LEVELS", "Level", "Start", "simulate_start"]

Array = npt.NDArray[np.float64]

SPREAD = np.array(
    [0.14, 0.17, 0.17, 0.08, 0.20, 0.20, 0.06, 0.24, 0.24, 0.06, 0.10, 0.10,
     0.12, 0.08, 0.08, 0.15, 0.27, 0.27, 0.33, 0.33, 0.25, 0.25, 0.0, 0.0]
)  # fmt: skip
"""Relative error of each joint; hands have no joints of their own that matter."""
LIMBS = ((1, 4, 7), (2, 5, 8), (16, 18, 20), (17, 19, 21))


@dataclass(frozen=True)
class Level:
    """How wrong an estimate is."""

    name: str
    mpjpe_mm: float
    """Mean error of the 24 joints, pelvis-aligned, over the clip."""
    lost_limbs: float
    """Chance of each limb to be lost for three frames somewhere in the clip."""
    betas: float
    """Spread of the shape's error."""
    aside_m: float
    """Spread of the root's error in the picture plane."""
    depth: float
    """Spread of the root's error in depth, as a share of the distance."""


LEVELS = (
    Level("good", 15.0, 0.0, 0.15, 0.004, 0.006),
    Level("mild", 45.0, 0.1, 0.4, 0.012, 0.02),
    Level("typical", 85.0, 0.3, 0.7, 0.025, 0.04),
    Level("bad", 140.0, 0.5, 1.0, 0.040, 0.07),
)
"""All levels, from nearly right to hardly right."""


@dataclass(frozen=True)
class Start:
    """A wrong estimate of one person's frames."""

    betas: Array
    poses: Array
    trans: Array
    mpjpe_mm: float
    """Its mean joint error."""


def simulate_start(
    body: BodyModel, betas: Array, poses: Array, trans: Array, views: Array, level: Level,
    random: np.random.Generator,
) -> Start:  # fmt: skip
    """A wrong estimate of one person.

    Args:
        body: the body model.
        betas: (N,) true shape.
        poses: (T, 24, 3) true rotation vectors.
        trans: (T, 3) true translations.
        views: (T, 4, 4) `world_to_camera`.
        level: how wrong.
        random: source of the errors.

    Returns:
        The estimate; its mean joint error is the level's, to half a millimetre or so.
    """
    errors = _joint_errors(len(poses), level, random)
    wrong_betas = betas + random.normal(0, level.betas, betas.shape) * (np.arange(len(betas)) < 6)
    truth = _joints(body, betas, poses)
    low, high = 0.0, 4.0
    for _ in range(16):
        scale = (low + high) / 2
        wrong = _joints(body, wrong_betas, _turn(poses, errors * scale))
        mean = 1000 * np.linalg.norm(wrong - truth, axis=-1).mean()
        low, high = (scale, high) if mean < level.mpjpe_mm else (low, scale)
    wrong_poses = _turn(poses, errors * scale)
    return Start(
        wrong_betas,
        wrong_poses,
        _move(body, betas, wrong_betas, trans, views, level, random),
        float(mean),
    )


def _joint_errors(count: int, level: Level, random: np.random.Generator) -> Array:
    """Rotation vectors (T, 24, 3): one for the clip, one that drifts, one for each frame."""
    shape = (count, len(SPREAD), 3)
    drift = random.normal(0, 1, shape)
    for frame in range(1, count):
        drift[frame] = 0.85 * drift[frame - 1] + np.sqrt(1 - 0.85**2) * drift[frame]
    errors = 0.6 * random.normal(0, 1, (1, *shape[1:])) + 0.6 * drift
    errors = (errors + 0.53 * random.normal(0, 1, shape)) * SPREAD[:, None]
    for limb in LIMBS:
        if random.random() < level.lost_limbs:
            first = random.integers(0, max(count - 3, 1))
            lost = errors[first : first + 3]
            lost[:, limb] += random.normal(0, 0.9, (len(limb), 3)) * [1, 0.5, 1]
    return errors


def _turn(poses: Array, errors: Array) -> Array:
    """Poses with errors applied in each joint's own frame."""
    turned = Rotation.from_rotvec(poses.reshape(-1, 3)) * Rotation.from_rotvec(
        errors.reshape(-1, 3)
    )
    return turned.as_rotvec().reshape(poses.shape)


def _joints(body: BodyModel, betas: Array, poses: Array) -> Array:
    """(T, 24, 3) joints from the pelvis."""
    values = torch.from_numpy(poses.astype(np.float32))
    shape = torch.from_numpy(np.tile(betas.astype(np.float32), (len(poses), 1)))
    zeros = torch.zeros(len(poses), 3)
    joints = pose_joints(body, PoseParameters(shape, values[:, 0], values[:, 1:], zeros)).numpy()
    return joints.astype(np.float64) - joints[:, :1]


def _move(
    body: BodyModel, betas: Array, wrong_betas: Array, trans: Array, views: Array, level: Level,
    random: np.random.Generator,
) -> Array:  # fmt: skip
    """Translations that put the pelvis beside where it is, mostly along the line of sight."""
    rest = body.joint_template[0].numpy(), body.joint_shapedirs[0].numpy()
    pelvis = trans + rest[0] + rest[1] @ betas
    local = np.einsum("tab,tb->ta", views[:, :3, :3], pelvis) + views[:, :3, 3]
    count = len(trans)
    depth = 1 + level.depth * (0.7 * random.normal() + 0.7 * random.normal(0, 1, count))
    aside = level.aside_m * (0.5 * random.normal(0, 1, 2) + 0.85 * random.normal(0, 1, (count, 2)))
    moved = local * depth[:, None]
    moved[:, :2] += aside
    back = np.einsum("tba,tb->ta", views[:, :3, :3], moved - views[:, :3, 3])
    return back - rest[0] - rest[1] @ wrong_betas
