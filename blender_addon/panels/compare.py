# SPDX-License-Identifier: GPL-3.0-or-later
"""The original and the refined motion: compare, accept, reject."""

from __future__ import annotations

import bpy

from ..results import comparison
from .layout import SidebarPanel, draw_words


class POSEFIT_PT_compare(SidebarPanel, bpy.types.Panel):
    """The original and the refined motion: compare, accept, reject."""

    bl_label = "Compare"
    bl_idname = "POSEFIT_PT_compare"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        item = context.object
        return item is not None and item.posefit_comparison.refined is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        words = comparison.problem(context.object)
        if words:
            draw_words(layout, words, "ERROR")
            return
        settings = context.object.posefit_comparison
        layout.prop(settings, "amount")
        column = layout.column(align=True)
        for name in ("bones", "frames", "keys"):
            column.prop(settings, name, text="")
        if settings.keys == "FEWEST":
            column.prop(settings, "tolerance_mm")
        accept = layout.operator("posefit.accept", icon="CHECKMARK")
        for name in comparison.ACCEPT_SETTINGS:
            setattr(accept, name, getattr(settings, name))
        layout.operator("posefit.reject", icon="LOOP_BACK")


CLASSES = (POSEFIT_PT_compare,)
