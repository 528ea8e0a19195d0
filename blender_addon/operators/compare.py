# SPDX-License-Identifier: GPL-3.0-or-later
"""Deciding on a refinement: accept it, or go back to the original."""

from __future__ import annotations

import bpy

from posefit_shared.body_files import BodyFileError

from .. import session
from ..results import comparison
from ..results.accept_refinement import accept
from ..results.accepted_keys import AcceptOptions
from ..rigs.rig import SceneError
from .on_armature import OnArmature, selected_bones


class _OnRefined(OnArmature):
    """What both operators share."""

    armature_wanted = "Select the armature of a refined body"


class POSEFIT_OT_accept(_OnRefined, bpy.types.Operator):
    """Make the refined motion the armature's own; the original stays in the file as an action"""

    bl_idname = "posefit.accept"
    bl_label = "Accept"
    bl_options = {"REGISTER", "UNDO"}

    bones: bpy.props.EnumProperty(**comparison.BONES)
    frames: bpy.props.EnumProperty(**comparison.FRAMES)
    keys: bpy.props.EnumProperty(**comparison.KEYS)
    tolerance_mm: bpy.props.FloatProperty(**comparison.TOLERANCE_MM)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Have it done bit by bit; putting the whole in place is the undo step."""
        if bpy.app.background or context.object.posefit_comparison.is_over_strips:
            return self.execute(context)
        try:
            session.SESSION.accept(context, context.object, self._options(context))
        except SceneError as error:
            self.report({"ERROR"}, str(error))
        return {"CANCELLED"}  # nothing is changed yet: no undo step

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            words = accept(context.object, self._options(context))
        except SceneError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, words)
        return {"FINISHED"}

    def _options(self, context: bpy.types.Context) -> AcceptOptions:
        return AcceptOptions(
            bones=selected_bones(context.object) if self.bones == "SELECTED" else None,
            frames=_frames(context.scene, self.frames),
            keys=self.keys,
            tolerance_mm=self.tolerance_mm,
        )


class POSEFIT_OT_reject(_OnRefined, bpy.types.Operator):
    """Go back to the original action and remove the refined one"""

    bl_idname = "posefit.reject"
    bl_label = "Reject"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            words = comparison.reject(context, context.object)
        except (SceneError, BodyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, words)
        return {"FINISHED"}


def _frames(scene: bpy.types.Scene, which: str) -> tuple[int, int] | None:
    if which == "ALL":
        return None
    if which == "CURRENT":
        return scene.frame_current, scene.frame_current
    if scene.use_preview_range:
        return scene.frame_preview_start, scene.frame_preview_end
    return scene.frame_start, scene.frame_end


CLASSES = (POSEFIT_OT_accept, POSEFIT_OT_reject)
