# SPDX-License-Identifier: Apache-2.0
"""Turns recordings into posefit's world, with z up, where the data set says what up is."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from posefit_shared.frames import apply, invert
from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix

from ..body import BodyModel
from ..parameters import parameters_of_sequence
from .recording import DatasetError, Recording

__all__ = ["upright"]

Array = npt.NDArray[np.float64]


def upright(recording: Recording, body: BodyModel) -> Recording:
    """The same recording in a world whose z axis points up.

    Args:
        recording: whose `up` is known.
        body: the model that its shape belongs to: SMPL turns about its pelvis, which is not the
            model's origin, so the translation depends on it.

    Returns:
        The recording with `world="gravity"`; what its camera sees is unchanged.

    Raises:
        DatasetError: the data set does not say where up is.
    """
    if recording.up is None:
        raise DatasetError(
            f"{recording.dataset} does not document where up is: {recording.name} stays in the "
            "data set's own world"
        )
    turn = _turn_to_z(np.array(recording.up))
    sequence = recording.sequence
    betas = parameters_of_sequence(sequence, body).betas.double().cpu().numpy()
    template = body.joint_template[0].double().cpu().numpy()
    pelvis = template + betas @ body.joint_shapedirs[0].double().cpu().numpy().T
    poses = sequence.poses.copy()
    poses[:, 0] = matrix_to_rotvec(turn[:3, :3] @ rotvec_to_matrix(poses[:, 0]))
    trans = apply(turn, sequence.trans + pelvis) - pelvis
    cameras = sequence.world_to_camera
    turned = sequence.replace(
        poses=poses,
        trans=trans.astype(np.float32),
        world_to_camera=None if cameras is None else cameras @ invert(turn),
        world="gravity",
    )
    joints = None if recording.joints is None else apply(turn, recording.joints)
    return dataclasses.replace(recording, sequence=turned, joints=joints, up=(0.0, 0.0, 1.0))


def _turn_to_z(up: Array) -> Array:
    """(4, 4) the shortest rotation that takes a direction to +z."""
    up = up / np.linalg.norm(up)
    axis = np.cross(up, [0.0, 0.0, 1.0])
    sine, cosine = np.linalg.norm(axis), up[2]
    if sine < 1e-9:
        axis, sine = np.array([1.0, 0.0, 0.0]), 1.0
        angle = 0.0 if cosine > 0 else np.pi
    else:
        angle = np.arctan2(sine, cosine)
    turn = np.eye(4)
    turn[:3, :3] = rotvec_to_matrix(axis / sine * angle)
    return turn
