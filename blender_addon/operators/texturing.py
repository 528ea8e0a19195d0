# SPDX-License-Identifier: GPL-3.0-or-later
"""The person's texture: painted by the backend, repaired by the artist."""

from __future__ import annotations

import bpy

from .. import properties
from ..control.frame_list import read_frames
from ..jobs.rendering_job import show_image
from ..jobs.texture_job import TextureJob
from ..rigs import body_builder
from .asking import AsksAboutArmature, wait_property
from .on_armature import OnArmature


class POSEFIT_OT_build_texture(AsksAboutArmature, bpy.types.Operator):
    """Paint the person's texture from the footage at chosen frames, into an image of the file.
    The armature's mesh is not touched"""

    bl_idname = "posefit.build_texture"
    bl_label = "Build Texture"
    bl_options = {"REGISTER"}  # the image is written by an operator of its own
    job_kind = TextureJob.KIND

    resolution: bpy.props.IntProperty(
        name="Resolution", description="Texels along a side", default=1024, min=64, max=4096
    )
    wait: wait_property("the image is there")

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.ask(context, lambda: self._job(context.scene, context.object))

    def _job(self, scene: bpy.types.Scene, armature: bpy.types.Object) -> TextureJob:
        frames = read_frames(armature.posefit_texture_frames)
        frames = frames or tuple(properties.range_to_refine(scene))
        return TextureJob(scene.name, armature.name, frames, resolution=self.resolution)


class POSEFIT_OT_paint_texture(OnArmature, bpy.types.Operator):
    """Paint over the person's texture on the body (Texture Paint, canvas: this image). No material
    and no image is added to the mesh; leave it by the mode menu or Ctrl Tab"""

    bl_idname = "posefit.paint_texture"
    bl_label = "Paint Over"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not super().poll(context):
            return False
        if context.object.posefit_texture is None:
            cls.poll_message_set("Build a texture first, or choose an image")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        armature = context.object
        image = armature.posefit_texture
        show_image(context, [image])
        mesh = body_builder.mesh_of(armature)
        if mesh is None or body_builder.BODY_KEY not in armature or not mesh.data.uv_layers:
            self.report(
                {"ERROR"},
                f"{armature.name} has no mesh of posefit's own, whose texture coordinates are "
                f"known: paint over image {image.name} in the image editor",
            )
            return {"CANCELLED"}
        if mesh.name not in context.view_layer.objects or not mesh.visible_get():
            self.report({"ERROR"}, f"{mesh.name} is hidden: show it first")
            return {"CANCELLED"}
        settings = context.scene.tool_settings.image_paint
        settings.mode, settings.canvas = "IMAGE", image
        if armature.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")
        armature.select_set(False)
        mesh.select_set(True)
        context.view_layer.objects.active = mesh
        bpy.ops.object.mode_set(mode="TEXTURE_PAINT")
        return {"FINISHED"}


CLASSES = (POSEFIT_OT_build_texture, POSEFIT_OT_paint_texture)
