# SPDX-License-Identifier: Apache-2.0
"""Where joints are in people: MakeHuman's pivots, put right where they wander.

MakeHuman's rig moves some pivots against the body that they turn: the chest's (Spine3) lies 47 mm
further forward in an average woman than in an average man, whose back differs by 20 mm and whose
front by 8 mm the other way; the knee's slides along the leg with stature. A spine keeps its
distance to the back, and a knee stays in the knee, so these joints are tied to skin rings instead.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from posefit_shared.skeleton import SMPL_JOINT_NAMES

__all__ = ["TIED_JOINTS", "anatomical_joints"]

Array = npt.NDArray[np.float64]

TIED_JOINTS = ("Spine1", "Spine2", "Spine3", "L_Knee", "R_Knee")
"""Joints that are defined by the skin around them."""

_RING_HALF_HEIGHT_M = 0.02
_BACK_HALF_WIDTH_M = 0.05


def anatomical_joints(
    vertices: npt.NDArray[np.float32], rig_joints: Array, lbs_weights: Array
) -> Array:
    """Joints of T-posed people, the wandering ones tied to the skin.

    A tied joint lies at the middle of its ring plus a fixed offset in proportion to stature. A
    knee's ring goes all around; a spine joint's is the strip of back at its height.

    Args:
        vertices: (N, V, 3) T-posed bodies, metres.
        rig_joints: (N, 24, 3) MakeHuman's pivots.
        lbs_weights: (V, 24) skinning weights.

    Returns:
        (N, 24, 3); on the mean body the same as `rig_joints`.
    """
    mean_vertices, mean_joints = vertices.mean(axis=0), rig_joints.mean(axis=0)
    stature = np.ptp(vertices[:, :, 1], axis=1)
    scale = (stature / stature.mean())[:, None]
    joints = rig_joints.copy()
    for name in TIED_JOINTS:
        joint = SMPL_JOINT_NAMES.index(name)
        ring = _ring(name, mean_vertices, mean_joints[joint], lbs_weights)
        middles = vertices[:, ring].mean(axis=1)
        joints[:, joint] = middles + scale * (mean_joints[joint] - middles.mean(axis=0))
    return joints


def _ring(name: str, vertices: Array, joint: Array, lbs_weights: Array) -> npt.NDArray[np.int64]:
    is_level = np.abs(vertices[:, 1] - joint[1]) < _RING_HALF_HEIGHT_M
    if name.endswith("Knee"):
        is_near = (np.abs(vertices[:, 0] - joint[0]) < 0.12) & (vertices[:, 0] * joint[0] > 0)
    else:
        arms = [SMPL_JOINT_NAMES.index(f"{side}_{part}") for side in "LR"
                for part in ("Shoulder", "Elbow", "Wrist", "Hand")]  # fmt: skip
        is_trunk = lbs_weights[:, arms].sum(axis=1) < 0.1
        is_back = (vertices[:, 2] < joint[2]) & (np.abs(vertices[:, 0]) < _BACK_HALF_WIDTH_M)
        is_near = is_trunk & is_back
    ring = np.flatnonzero(is_level & is_near)
    if len(ring) < 6:
        raise RuntimeError(f"found {len(ring)} skin vertices around {name}, expected a ring")
    return ring
