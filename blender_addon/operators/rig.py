# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bones are SMPL's joints: choose one, or go back to what names say."""

from __future__ import annotations

import bpy

from ..rigs import rig_match
from .on_armature import OnArmature


class POSEFIT_OT_use_active_bone(OnArmature, bpy.types.Operator):
    """Take the active bone for this joint"""

    bl_idname = "posefit.use_active_bone"
    bl_label = "Use Active Bone"
    bl_options = {"REGISTER", "UNDO"}

    joint: bpy.props.StringProperty(name="Joint", description="The joint, as left_hip")

    def execute(self, context: bpy.types.Context) -> set[str]:
        armature = context.object
        bone = armature.data.bones.active
        known = rig_match.found_bones(armature)
        if bone is None or self.joint not in known:
            found = "no bone is active" if bone is None else f"there is no joint '{self.joint}'"
            self.report({"ERROR"}, f"{found}: choose a bone in pose mode, for one of the joints")
            return {"CANCELLED"}
        setattr(armature, rig_match.property_of(self.joint), bone.name)
        return {"FINISHED"}


class POSEFIT_OT_match_bones(OnArmature, bpy.types.Operator):
    """Forget which bones were chosen, and match all by their names again"""

    bl_idname = "posefit.match_bones"
    bl_label = "Match by Names"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        rig_match.forget_chosen(context.object)
        return {"FINISHED"}


CLASSES = (POSEFIT_OT_use_active_bone, POSEFIT_OT_match_bones)
