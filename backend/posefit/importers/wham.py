# SPDX-License-Identifier: Apache-2.0
"""Results of WHAM: `wham_output.pkl` (joblib), a dictionary of people.

`pose` and `trans` are SMPL in the camera's frame; the camera is one of the picture's diagonal as
focal length and the middle as principal point, but the file does not say how large the picture is.
`pose_world` and `trans_world` are in a y-up world, where `trans_world` is the middle between the
hips (of a regressor of WHAM's own) and not SMPL's translation. There are no camera poses: the
camera of a frame is the one in which both motions coincide.

Source: demo.py, lib/models/smpl.py, lib/data/datasets/dataset_custom.py (`compute_cam_intrinsics`)
    and lib/vis/run_vis.py of github.com/yohanshin/WHAM.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from posefit_shared.frames import YUP_TO_ZUP
from posefit_shared.rotations import rotvec_to_matrix

from .building import Motion, person_number
from .cameras import IN_CAMERA, camera_between, diagonal_focal, pinhole
from .content import Content
from .fields import Array, entry, frame_numbers, numbers, rotation_vectors
from .person import ImportedPerson, ImporterError, ImportOptions
from .worlds import rest_joints, turned

__all__ = ["read_wham", "recognises_wham"]

_KEYS = {"pose", "trans", "betas", "frame_ids", "pose_world", "trans_world"}


def recognises_wham(content: Content) -> bool:
    """Whether a file holds people with motion in the camera and in a world."""
    data = content.data
    return isinstance(data, dict) and any(
        isinstance(one, dict) and set(one) >= _KEYS for one in data.values()
    )


def read_wham(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a file.

    Raises:
        ImporterError: an entry is not as WHAM writes it.
    """
    people = {key: one for key, one in content.data.items() if isinstance(one, dict) and one}
    if not people:
        raise ImporterError(f"{content.path.name} has no people: run WHAM again")
    return [_person(key, one, k, options) for k, (key, one) in enumerate(people.items())]


def _person(key: Any, data: Any, position: int, options: ImportOptions) -> ImportedPerson:
    name = f"person {key}"
    poses = rotation_vectors(entry(data, "pose", name), 24, "pose")
    count = len(poses)
    betas = numbers(entry(data, "betas", name), (-1, 10), "betas")
    motion = Motion(
        poses=poses,
        trans=numbers(entry(data, "trans", name), (count, 3), "trans"),
        betas=betas if len(betas) == count else betas[0],
        label=name,
        frames=frame_numbers(entry(data, "frame_ids", name), count, "frame_ids"),
    )
    number = person_number(key, position)
    size = options.image_size
    if size is None:
        note = "the file does not say how large the pictures are, so there is no camera: give the "
        return motion.person(number, options, notes=(note + "footage (--footage)",))
    lens = {"intrinsics": pinhole(diagonal_focal(size), size), "image_size": size}
    if options.world == "camera" or "pose_world" not in data:
        note = "motion in the camera's frame; WHAM's motion in the world was left out"
        return motion.person(number, options, world_to_camera=IN_CAMERA, notes=(note,), **lens)
    return _in_world(motion, data, number, lens, options)


def _in_world(
    motion: Motion, data: Any, number: int, lens: dict[str, Any], options: ImportOptions
) -> ImportedPerson:
    count = len(motion.poses)
    world = rotation_vectors(entry(data, "pose_world", motion.label), 24, "pose_world")
    hips = numbers(entry(data, "trans_world", motion.label), (count, 3), "trans_world")
    joints = rest_joints(options, motion.betas)
    pelvis = joints[..., 0, :]
    root_world, root_camera = (rotvec_to_matrix(poses[:, 0]) for poses in (world, motion.poses))
    pelvis_world = hips - _turned_by(root_world, joints[..., 1:3, :].mean(-2) - pelvis)
    cameras = camera_between(root_world, pelvis_world, root_camera, motion.trans + pelvis)
    person = motion.person(
        number,
        options,
        poses=world,
        trans=pelvis_world - pelvis,
        world_to_camera=cameras,
        notes=(
            "motion in WHAM's world, turned so that z is up; the file has no camera poses: each "
            "frame's camera is the one in which the world's motion and the camera's coincide",
            "WHAM places the middle of the hips: it is taken to be SMPL's hip joints' middle",
        ),
        **lens,
    )
    upright = turned(person.sequence, YUP_TO_ZUP, options)
    return ImportedPerson(upright, person.label, person.notes)


def _turned_by(rotations: Array, offset: Array) -> Array:
    return np.einsum("tij,tj->ti", rotations, np.broadcast_to(offset, (len(rotations), 3)))
