# SPDX-License-Identifier: Apache-2.0
"""Motion moved between worlds: SMPL turns about its pelvis, so moving it needs the body.

`vertices = LBS + trans`, and the pelvis at rest is not the origin: a world that is turned by A
takes the root to A G and the translation to A (J₀ + trans) − J₀, with the rest pelvis J₀ of the
body that the motion will be used with.
"""

from __future__ import annotations

import numpy as np

from posefit_shared.body_files import read_body
from posefit_shared.frames import YUP_TO_ZUP, invert
from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix
from posefit_shared.sequence import Sequence
from posefit_shared.skeleton import SMPL_PARENTS

from .fields import Array
from .person import ImportOptions

__all__ = [
    "TO_Z_UP",
    "Y_DOWN_TO_Z_UP",
    "moved",
    "posed_joints",
    "rest_joints",
    "rest_pelvis",
    "turned",
]

Y_DOWN_TO_Z_UP: Array = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])
"""A y-down world's points in a z-up world: what an OpenCV camera calls forward is y."""
TO_Z_UP: dict[str, Array] = {"z": np.eye(4), "y": YUP_TO_ZUP, "-y": Y_DOWN_TO_Z_UP}
"""What turns a world so that z is up, by its own up axis."""


def rest_joints(options: ImportOptions, betas: Array) -> Array:
    """(J, 3) or (T, J, 3) joints at rest of the body that a motion will be used with.

    Args:
        options: name the body.
        betas: (N,) or (T, N) shape.

    Raises:
        BodyFileError: the body file cannot be used.
    """
    body = read_body(options.body, num_betas=betas.shape[-1] or 1)
    regressor = body.J_regressor.astype(np.float64)
    joints = regressor @ body.v_template.astype(np.float64)
    directions = np.einsum("jv,vcb->jcb", regressor, body.shapedirs.astype(np.float64))
    kept = min(directions.shape[-1], betas.shape[-1])
    return joints + np.einsum("jcb,...b->...jc", directions[..., :kept], betas[..., :kept])


def rest_pelvis(options: ImportOptions, betas: Array) -> Array:
    """(3,) or (T, 3) pelvis at rest of the body that a motion will be used with.

    Args:
        options: name the body.
        betas: (N,) or (T, N) shape.
    """
    return rest_joints(options, betas)[..., 0, :]


def posed_joints(options: ImportOptions, poses: Array, betas: Array) -> Array:
    """(T, 24, 3) SMPL's joints of the body that a motion will be used with, its pelvis at rest.

    Args:
        options: name the body.
        poses: (T, 24, 3) rotation vectors.
        betas: (N,) or (T, N) shape.
    """
    rest = np.broadcast_to(rest_joints(options, betas), (len(poses), 24, 3))
    turns = rotvec_to_matrix(poses)
    joints = rest.copy()
    for joint, parent in enumerate(SMPL_PARENTS[1:], start=1):
        bone = rest[:, joint] - rest[:, parent]
        joints[:, joint] = joints[:, parent] + np.einsum("tij,tj->ti", turns[:, parent], bone)
        turns[:, joint] = turns[:, parent] @ turns[:, joint]
    return joints


def moved(root: Array, trans: Array, pelvis: Array, transforms: Array) -> tuple[Array, Array]:
    """Root rotation vectors (T, 3) and translations (T, 3) after rigid transforms.

    Args:
        root: (T, 3) rotation vectors of the root.
        trans: (T, 3) SMPL's translation.
        pelvis: (3,) or (T, 3) pelvis at rest.
        transforms: (4, 4) or (T, 4, 4).
    """
    transforms = np.broadcast_to(transforms, (len(root), 4, 4))
    rotation = transforms[:, :3, :3]
    place = np.einsum("tij,tj->ti", rotation, trans + pelvis) + transforms[:, :3, 3]
    return matrix_to_rotvec(rotation @ rotvec_to_matrix(root)), place - pelvis


def turned(sequence: Sequence, turn: Array, options: ImportOptions) -> Sequence:
    """The sequence in a world turned so that z is up; its camera sees it as before.

    Args:
        sequence: whose world is to be turned.
        turn: (4, 4) rotation to the new world.
        options: name the body.
    """
    pelvis = rest_pelvis(options, sequence.betas.astype(np.float64))
    poses = sequence.poses.astype(np.float64)
    poses[:, 0], trans = moved(poses[:, 0], sequence.trans.astype(np.float64), pelvis, turn)
    cameras = sequence.world_to_camera
    return sequence.replace(
        poses=poses.astype(np.float32),
        trans=trans.astype(np.float32),
        world_to_camera=None if cameras is None else cameras @ invert(turn),
        world="gravity",
    )
