# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar: draws the state that others keep, decides nothing."""

from __future__ import annotations

import bpy

from . import body_builder, comparison, session
from .properties import backend_choice, evidence_words, preferences
from .rig import SceneError, match_bones

_STATE_ICONS = {
    "off": "UNLINKED",
    "starting": "TIME",
    "connecting": "TIME",
    "connected": "LINKED",
    "lost": "ERROR",
}


class _Panel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "posefit"


class POSEFIT_PT_backend(_Panel, bpy.types.Panel):
    """Where poses are refined, and whether it can be reached."""

    bl_label = "Backend"
    bl_idname = "POSEFIT_PT_backend"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        state = session.SESSION.connection
        _draw_words(layout, state.words, _STATE_ICONS[state.kind])
        for words in state.details:
            _draw_words(layout, words, "BLANK1")
        if state.kind == "connected":
            _draw_words(layout, f"Evidence: {evidence_words(context.scene)}", "BLANK1")
        if state.kind in ("off", "lost"):
            layout.prop(preferences(context), "address", text="")
            layout.operator("posefit.connect", icon="LINKED")
            layout.prop(preferences(context), "backend_python", text="Python")
            _draw_local_backend(layout, context)
        else:
            layout.operator("posefit.disconnect", icon="UNLINKED")
        if session.SESSION.has_log:
            layout.operator("posefit.show_log", icon="TEXT")


class POSEFIT_PT_body(_Panel, bpy.types.Panel):
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
        column.operator("posefit.import_sequence", icon="IMPORT")
        column.operator("posefit.add_body", icon="ARMATURE_DATA")
        column.operator("posefit.choose_body", icon="FILE_FOLDER")
        layout.operator("posefit.export_sequence", icon="EXPORT")


class POSEFIT_PT_refine(_Panel, bpy.types.Panel):
    """What is refined, how, and how far it is."""

    bl_label = "Refine"
    bl_idname = "POSEFIT_PT_refine"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        settings = context.scene.posefit
        for line in missing_for_refinement(context):
            layout.label(text=line, icon="INFO")
        layout.operator("posefit.refine_frame", icon="KEYFRAME_HLT")
        column = layout.column(align=True)
        column.prop(settings, "use_scene_range")
        if not settings.use_scene_range:
            column.prop(settings, "frame_start")
            column.prop(settings, "frame_end")
        column.operator("posefit.refine_range", icon="KEYTYPE_KEYFRAME_VEC")
        _draw_jobs(layout)


class POSEFIT_PT_settings(_Panel, bpy.types.Panel):
    """How strongly poses are changed."""

    bl_label = "Settings"
    bl_idname = "POSEFIT_PT_settings"
    bl_parent_id = "POSEFIT_PT_refine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        settings = context.scene.posefit
        for name in ("displacement", "use_keypoints", "refine_shape", "refine_translation"):
            layout.prop(settings, name)
        layout.prop(settings, "prior_weight")
        layout.prop(settings, "smoothness")


class POSEFIT_PT_compare(_Panel, bpy.types.Panel):
    """The original and the refined motion: compare, accept, reject."""

    bl_label = "Compare"
    bl_idname = "POSEFIT_PT_compare"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        item = context.object
        return item is not None and item.posefit_comparison.refined is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        words = comparison.problem(context.object)
        if words:
            for line in _wrapped(words):
                layout.label(text=line)
            return
        settings = context.object.posefit_comparison
        layout.prop(settings, "amount")
        column = layout.column(align=True)
        for name in ("bones", "frames", "keys"):
            column.prop(settings, name, text="")
        if settings.keys == "FEWEST":
            column.prop(settings, "tolerance_mm")
        accept = layout.operator("posefit.accept", icon="CHECKMARK")
        for name in comparison.ACCEPT_SETTINGS:
            setattr(accept, name, getattr(settings, name))
        layout.operator("posefit.reject", icon="LOOP_BACK")


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


def _draw_local_backend(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    choice = backend_choice(context)
    if choice.words:
        _draw_words(layout, choice.words, "ERROR" if choice.is_problem else "INFO")
    layout.operator("posefit.start_backend", icon="PLAY")
    if choice.python is None:
        layout.operator("posefit.show_installer", icon="HELP")


def _draw_rig(layout: bpy.types.UILayout, armature: bpy.types.Object) -> None:
    try:
        match = match_bones(bone.name for bone in armature.data.bones)
    except SceneError as error:
        for line in _wrapped(str(error)):
            layout.label(text=line, icon="ERROR" if line == _wrapped(str(error))[0] else "BLANK1")
        return
    layout.label(text=f"{armature.name}: {match.model_type.upper()} rig", icon="CHECKMARK")
    if body_builder.BODY_KEY in armature:
        layout.operator("posefit.fit_joints", icon="BONE_DATA")


def _draw_jobs(layout: bpy.types.UILayout) -> None:
    for job in session.SESSION.jobs:
        box = layout.box().column()
        box.use_property_split = False
        if job.is_open:
            box.progress(factor=job.fraction, type="BAR", text=f"{job.label}: {job.words}")
        else:
            icon = "ERROR" if job.is_problem else "CHECKMARK"
            for line in _wrapped(f"{job.label}: {job.words}"):
                box.label(text=line, icon=icon)
                icon = "BLANK1"
    if session.SESSION.is_busy:
        layout.operator("posefit.cancel", icon="X")


def _draw_words(layout: bpy.types.UILayout, words: str, icon: str) -> None:
    """A sentence in as many lines as it needs, the icon before the first."""
    for line in _wrapped(words):
        layout.label(text=line, icon=icon)
        icon = "BLANK1"


def _wrapped(text: str, width: int = 44) -> list[str]:
    """Lines short enough for the sidebar."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


CLASSES = (
    POSEFIT_PT_backend,
    POSEFIT_PT_body,
    POSEFIT_PT_refine,
    POSEFIT_PT_settings,
    POSEFIT_PT_compare,
)
