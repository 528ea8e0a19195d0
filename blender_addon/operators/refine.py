# SPDX-License-Identifier: GPL-3.0-or-later
"""Refining: ask for the current frame or a range, put results in place."""

from __future__ import annotations

import bpy

from posefit_shared.body_files import BodyFileError

from .. import properties, session
from ..control import artist_control
from ..rigs.rig import SceneError
from .asking import wait_property
from .on_armature import OnArmature, chosen_armatures


class _Refine(OnArmature):
    """What all refine operators share: they ask, and the answer is applied by `apply_result`."""

    wait: wait_property("the result is in place")

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
        jobs, problems = [], []
        armatures = chosen_armatures(context)
        for armature in armatures:
            try:
                frames = self.frames(context.scene, armature)
                jobs.append(session.SESSION.refine(context, armature, frames, settings))
            except (SceneError, BodyFileError) as error:
                problems.append(f"{armature.name}: {error}" if armatures[1:] else str(error))
        if self.wait:
            problems += _wait_for(jobs)
        for words in problems:
            self.report({"WARNING" if jobs and not self.wait else "ERROR"}, words)
        return {"CANCELLED"} if problems and (self.wait or not jobs) else {"FINISHED"}


def _wait_for(jobs: list[session.RefineJob]) -> list[str]:
    """Wait for jobs one after the other; gives back what went wrong."""
    problems = []
    for job in jobs:
        try:
            session.SESSION.wait_for(job)
        except SceneError as error:
            problems.append(f"{job.label}: {error}")
    return problems


class POSEFIT_OT_refine_frame(_Refine, bpy.types.Operator):
    """Refine the current frame of the selected armatures; keys come when the backend answers"""

    bl_idname = "posefit.refine_frame"
    bl_label = "Refine Frame"
    bl_options = {"REGISTER"}  # the reply is applied by its own operator, which is the undo step

    def frames(self, scene: bpy.types.Scene, armature: bpy.types.Object) -> list[int]:
        """The one frame that the scene is at."""
        return [scene.frame_current]


class POSEFIT_OT_refine_range(_Refine, bpy.types.Operator):
    """Refine a range of frames of the selected armatures; keys come when the backend answers"""

    bl_idname = "posefit.refine_range"
    bl_label = "Refine Range"
    bl_options = {"REGISTER"}

    def frames(self, scene: bpy.types.Scene, armature: bpy.types.Object) -> list[int]:
        """The range that the scene's settings name."""
        return list(properties.range_to_refine(scene))


class POSEFIT_OT_refine_keyframes(_Refine, bpy.types.Operator):
    """Refine only the frames on which keys of the armature's action are selected"""

    bl_idname = "posefit.refine_keyframes"
    bl_label = "Refine Keyframes"
    bl_options = {"REGISTER"}

    def frames(self, scene: bpy.types.Scene, armature: bpy.types.Object) -> list[int]:
        """The frames of the armature's selected keys."""
        return artist_control.frames_to_take(armature, "KEYS", scene)


class POSEFIT_OT_apply_result(bpy.types.Operator):
    """Put what the backend sent in place: refined poses in a new action, or a new body"""

    bl_idname = "posefit.apply_result"
    bl_label = "Result in Place"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    job: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = session.SESSION.find_job(self.job)
        if not isinstance(job, session.PlacedJob) or not job.is_to_be_placed:
            return {"CANCELLED"}
        try:
            words = session.SESSION.place(context, job)
        except (SceneError, BodyFileError) as error:
            self.report({"WARNING"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, words)
        return {"FINISHED"}


CLASSES = (
    POSEFIT_OT_refine_frame,
    POSEFIT_OT_refine_range,
    POSEFIT_OT_refine_keyframes,
    POSEFIT_OT_apply_result,
)
