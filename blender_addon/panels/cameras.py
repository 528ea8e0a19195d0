# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cameras with footage a refinement looks through."""

from __future__ import annotations

import bpy

from ..scenes import more_cameras
from .layout import SidebarPanel, draw_words


class POSEFIT_PT_cameras(SidebarPanel, bpy.types.Panel):
    """The cameras whose footage a refinement is compared with."""

    bl_label = "Cameras"
    bl_idname = "POSEFIT_PT_cameras"
    bl_parent_id = "POSEFIT_PT_refine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        cameras = more_cameras.all_cameras(scene)
        if len(cameras) < 2:
            draw_words(layout, "Several cameras that filmed the same moment tell depth", "INFO")
        column = layout.column(align=True)
        for camera in cameras:
            if camera == scene.camera:
                column.label(text=f"{camera.name} (the scene's)", icon="OUTLINER_OB_CAMERA")
            elif camera.data.background_images:
                column.prop(camera, "posefit_is_view", text=camera.name)
            else:
                column.label(text=f"{camera.name}: no footage", icon="BLANK1")


CLASSES = (POSEFIT_PT_cameras,)
