# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding bad frames: go to the next doubtful one, mark doubtful ones in the dope sheet."""

from __future__ import annotations

import bpy

from ..results import key_marks, review
from .on_armature import OnArmature


class _OnReviewed(OnArmature):
    """What operators on refined frames share."""

    armature_wanted = "Select the armature of a refined body"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether the active armature has frames to review."""
        if not super().poll(context):
            return False
        if words := review.problem(context.object):
            cls.poll_message_set(words)
            return False
        return True


class _GoToDoubtful(_OnReviewed):
    """What going to the next and to the previous doubtful frame share."""

    step = 1

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene = context.scene
        frame = review.doubtful_frame(scene, context.object, self.step)
        if frame is None:
            limit = f"{scene.posefit_review.threshold:.0%}"
            self.report({"INFO"}, f"All frames of {context.object.name} are {limit} sure or more")
            return {"CANCELLED"}
        scene.frame_set(frame)
        return {"FINISHED"}


class POSEFIT_OT_next_doubtful(_GoToDoubtful, bpy.types.Operator):
    """Go to the next frame of which the refinement is not sure; goes round at the end"""

    bl_idname = "posefit.next_doubtful"
    bl_label = "Next Doubtful Frame"
    bl_options = {"REGISTER", "UNDO_GROUPED"}
    bl_undo_group = "Frame Change"

    step = 1


class POSEFIT_OT_previous_doubtful(_GoToDoubtful, bpy.types.Operator):
    """Go to the last frame before this one of which the refinement is not sure; goes round"""

    bl_idname = "posefit.previous_doubtful"
    bl_label = "Previous Doubtful Frame"
    bl_options = {"REGISTER", "UNDO_GROUPED"}
    bl_undo_group = "Frame Change"

    step = -1


class POSEFIT_OT_show_frame(bpy.types.Operator):
    """Go to this frame"""

    bl_idname = "posefit.show_frame"
    bl_label = "Go to Frame"
    bl_options = {"REGISTER", "UNDO_GROUPED", "INTERNAL"}
    bl_undo_group = "Frame Change"

    frame: bpy.props.IntProperty(name="Frame", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.frame_set(self.frame)
        return {"FINISHED"}


class POSEFIT_OT_mark_keys(_OnReviewed, bpy.types.Operator):
    """Colour doubtful frames in the dope sheet: all their plain keys become Breakdowns, those of \
doubtful joints Extremes. Press again to make them plain"""

    bl_idname = "posefit.mark_keys"
    bl_label = "Mark Doubtful Keys"
    bl_options = {"REGISTER", "UNDO"}

    use_marks: bpy.props.BoolProperty(
        name="Marks", description="Mark them, or make marked keys plain again", default=True
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        if not self.use_marks:
            key_marks.hide(context.object)
            return {"FINISHED"}
        count = key_marks.show(context.object, context.scene.posefit_review.threshold)
        self.report({"INFO"}, f"{count} doubtful frames are marked in the dope sheet")
        return {"FINISHED"}


CLASSES = (
    POSEFIT_OT_next_doubtful,
    POSEFIT_OT_previous_doubtful,
    POSEFIT_OT_show_frame,
    POSEFIT_OT_mark_keys,
)
