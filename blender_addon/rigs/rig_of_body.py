# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig that a body's armature will have, known before it is built."""

from __future__ import annotations

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared.body_files import BodyArrays

from . import rig
from .body_builder import armature_heads, bone_directions, rest_joints
from .bone_rotations import orthonormal


def rig_of_body(body: BodyArrays, betas: npt.ArrayLike) -> rig.RigFrames:
    """What reading the armature gives that `new_body.build_body` makes, without frames.

    Args:
        body: the model's arrays.
        betas: (N,) shape.

    Raises:
        SceneError: the body file's joints are not SMPL's.
    """
    names = body.joint_names
    match = rig.match_bones(names)
    parents = [None if parent < 0 else names[parent] for parent in body.parents.tolist()]
    rig.check_hierarchy(match, dict(zip(names, parents, strict=True)))
    mean = armature_heads(rest_joints(body, np.zeros(0)))
    directions = bone_directions(mean, body.parents.tolist())
    joints = rest_joints(body, betas)
    order = [names.index(bone) for bone in match.bones]
    rest = np.tile(np.eye(4), (len(order), 1, 1))
    turns = [bpy.types.Bone.MatrixFromAxisRoll(directions[joint], 0.0) for joint in order]
    rest[:, :3, :3] = orthonormal(np.array(turns))
    rest[:, :3, 3] = armature_heads(joints)[order]
    return rig.RigFrames(
        match=match,
        rest=rest,
        rest_axes=rig.find_rest_rotation(rest[:, :3, 3]),
        units_per_metre=rig.find_rest_scale(rest[:, :3, 3]),
        rest_pelvis=joints[0],
        scene_frames=(),
        object_matrices=np.eye(4)[None],
        above_root=np.eye(4)[None],
    )
