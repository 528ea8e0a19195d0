# SPDX-License-Identifier: GPL-3.0-or-later
"""The person's texture: painted from chosen frames, looked at on the body, painted over."""

from __future__ import annotations

import bpy

from .layout import ArmaturePanel, draw_words


class POSEFIT_PT_texture(ArmaturePanel, bpy.types.Panel):
    """The person's texture that refining compares with the footage."""

    bl_label = "Texture"
    bl_idname = "POSEFIT_PT_texture"
    bl_parent_id = "POSEFIT_PT_refine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        armature = context.object
        layout.prop(armature, "posefit_texture_frames")
        layout.operator("posefit.build_texture", icon="BRUSH_DATA")
        layout.template_ID(armature, "posefit_texture", open="image.open", text="")
        if armature.posefit_texture is None:
            draw_words(layout, "Without one, each frame gets its own", "INFO")
            return
        draw_words(layout, "Refining uses this image as it is painted now", "INFO")
        layout.prop(context.scene.posefit_review, "use_texture")
        layout.operator("posefit.paint_texture", icon="TPAINT_HLT")


CLASSES = (POSEFIT_PT_texture,)
