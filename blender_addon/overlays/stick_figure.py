# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion as lines from joint to joint, to be looked at before it is in place (numpy only)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from posefit_shared import rotations

from ..rigs.rig import RigFrames, find_rest_scale

Array = npt.NDArray[np.float64]


def joint_places(poses: npt.ArrayLike, trans: npt.ArrayLike, frames: RigFrames) -> Array:
    """Where a rig's joints are in a motion, with the proportions that the rig has.

    Args:
        poses: (T, J, 3) rotation vectors.
        trans: (T, 3) metres.
        frames: the rig, at the same T frames.

    Returns:
        (T, J, 3) in Blender's world.
    """
    heads = frames.rest[:, :3, 3]
    rest = heads / find_rest_scale(heads) @ frames.rest_axes  # SMPL's axes, metres
    local = rotations.rotvec_to_matrix(poses)
    turned, places = local.copy(), np.zeros(local.shape[:2] + (3,))
    places[:, 0] = np.asarray(trans, np.float64) + frames.rest_pelvis
    for joint, parent in enumerate(frames.match.parents):
        if parent >= 0:
            turned[:, joint] = turned[:, parent] @ local[:, joint]
            places[:, joint] = places[:, parent] + turned[:, parent] @ (rest[joint] - rest[parent])
    return places * frames.units_per_metre


def figure_lines(places: Array, parents: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """(T, 2 (J - 1), 3) ends of the lines from each joint's parent to it."""
    pairs = [end for joint, parent in enumerate(parents) if parent >= 0 for end in (parent, joint)]
    return places[:, pairs].astype(np.float32)
