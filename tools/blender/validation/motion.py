# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do: rows of motion clips, on the ground and with feet that stay put."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation

from posefit.body import BodyModel, PoseParameters, pose_joints
from posefit.training.poses import is_validation
from posefit_shared.frames import YUP_TO_ZUP

__all__ = ["Clip", "MotionError", "read_clips", "walk"]

FEET = (7, 8, 10, 11)

Array = npt.NDArray[np.float64]


class MotionError(ValueError):
    """A clip that cannot be used."""


@dataclass(frozen=True)
class Clip:
    """One recording."""

    name: str
    """`source/stem`."""
    poses: Array
    """(T, 24, 3) rotation vectors, y up, the root without heading; 30 frames a second."""


def read_clips(path: Path, *, held_out: bool) -> dict[str, Clip]:
    """The clips of one side of the split, by name.

    Args:
        path: file of tools/training/prepare_poses.py.
        held_out: those that training never sees; otherwise those that it does.
    """
    with np.load(path) as data:
        names, poses, clip = data["names"], data["pose"].astype(np.float64), data["clip"]
    return {
        str(name): Clip(str(name), poses[clip == index])
        for index, name in enumerate(names)
        if is_validation(str(name)) == held_out
    }


def walk(
    body: BodyModel, betas: Array, clip: Clip, rows: Array, *, heading: float, turn: float,
    grounded: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """Poses and translations in a world with z up.

    Args:
        body: the body model.
        betas: (N,) shape.
        clip: what is done.
        rows: (T,) rows of the clip, fractions allowed.
        heading: where the person faces at first, radians about z.
        turn: radians that the heading changes over the rows.
        grounded: whether the lower foot stays where it is on the ground while it is the lower.

    Returns:
        Rotation vectors (T, 24, 3) and translations (T, 3); heights are left at zero.
    """
    if rows.min() < 0 or rows.max() > len(clip.poses) - 1:
        raise MotionError(
            f"clip {clip.name} has {len(clip.poses)} rows, {rows.min():g} to {rows.max():g} were "
            "asked for: change the start or the stride"
        )
    fine = np.arange(np.floor(rows.min()), np.ceil(rows.max()) + 1e-6, 0.5)
    poses = _between(clip.poses, fine)
    spread = (fine - fine[0]) / max(fine[-1] - fine[0], 1e-6)
    heads = Rotation.from_rotvec(np.outer(heading + turn * spread, [0.0, 0, 1]))
    upright = Rotation.from_matrix(YUP_TO_ZUP[:3, :3])
    poses = _level_feet(body, poses)
    poses[:, 0] = (heads * upright * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    path = _foot_path(body, betas, poses) if grounded else np.zeros((len(fine), 3))
    at = np.clip(np.searchsorted(fine, rows - 1e-9), 0, len(fine) - 1)
    path = path - path[at].mean(0)
    return poses[at], path[at]


def _level_feet(body: BodyModel, poses: Array) -> Array:
    """Poses (T, 24, 3), y up, with ankles turned so that a planted foot is level on average.

    Recordings' skeletons and the body disagree about a foot's direction at rest.
    """
    joints = _joints(body, np.zeros(body.num_betas), poses)
    rest = body.joint_template.numpy().astype(np.float64)
    levelled = poses.copy()
    for ankle, toe, other in ((7, 10, 11), (8, 11, 10)):
        step, still = joints[:, toe] - joints[:, ankle], rest[toe] - rest[ankle]
        planted = joints[:, toe, 1] <= joints[:, other, 1] + 0.02
        slope = np.arctan2(step[:, 1], np.linalg.norm(step[:, [0, 2]], axis=1))
        if not planted.any():
            continue
        excess = np.median(slope[planted]) - np.arctan2(still[1], np.linalg.norm(still[[0, 2]]))
        raised = Rotation.from_rotvec([float(excess), 0, 0])
        levelled[:, ankle] = (Rotation.from_rotvec(poses[:, ankle]) * raised).as_rotvec()
    return levelled


def _between(poses: Array, rows: Array) -> Array:
    """Poses at fractional rows, each joint turned part of the way."""
    low = np.floor(rows).astype(int).clip(0, len(poses) - 1)
    high = (low + 1).clip(0, len(poses) - 1)
    start = Rotation.from_rotvec(poses[low].reshape(-1, 3))
    step = (start.inv() * Rotation.from_rotvec(poses[high].reshape(-1, 3))).as_rotvec()
    share = np.repeat(rows - low, poses.shape[1])[:, None]
    return (start * Rotation.from_rotvec(step * share)).as_rotvec().reshape(len(rows), -1, 3)


def _foot_path(body: BodyModel, betas: Array, poses: Array) -> Array:
    """Where the root goes (T, 3) so that the lower foot does not slide."""
    feet = _joints(body, betas, poses)[:, FEET]
    count, lower = len(poses), feet[..., 2].argmin(1)
    steps = feet[np.arange(1, count), lower[1:]] - feet[np.arange(count - 1), lower[1:]]
    path = np.zeros((count, 3))
    path[1:, :2] = -np.cumsum(steps, 0)[:, :2]
    return path


def _joints(body: BodyModel, betas: Array, poses: Array) -> Array:
    """(T, J, 3) joints of poses without translation."""
    values = torch.from_numpy(poses.astype(np.float32))
    shape = torch.from_numpy(np.tile(betas.astype(np.float32), (len(poses), 1)))
    nowhere = torch.zeros(len(poses), 3)
    parameters = PoseParameters(shape, values[:, 0], values[:, 1:], nowhere)
    return pose_joints(body, parameters).numpy().astype(np.float64)
