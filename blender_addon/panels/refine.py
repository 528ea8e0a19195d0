# SPDX-License-Identifier: GPL-3.0-or-later
"""Refining: what is refined, and how."""

from __future__ import annotations

import bpy

from .. import session
from ..scenes import other_characters
from .layout import ArmaturePanel, SidebarPanel, draw_words

_MAY_MOVE = (
    "refine_translation",
    "refine_root_rotation",
    "refine_hands",
    "refine_shape",
    "refine_focal",
)


class POSEFIT_PT_refine(SidebarPanel, bpy.types.Panel):
    """What is refined, and how."""

    bl_label = "Refine"
    bl_idname = "POSEFIT_PT_refine"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.posefit
        for words in missing_for_refinement(context):
            draw_words(layout, words, "INFO")
        layout.operator("posefit.refine_frame", icon="KEYFRAME_HLT")
        column = layout.column(align=True)
        column.prop(settings, "use_scene_range")
        if not settings.use_scene_range:
            column.prop(settings, "frame_start")
            column.prop(settings, "frame_end")
        column.operator("posefit.refine_range", icon="KEYTYPE_KEYFRAME_VEC")
        layout.operator("posefit.refine_keyframes", icon="KEYFRAME")
        layout.operator("posefit.show_renderings", icon="IMAGE_DATA")


class POSEFIT_PT_settings(SidebarPanel, bpy.types.Panel):
    """How strongly poses are changed."""

    bl_label = "Settings"
    bl_idname = "POSEFIT_PT_settings"
    bl_parent_id = "POSEFIT_PT_refine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.posefit
        for name in ("displacement", "use_keypoints"):
            layout.prop(settings, name)
        layout.prop(settings, "use_others", text=_others_words(context))
        for name in ("influence", "prior_weight", "smoothness", "contacts"):
            layout.prop(settings, name)
        layout.label(text="What may move:")
        for name in _MAY_MOVE:
            layout.prop(settings, name)


class POSEFIT_PT_other_take(ArmaturePanel, bpy.types.Panel):
    """Motion that was not shot with the footage."""

    bl_label = "Motion of Another Take"
    bl_idname = "POSEFIT_PT_other_take"
    bl_parent_id = "POSEFIT_PT_refine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.operator("posefit.align_to_footage", icon="CON_FOLLOWTRACK")
        layout.prop(context.object, "posefit_footage_offset")


def _others_words(context: bpy.types.Context) -> str:
    """The setting's name, and how many characters it is about."""
    item = context.object
    if item is None or item.type != "ARMATURE":
        return "Other Characters"
    count = len(other_characters.others_of(context.scene, context.view_layer, item))
    return f"Other Characters ({count})"


def missing_for_refinement(context: bpy.types.Context) -> list[str]:
    """What is still missing before a frame can be refined, in words."""
    missing = []
    if not session.SESSION.is_connected:
        missing.append("Connect to a backend above")
    if context.object is None or context.object.type != "ARMATURE":
        missing.append("Select the armature of a body")
    camera = context.scene.camera
    if camera is None or camera.type != "CAMERA":
        missing.append("Add the camera that filmed the footage")
    elif not camera.data.background_images and context.scene.active_clip is None:
        missing.append("Give the camera its footage (Background Images)")
    return missing


CLASSES = (POSEFIT_PT_refine, POSEFIT_PT_settings, POSEFIT_PT_other_take)
