# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bone was found for each joint; the artist may choose others."""

from __future__ import annotations

import bpy

from ..rigs.rig_match import found_bones, property_of
from .layout import ArmaturePanel


class POSEFIT_PT_bones(ArmaturePanel, bpy.types.Panel):
    """The bone of each of SMPL's joints."""

    bl_label = "Bones"
    bl_idname = "POSEFIT_PT_bones"
    bl_parent_id = "POSEFIT_PT_body"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, armature = self.layout, context.object
        found = found_bones(armature)
        missing = sum(bone is None for bone in found.values())
        layout.label(
            text=f"{len(found) - missing} of {len(found)} joints have a bone",
            icon="ERROR" if missing else "CHECKMARK",
        )
        column = layout.column(align=True)
        for joint, bone in found.items():
            row = column.split(factor=0.55, align=True)
            row.alert = bone is None
            row.label(text=f"{joint}: {bone or 'missing'}", icon="NONE" if bone else "ERROR")
            row = row.row(align=True)
            row.prop_search(armature, property_of(joint), armature.data, "bones", text="")
            button = row.operator("posefit.use_active_bone", text="", icon="RESTRICT_SELECT_OFF")
            button.joint = joint
        layout.operator("posefit.match_bones", icon="LOOP_BACK")


CLASSES = (POSEFIT_PT_bones,)
