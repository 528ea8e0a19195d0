# SPDX-License-Identifier: Apache-2.0
"""Results of GLAMR: `grecon/NAME_seedN.pkl`, people in one z-up world with the camera's way.

`person_data` has for each person `smpl_pose` (69 numbers), `smpl_beta`, `smpl_orient_world`,
`root_trans_world`, `cam_K`, the frames in which they `exist`, and `kp_2d_pred`, joints of the body
as GLAMR sees them; `cam_pose` is world to camera. The root's translation is not SMPL's: it is where
a regressor of GLAMR's own puts the pelvis on the posed mesh. That regressor is not in the file, but
its joints in the picture are: how far its pelvis lies from SMPL's, turning with the root, is the
one offset with which the body's joints fall on them.

Source: global_recon/models/global_recon_model.py, global_recon/run_demo.py and lib/models/smpl.py
    (`forward`, joints of `body26fk`) of github.com/NVlabs/GLAMR.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from posefit_shared.rotations import rotvec_to_matrix

from .building import Motion, person_number
from .content import Content
from .fields import Array, entry, full_pose, numbers, rotation_vectors
from .person import ImportedPerson, ImporterError, ImportOptions
from .worlds import posed_joints, rest_pelvis

__all__ = ["read_glamr", "recognises_glamr"]

_SEEN = {1: 1, 2: 2, 4: 4, 5: 5, 6: 12, 7: 7, 8: 8, 20: 16, 21: 17, 22: 18, 23: 19, 24: 20, 25: 21}
"""Places in `kp_2d_pred` of joints that are SMPL's own, and which these are."""


def recognises_glamr(content: Content) -> bool:
    """Whether a file holds people with GLAMR's world and camera."""
    return content.has("person_data", "cam_pose") and isinstance(content.data["person_data"], dict)


def read_glamr(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a file.

    Raises:
        ImporterError: an entry is not as GLAMR writes it.
    """
    people = content.data["person_data"]
    if not people:
        raise ImporterError(f"{content.path.name} has no people: run GLAMR again")
    cameras = numbers(content.data["cam_pose"], (-1, 4, 4), "cam_pose")
    return [_person(key, one, k, cameras, options) for k, (key, one) in enumerate(people.items())]


def _person(
    key: Any, data: Any, position: int, cameras: Array, options: ImportOptions
) -> ImportedPerson:
    name, count = f"person {key}", len(cameras)
    body = rotation_vectors(entry(data, "smpl_pose", name), 23, "smpl_pose")
    root = rotation_vectors(entry(data, "smpl_orient_world", name), 1, "smpl_orient_world")
    frames = np.flatnonzero(np.asarray(entry(data, "exist_frames", name)).reshape(-1))
    if not len(body) == len(root) == count or not len(frames) or frames[-1] >= count:
        raise ImporterError(f"{name} has {len(body)} poses for {count} cameras: check the file")
    poses = full_pose(root, body, "smpl")[frames]
    betas = numbers(entry(data, "smpl_beta", name), (count, 10), "smpl_beta")[frames]
    place = numbers(entry(data, "root_trans_world", name), (count, 3), "root_trans_world")[frames]
    lenses = numbers(entry(data, "cam_K", name), (count, 3, 3), "cam_K")[frames]
    seen = lenses[:, 0, 0] > 0  # there is none where the person was not detected
    if not seen.any():
        raise ImporterError(f"{name} was seen in no frame: run GLAMR again")
    intrinsics = lenses[seen][0]
    offset = np.zeros(3)
    note = "GLAMR's own pelvis is taken for SMPL's: the file has no joints in the picture"
    if "kp_2d_pred" in data:
        pixels = numbers(data["kp_2d_pred"], (count, 26, 2), "kp_2d_pred")[frames]
        offset = _pelvis_offset(
            poses[seen], betas[seen], place[seen], cameras[frames][seen], intrinsics,
            pixels[seen], options,
        )  # fmt: skip
        note = (
            f"GLAMR's own pelvis lies {1e3 * np.linalg.norm(offset):.0f} mm from SMPL's: found "
            "from its joints in the picture"
        )
    pelvis = place - np.einsum("tij,j->ti", rotvec_to_matrix(poses[:, 0]), offset)
    size = (round(2 * intrinsics[0, 2]), round(2 * intrinsics[1, 2]))
    motion = Motion(
        poses=poses, trans=pelvis - rest_pelvis(options, betas), betas=betas, label=name,
        frames=frames, intrinsics=intrinsics, world_to_camera=cameras[frames],
        image_size=options.image_size or size, world="gravity",
        notes=(note, "frames between detections are GLAMR's guess, as it filled them in"),
    )  # fmt: skip
    return motion.person(person_number(key, position), options)


def _pelvis_offset(
    poses: Array,
    betas: Array,
    place: Array,
    cameras: Array,
    intrinsics: Array,
    pixels: Array,
    options: ImportOptions,
) -> Array:
    """(3,) from SMPL's pelvis to GLAMR's, in the root's own frame, metres.

    In the camera a joint is a − B δ with the offset δ, so u (a − B δ)_z = (a − B δ)_x is linear.
    """
    joints = posed_joints(options, poses, betas)
    about = joints[:, list(_SEEN.values())] - joints[:, :1]
    rotation = cameras[:, :3, :3]
    a = np.einsum("tij,tkj->tki", rotation, place[:, None] + about) + cameras[:, None, :3, 3]
    b = (rotation @ rotvec_to_matrix(poses[:, 0]))[:, None]
    ideal = (pixels[:, list(_SEEN)] - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    rows = b[:, :, :2] - ideal[..., None] * b[:, :, 2:]
    sides = a[..., :2] - ideal * a[..., 2:]
    return np.linalg.lstsq(rows.reshape(-1, 3), sides.reshape(-1), rcond=None)[0]
