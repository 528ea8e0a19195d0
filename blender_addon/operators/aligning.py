# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion that was not shot with the footage: where and when it belongs."""

from __future__ import annotations

import math

import bpy

from ..jobs.align_job import AlignJob
from ..rigs.rig import SceneError
from .asking import AsksAboutArmature, wait_property

MOST_FRAMES = 100_000
"""The longest motion that is aligned."""


class POSEFIT_OT_align_to_footage(AsksAboutArmature, bpy.types.Operator):
    """Bring a motion that was not shot with the footage over the person in it: turn and move the
    armature, and find its Footage Offset. Poses and keys stay as they are"""

    bl_idname = "posefit.align_to_footage"
    bl_label = "Align to Footage"
    bl_options = {"REGISTER"}  # the armature is moved by an operator of its own
    job_kind = AlignJob.KIND
    too_old = "This backend cannot align motion: update it"

    search_seconds: bpy.props.FloatProperty(
        name="Search in Time",
        description="How many seconds earlier or later than its Footage Offset the motion may "
        "belong; 0 keeps the offset and finds the place alone",
        default=10.0,
        min=0.0,
        soft_max=120.0,
        max=3600.0,
        subtype="TIME_ABSOLUTE",
    )
    person: bpy.props.IntProperty(
        name="Person",
        description="Which person of the footage; 1 is the largest",
        default=1,
        min=1,
        max=200,
    )
    wait: wait_property("the armature is in place")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, confirm_text="Align")

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.use_property_split = True
        self.layout.prop(self, "search_seconds")
        self.layout.prop(self, "person")

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.ask(context, lambda: self._job(context.scene, context.object))

    def _job(self, scene: bpy.types.Scene, armature: bpy.types.Object) -> AlignJob:
        rate = scene.render.fps / scene.render.fps_base
        frames = motion_frames(scene, armature)
        if len(frames) > MOST_FRAMES:
            raise SceneError(
                f"the action of {armature.name} is {len(frames)} frames long, expected at most "
                f"{MOST_FRAMES}: cut it first"
            )
        return AlignJob(
            scene.name,
            armature.name,
            tuple(frames),
            search=round(self.search_seconds * rate),
            person=self.person - 1,
        )


def motion_frames(scene: bpy.types.Scene, armature: bpy.types.Object) -> range:
    """The frames of an armature's action; the scene's where it has none."""
    animation = armature.animation_data
    if animation is None or animation.action is None:
        return range(scene.frame_start, scene.frame_end + 1)
    first, last = animation.action.frame_range
    return range(math.floor(first), math.ceil(last) + 1)


CLASSES = (POSEFIT_OT_align_to_footage,)
