# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backend sees: its renderings of the body as images."""

from __future__ import annotations

import bpy

from posefit_shared.body_files import BodyFileError

from .. import session
from ..jobs.rendering_job import MODALITIES, RenderingJob
from ..rigs.rig import SceneError
from .on_armature import OnArmature


class POSEFIT_OT_show_renderings(OnArmature, bpy.types.Operator):
    """Render the body at this frame as the backend does, through the scene's camera, into images"""

    bl_idname = "posefit.show_renderings"
    bl_label = "Show Renderings"
    bl_options = {"REGISTER"}  # the images come with an operator of their own

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
    wait: bpy.props.BoolProperty(
        name="Wait",
        description="Return only when the images are there (for scripts; Blender does not "
        "respond until then)",
        options={"SKIP_SAVE", "HIDDEN"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether an armature is active, and a backend that renders is there."""
        if not super().poll(context):
            return False
        if not session.SESSION.knows(RenderingJob.KIND):
            cls.poll_message_set("Connect to a backend first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene, armature = context.scene, context.object
        job = RenderingJob(
            scene.name,
            armature.name,
            (scene.frame_current,),
            modalities=tuple(name for name in MODALITIES if name in self.modalities),
            longest_side=self.longest_side,
        )
        try:
            if not job.modalities:
                raise SceneError("no picture is chosen: choose at least one under Pictures")
            session.SESSION.ask_about(context, armature, job)
            if self.wait:
                session.SESSION.wait_for(job)
        except (SceneError, BodyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


CLASSES = (POSEFIT_OT_show_renderings,)
