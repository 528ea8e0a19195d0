# SPDX-License-Identifier: GPL-3.0-or-later
"""The body: which armature is selected, and ways to get one."""

from __future__ import annotations

import bpy

from ..rigs import body_builder
from ..rigs.library_link import check_can_be_animated
from ..rigs.rig import SceneError
from ..rigs.rig_match import match_armature
from .layout import SidebarPanel, draw_words


class POSEFIT_PT_body(SidebarPanel, bpy.types.Panel):
    """The body that is selected, or ways to get one."""

    bl_label = "Body"
    bl_idname = "POSEFIT_PT_body"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        item = context.object
        if item is None or item.type != "ARMATURE":
            layout.label(text="No armature is selected", icon="INFO")
        else:
            _draw_rig(layout, item)
        column = layout.column(align=True)
        column.operator("posefit.estimate", icon="OUTLINER_OB_ARMATURE")
        column.operator("posefit.import_sequence", icon="IMPORT")
        column.operator("posefit.add_body", icon="ARMATURE_DATA")
        column.operator("posefit.choose_body", icon="FILE_FOLDER")
        layout.operator("posefit.export_sequence", icon="EXPORT")


def _draw_rig(layout: bpy.types.UILayout, armature: bpy.types.Object) -> None:
    try:
        match = match_armature(armature)
        check_can_be_animated(armature, with_shape=False)
    except SceneError as error:
        draw_words(layout, str(error), "ERROR")
        return
    layout.label(text=f"{armature.name}: {match.model_type.upper()} rig", icon="CHECKMARK")
    if body_builder.BODY_KEY in armature:
        layout.operator("posefit.fit_joints", icon="BONE_DATA")


CLASSES = (POSEFIT_PT_body,)
