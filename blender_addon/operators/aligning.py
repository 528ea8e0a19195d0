# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion that was not shot with the footage: where and when it belongs."""

from __future__ import annotations

import math

import bpy

from posefit_shared.body_files import BodyFileError

from .. import session
from ..jobs.align_job import AlignJob
from ..rigs.rig import SceneError
from .on_armature import OnArmature

MOST_FRAMES = 100_000
"""The longest motion that is aligned."""


class POSEFIT_OT_align_to_footage(OnArmature, bpy.types.Operator):
    """Bring a motion that was not shot with the footage over the person in it: turn and move the
    armature, and find its Footage Offset. Poses and keys stay as they are"""

    bl_idname = "posefit.align_to_footage"
    bl_label = "Align to Footage"
    bl_options = {"REGISTER"}  # the armature is moved by an operator of its own

    search_seconds: bpy.props.FloatProperty(
        name="Search in Time",
        description="How many seconds earlier or later than its Footage Offset the motion may "
        "belong; 0 keeps the offset and finds the place alone",
        default=10.0,
        min=0.0,
        soft_max=120.0,
        max=3600.0,
    )
    person: bpy.props.IntProperty(
        name="Person",
        description="Which person of the footage; 1 is the largest",
        default=1,
        min=1,
        max=200,
    )
    wait: bpy.props.BoolProperty(
        name="Wait",
        description="Return only when the armature is in place (for scripts; Blender does not "
        "respond until then)",
        options={"SKIP_SAVE", "HIDDEN"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not super().poll(context):
            return False
        if not session.SESSION.knows(AlignJob.KIND):
            cls.poll_message_set(
                "This backend cannot align motion: update it"
                if session.SESSION.is_connected
                else "Connect to a backend first"
            )
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.use_property_split = True
        self.layout.prop(self, "search_seconds")
        self.layout.prop(self, "person")

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene, armature = context.scene, context.object
        rate = scene.render.fps / scene.render.fps_base
        frames = motion_frames(scene, armature)
        job = AlignJob(
            scene.name,
            armature.name,
            tuple(frames),
            search=round(self.search_seconds * rate),
            person=self.person - 1,
        )
        try:
            if len(frames) > MOST_FRAMES:
                raise SceneError(
                    f"the action of {armature.name} is {len(frames)} frames long, expected at most "
                    f"{MOST_FRAMES}: cut it first"
                )
            session.SESSION.ask_about(context, armature, job)
            if self.wait:
                session.SESSION.wait_for(job)
        except (SceneError, BodyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


def motion_frames(scene: bpy.types.Scene, armature: bpy.types.Object) -> range:
    """The frames of an armature's action; the scene's where it has none."""
    animation = armature.animation_data
    if animation is None or animation.action is None:
        return range(scene.frame_start, scene.frame_end + 1)
    first, last = animation.action.frame_range
    return range(math.floor(first), math.ceil(last) + 1)


CLASSES = (POSEFIT_OT_align_to_footage,)
