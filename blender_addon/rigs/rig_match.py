# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bones of an armature are SMPL's joints: by their names, or as the artist chose.

What was chosen are plain properties of objects, one a joint: library overrides save those in every
Blender, and properties of a group they do not.
"""

from __future__ import annotations

import bpy

from .rig import RigMatch, SceneError, match_bones
from .rig_names import MODEL_TYPES, joint_keys, nearest_bones

EVERY_JOINT = tuple(dict.fromkeys(key for model in MODEL_TYPES for key in joint_keys(model)))
"""Joints of all models, by key."""


def match_armature(armature: bpy.types.Object | None) -> RigMatch:
    """The SMPL model that an armature poses, and its bones in joint order.

    Raises:
        SceneError: it is no SMPL armature; the message says what is missing.
    """
    if armature is None or armature.type != "ARMATURE":
        raise SceneError("select the armature of the body first")
    return match_bones(_names(armature), chosen_bones(armature))


def found_bones(armature: bpy.types.Object) -> dict[str, str | None]:
    """The bone of each joint of the model that fits best, by joint key; none where it lacks one."""
    model_type, bones = nearest_bones(_names(armature), chosen_bones(armature))
    return dict(zip(joint_keys(model_type), bones, strict=True))


def property_of(joint: str) -> str:
    """The property of objects that keeps which bone was chosen for a joint."""
    return f"posefit_bone_{joint}"


def chosen_bones(armature: bpy.types.Object) -> dict[str, str]:
    """The bones that the artist chose, by joint key."""
    # Scripts use this without the extension being registered: nothing can be chosen then.
    chosen = {joint: getattr(armature, property_of(joint), "") for joint in EVERY_JOINT}
    return {joint: bone for joint, bone in chosen.items() if bone}


def forget_chosen(armature: bpy.types.Object) -> None:
    """Take all bones as names say again."""
    for joint in chosen_bones(armature):
        setattr(armature, property_of(joint), "")


def attach() -> None:
    """Give every object the bones that are chosen for it."""
    for joint in EVERY_JOINT:
        chosen = bpy.props.StringProperty(
            name=joint.replace("_", " ").title(),
            description=f"The bone that is SMPL's {joint}; empty takes the one that names say",
            override={"LIBRARY_OVERRIDABLE"},
            options=set(),
        )
        setattr(bpy.types.Object, property_of(joint), chosen)


def detach() -> None:
    """Take them away again."""
    for joint in EVERY_JOINT:
        delattr(bpy.types.Object, property_of(joint))


def _names(armature: bpy.types.Object) -> tuple[str, ...]:
    return tuple(bone.name for bone in armature.data.bones)
