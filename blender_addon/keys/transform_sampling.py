# SPDX-License-Identifier: GPL-3.0-or-later
"""Transforms of objects and bones over many frames, from their curves, without `frame_set`.

Reading a curve costs a third of a microsecond; setting a frame evaluates the whole scene. Where
something else than its own curves moves a thing (constraints, drivers, NLA strips, odd parents),
`is_sampled` says so, and the caller reads frame by frame instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import bpy
import numpy as np
import numpy.typing as npt

from .fcurves import Channel, curves_of, sample
from .rotation_values import rotation_channel, to_matrices
from .strips import has_strips

Array = npt.NDArray[np.float64]
Curves = Mapping[Channel, bpy.types.FCurve]
Transformed = bpy.types.Object | bpy.types.PoseBone

_PLAIN_BONE = {
    "use_inherit_rotation": True,
    "inherit_scale": "FULL",
    "use_local_location": True,
    "use_relative_parent": False,
}


def is_object_sampled(item: bpy.types.Object) -> bool:
    """Whether an object and all above it move by nothing but their own curves."""
    if _constraints_act(item) or _is_layered(item) or _is_driven(item, ""):
        return False
    if any(value != 0 for value in (*item.delta_location, *item.delta_rotation_euler)):
        return False
    if item.parent is None:
        return True
    return item.parent_type == "OBJECT" and is_object_sampled(item.parent)


def are_bones_sampled(armature: bpy.types.Object, bone_names: list[str]) -> bool:
    """Whether these bones of an armature move by nothing but their own curves."""
    if _is_layered(armature) or _is_driven(armature, "pose.bones["):
        return False
    for name in bone_names:
        pose_bone = armature.pose.bones[name]
        if _constraints_act(pose_bone):
            return False
        bone = pose_bone.bone
        if any(getattr(bone, key) != value for key, value in _PLAIN_BONE.items()):
            return False
    return armature.data.pose_position == "POSE" and not _has_ik(armature)


def object_matrices(item: bpy.types.Object, frames: npt.ArrayLike) -> Array:
    """`matrix_world` (T, 4, 4) of an object over frames, for one that `is_object_sampled`."""
    own = basis_matrices(item, "", curves_of(item), frames)
    if item.parent is None:
        return own
    inverse = np.array(item.matrix_parent_inverse, np.float64)
    return object_matrices(item.parent, frames) @ inverse @ own


def bone_prefix(bone_name: str) -> str:
    """Where a pose bone's channels begin."""
    return f'pose.bones["{bpy.utils.escape_identifier(bone_name)}"].'


def basis_matrices(item: Transformed, prefix: str, curves: Curves, frames: npt.ArrayLike) -> Array:
    """`matrix_basis` (T, 4, 4) of an object or pose bone over frames.

    Args:
        item: whose present values stand for channels without a curve.
        prefix: what its channels' data paths begin with (`bone_prefix`, or nothing).
        curves: the curves that animate its ID.
        frames: (T,) scene frames.
    """
    rotation = _rotation_matrices(item, prefix, curves, frames)
    scale = _channels(item, "scale", prefix, curves, frames)
    result = np.zeros((len(rotation), 4, 4))
    result[:, :3, :3] = rotation * scale[:, None, :]
    result[:, :3, 3] = _channels(item, "location", prefix, curves, frames)
    result[:, 3, 3] = 1.0
    return result


def _rotation_matrices(
    item: Transformed, prefix: str, curves: Curves, frames: npt.ArrayLike
) -> Array:
    mode = item.rotation_mode
    values = _channels(item, rotation_channel(mode), prefix, curves, frames)
    return to_matrices(values, mode)


def _channels(
    item: Transformed, name: str, prefix: str, curves: Curves, frames: npt.ArrayLike
) -> Array:
    now = np.array(getattr(item, name), np.float64)
    values = np.tile(now, (len(np.asarray(frames)), 1))
    for index in range(len(now)):
        curve = curves.get((prefix + name, index))
        if curve is not None and not curve.mute:
            values[:, index] = sample(curve, frames)
    return values


def _constraints_act(item: Transformed) -> bool:
    return any(not c.mute and c.influence > 0 for c in item.constraints)


def _is_layered(owner: bpy.types.ID) -> bool:
    animation = owner.animation_data
    if animation is None:
        return False
    return has_strips(owner) or animation.action_influence != 1.0


def _is_driven(owner: bpy.types.ID, prefix: str) -> bool:
    animation = owner.animation_data
    transforms = ("location", "rotation", "scale")
    return animation is not None and any(
        curve.data_path.startswith(prefix or transforms) for curve in animation.drivers
    )


def _has_ik(armature: bpy.types.Object) -> bool:
    return any(
        c.type in {"IK", "SPLINE_IK"} and not c.mute
        for pose_bone in armature.pose.bones
        for c in pose_bone.constraints
    )
