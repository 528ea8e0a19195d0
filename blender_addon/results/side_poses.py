# SPDX-License-Identifier: GPL-3.0-or-later
"""Where one motion's own keys put the SMPL bones, whichever action the armature shows.

Forward kinematics in numpy: nothing is assigned, evaluated or changed. Constraints and drivers on
the bones are left out, and so are scaled bones.
"""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np
import numpy.typing as npt

from ..keys.joint_channels import JointChannel, Side, joint_channels
from ..keys.rotation_values import to_matrices
from ..rigs.bone_rotations import chain_posed_matrices
from ..rigs.rig import find_rest_scale
from ..rigs.rig_match import match_armature

Array = npt.NDArray[np.float64]


def bone_turns(armature: bpy.types.Object, side: Side, frames: npt.ArrayLike) -> Array:
    """`matrix_basis` (T, J, 4, 4) of the SMPL bones in one motion, root first.

    Args:
        armature: whose bones they are.
        side: the original or the refined motion.
        frames: (T,) scene frames, whole or not.
    """
    joints = joint_channels(armature)
    return turns_of_values(joints, [side.values(joint, frames) for joint in joints])


def turns_of_values(joints: Sequence[JointChannel], values: Sequence[Array]) -> Array:
    """`matrix_basis` (T, J, 4, 4) of the SMPL bones from what their channels hold.

    Args:
        joints: `joint_channels` of the armature: the root's location, then each bone's rotation.
        values: (T, size) of each.
    """
    location, *turns = values
    count = len(location)
    basis = np.zeros((count, len(turns), 4, 4))
    basis[..., 3, 3] = 1.0
    basis[:, 0, :3, 3] = location
    modes = [joint.mode for joint in joints[1:]]
    for mode in set(modes):  # all bones of a mode at once: far fewer calls
        rows = [row for row, own in enumerate(modes) if own == mode]
        stacked = np.stack([turns[row] for row in rows], 1)
        matrices = to_matrices(stacked.reshape(-1, stacked.shape[-1]), mode)
        basis[:, rows, :3, :3] = matrices.reshape(count, len(rows), 3, 3)
    return basis


def posed_bones(
    armature: bpy.types.Object, turns: Array, above_root: npt.ArrayLike | None = None
) -> Array:
    """P (T, J, 4, 4) of the SMPL bones, armature space.

    Args:
        armature: whose bones they are.
        turns: (T, J, 4, 4) of `bone_turns`.
        above_root: (4, 4) P · R⁻¹ of the bone above the root; the identity without one.
    """
    posed = chain_posed_matrices(turns, rest_bones(armature), match_armature(armature).parents)
    return posed if above_root is None else np.asarray(above_root, np.float64) @ posed


def rest_bones(armature: bpy.types.Object) -> Array:
    """R (J, 4, 4) of the SMPL bones, armature space."""
    bones = armature.data.bones
    return np.stack(
        [np.array(bones[n].matrix_local, np.float64) for n in match_armature(armature).bones]
    )


def units_per_metre(armature: bpy.types.Object) -> float:
    """Armature units in a metre of the body; the object's scale is left out."""
    return find_rest_scale(rest_bones(armature)[:, :3, 3])
