# SPDX-License-Identifier: GPL-3.0-or-later
"""Refining: ask for the current frame or a range, cancel, put results in place."""

from __future__ import annotations

import bpy

from posefit_shared.body_files import BodyFileError

from .. import artist_control, properties, session
from ..apply_refinement import apply_refinement
from ..rig import SceneError
from .on_armature import OnArmature


class _Refine(OnArmature):
    """What both refine operators share: they ask, and the answer is applied by `apply_result`."""

    wait: bpy.props.BoolProperty(
        name="Wait",
        description="Return only when the result is in place (for scripts; Blender does not "
        "respond until then)",
        options={"SKIP_SAVE", "HIDDEN"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not super().poll(context):
            return False
        if not session.SESSION.is_connected:
            cls.poll_message_set("Connect to a backend first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = properties.refine_settings(context.scene)
        try:
            frames = self.frames(context)
            job = session.SESSION.refine(context, context.object, frames, settings)
            if self.wait:
                session.SESSION.wait_for(job)
        except (SceneError, BodyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class POSEFIT_OT_refine_frame(_Refine, bpy.types.Operator):
    """Send the current frame to the backend and key the refined pose when it returns"""

    bl_idname = "posefit.refine_frame"
    bl_label = "Refine Frame"
    bl_options = {"REGISTER"}  # the reply is applied by its own operator, which is the undo step

    def frames(self, context: bpy.types.Context) -> list[int]:
        """The one frame that the scene is at."""
        return [context.scene.frame_current]


class POSEFIT_OT_refine_range(_Refine, bpy.types.Operator):
    """Send a range of frames to the backend and key the refined poses when they return"""

    bl_idname = "posefit.refine_range"
    bl_label = "Refine Range"
    bl_options = {"REGISTER"}

    def frames(self, context: bpy.types.Context) -> list[int]:
        """The range that the scene's settings name."""
        return list(properties.range_to_refine(context.scene))


class POSEFIT_OT_refine_keyframes(_Refine, bpy.types.Operator):
    """Refine only the frames on which keys of the armature's action are selected"""

    bl_idname = "posefit.refine_keyframes"
    bl_label = "Refine Keyframes"
    bl_options = {"REGISTER"}

    def frames(self, context: bpy.types.Context) -> list[int]:
        """The frames of the selected keys."""
        return artist_control.frames_to_take(context.object, "KEYS", context.scene)


class POSEFIT_OT_cancel(bpy.types.Operator):
    """Stop every refinement that is under way; nothing is changed"""

    bl_idname = "posefit.cancel"
    bl_label = "Cancel"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return session.SESSION.is_busy

    def execute(self, context: bpy.types.Context) -> set[str]:
        session.SESSION.cancel_all()
        return {"FINISHED"}


class POSEFIT_OT_apply_result(bpy.types.Operator):
    """Put a finished refinement in place, in a new action"""

    bl_idname = "posefit.apply_result"
    bl_label = "Refined Poses"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    job: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        refinement = session.SESSION.take_refinement(self.job)
        if refinement is None:
            return {"CANCELLED"}
        try:
            words = apply_refinement(context, refinement)
        except (SceneError, BodyFileError) as error:
            session.SESSION.settle(self.job, str(error), is_problem=True)
            self.report({"WARNING"}, str(error))
            return {"CANCELLED"}
        session.SESSION.settle(self.job, words)
        self.report({"INFO"}, words)
        return {"FINISHED"}


CLASSES = (
    POSEFIT_OT_refine_frame,
    POSEFIT_OT_refine_range,
    POSEFIT_OT_refine_keyframes,
    POSEFIT_OT_cancel,
    POSEFIT_OT_apply_result,
)
