# SPDX-License-Identifier: GPL-3.0-or-later
"""A body's motion in another world: moved rigidly, or to where another camera sees it (numpy only).

Posed vertices turn about the rest pelvis, which is not the origin, so `trans` takes up what the
pelvis itself is moved by.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from posefit_shared import rotations
from posefit_shared.sequence import Sequence, SequenceError

Array = npt.NDArray[np.float64]


def moved(motion: Sequence, turns: Array, rest_pelvis: Array) -> Sequence:
    """The motion after rigid transforms; its camera stays where it was.

    Args:
        motion: the motion.
        turns: (4, 4) or (T, 4, 4) from its world to the new one.
        rest_pelvis: (3,) the body's rest pelvis in SMPL's space, metres.
    """
    turns = np.broadcast_to(np.asarray(turns, np.float64), (len(motion), 4, 4))
    poses = motion.poses.astype(np.float64)
    root = turns[:, :3, :3] @ rotations.rotvec_to_matrix(poses[:, 0])
    poses[:, 0] = rotations.matrix_to_rotvec(root)
    pelvis = motion.trans + rest_pelvis
    trans = np.einsum("tij,tj->ti", turns[:, :3, :3], pelvis) + turns[:, :3, 3] - rest_pelvis
    return motion.replace(poses=poses.astype(np.float32), trans=trans.astype(np.float32))


def seen_from(motion: Sequence, world_to_camera: Array, rest_pelvis: Array) -> Sequence:
    """The motion in the world of another camera, which sees it as its own camera did.

    Args:
        motion: the motion, with a camera.
        world_to_camera: (T, 4, 4) of the other camera, OpenCV, metres.
        rest_pelvis: (3,) the body's rest pelvis in SMPL's space, metres.

    Raises:
        SequenceError: the motion has no camera.
    """
    if motion.world_to_camera is None:
        raise SequenceError("the motion came without a camera, so nothing says where it stands")
    turns = np.linalg.inv(world_to_camera) @ motion.world_to_camera
    there = moved(motion, turns, rest_pelvis)
    return there.replace(world_to_camera=world_to_camera, world="gravity")
