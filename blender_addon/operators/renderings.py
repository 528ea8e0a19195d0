# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backend sees: its renderings of the body as images."""

from __future__ import annotations

import bpy

from ..jobs.rendering_job import MODALITIES, RenderingJob
from ..rigs.rig import SceneError
from .asking import AsksAboutArmature, wait_property


class POSEFIT_OT_show_renderings(AsksAboutArmature, bpy.types.Operator):
    """Render the body at this frame as the backend does, through the scene's camera, into images"""

    bl_idname = "posefit.show_renderings"
    bl_label = "Show Renderings"
    bl_options = {"REGISTER"}  # the images come with an operator of their own
    job_kind = RenderingJob.KIND

    modalities: bpy.props.EnumProperty(
        name="Pictures",
        description="Which pictures to make",
        items=[
            ("rgb", "Colour", "The body with its texture"),
            ("depth", "Depth", "Light is near, and a metre behind that is black"),
            ("normals", "Normals", "Which way the skin faces, in the camera's frame"),
            ("vertex_colors", "Vertex Colours", "Which point of the body is seen"),
            ("mask", "Mask", "Where the body is"),
        ],
        options={"ENUM_FLAG"},
        default=set(MODALITIES),
    )
    longest_side: bpy.props.IntProperty(
        name="Longest Side",
        description="How many pixels the pictures have along their longer side, at most",
        default=1024,
        min=16,
        max=4096,
    )
    wait: wait_property("the images are there")

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.ask(context, lambda: self._job(context.scene, context.object))

    def _job(self, scene: bpy.types.Scene, armature: bpy.types.Object) -> RenderingJob:
        job = RenderingJob(
            scene.name,
            armature.name,
            (scene.frame_current,),
            modalities=tuple(name for name in MODALITIES if name in self.modalities),
            longest_side=self.longest_side,
        )
        if not job.modalities:
            raise SceneError("no picture is chosen: choose at least one under Pictures")
        return job


CLASSES = (POSEFIT_OT_show_renderings,)
