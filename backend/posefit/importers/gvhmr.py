# SPDX-License-Identifier: Apache-2.0
"""Results of GVHMR: `hmr4d_results.pt` of one person.

`smpl_params_incam` and `smpl_params_global` are SMPL-X without hands (`body_pose` of 21 joints) in
the camera's frame and in a y-up world; `K_fullimg` are the intrinsics, with the principal point in
the picture's middle. There are no camera poses: the camera of a frame is the one in which both
motions coincide. GVHMR copies its video to 30 frames a second first.

Source: tools/demo/demo.py, hmr4d/model/gvhmr/gvhmr_pl_demo.py, hmr4d/utils/geo/hmr_cam.py of
    github.com/zju3dv/GVHMR.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from posefit_shared.frames import YUP_TO_ZUP
from posefit_shared.rotations import rotvec_to_matrix

from .building import Motion
from .cameras import IN_CAMERA, camera_between
from .content import Content
from .fields import Array, entry, full_pose, numbers, rotation_vectors
from .person import ImportedPerson, ImportOptions
from .worlds import rest_pelvis, turned

__all__ = ["read_gvhmr", "recognises_gvhmr"]

_NOTE = "SMPL-X without hands and face: fingers, jaw and eyes are at rest"


def recognises_gvhmr(content: Content) -> bool:
    """Whether a file holds motion in the camera and in a world."""
    return content.has("smpl_params_incam", "K_fullimg")


def read_gvhmr(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The person of a file.

    Raises:
        ImporterError: an entry is not as GVHMR writes it.
    """
    data = content.data
    poses, trans, betas = _motion(data["smpl_params_incam"], "smpl_params_incam")
    intrinsics = numbers(data["K_fullimg"], (-1, 3, 3), "K_fullimg")
    if len(intrinsics) != len(poses) or np.ptp(intrinsics, axis=0).max() < 1e-6:
        intrinsics = intrinsics[0]
    middle = intrinsics.reshape(-1, 3, 3)[0, :2, 2]
    incam = Motion(
        poses=poses,
        trans=trans,
        betas=betas,
        label="person",
        intrinsics=intrinsics,
        world_to_camera=IN_CAMERA,
        image_size=options.image_size or (round(2 * middle[0]), round(2 * middle[1])),
        model_type="smplx",
        notes=(_NOTE,),
    )
    if options.world == "camera" or "smpl_params_global" not in data:
        note = "motion in the camera's frame; GVHMR's motion in the world was left out"
        return [incam.person(0, options, notes=(_NOTE, note))]
    return [_in_world(incam, data["smpl_params_global"], options)]


def _in_world(incam: Motion, data: Any, options: ImportOptions) -> ImportedPerson:
    poses, trans, betas = _motion(data, "smpl_params_global")
    pelvis = rest_pelvis(options, betas)
    cameras = camera_between(
        rotvec_to_matrix(poses[:, 0]),
        trans + pelvis,
        rotvec_to_matrix(incam.poses[:, 0]),
        incam.trans + rest_pelvis(options, incam.betas),
    )
    note = (
        "motion in GVHMR's world, turned so that z is up; the file has no camera poses: each "
        "frame's camera is the one in which the world's motion and the camera's coincide"
    )
    person = incam.person(
        0, options, poses=poses, trans=trans, betas=betas, world_to_camera=cameras,
        notes=(_NOTE, note),
    )  # fmt: skip
    return ImportedPerson(turned(person.sequence, YUP_TO_ZUP, options), person.label, person.notes)


def _motion(data: Any, name: str) -> tuple[Array, Array, Array]:
    """Poses (T, 55, 3), translations (T, 3) and betas (T, N)."""
    root = rotation_vectors(entry(data, "global_orient", name), 1, "global_orient")
    body = rotation_vectors(entry(data, "body_pose", name), 21, "body_pose")
    poses = full_pose(root, body, "smplx")
    for key, first, count in (("left_hand_pose", 25, 15), ("right_hand_pose", 40, 15)):
        hand = data.get(key)
        if hand is not None and np.asarray(hand).size == len(poses) * count * 3:
            poses[:, first : first + count] = rotation_vectors(hand, count, key)
    trans = numbers(entry(data, "transl", name), (len(poses), 3), "transl")
    betas = numbers(entry(data, "betas", name), (-1, 10), "betas")
    return poses, trans, np.broadcast_to(betas, (len(poses), 10))
