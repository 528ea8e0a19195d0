# SPDX-License-Identifier: GPL-3.0-or-later
"""What may move: locked and stiff bones, pinned frames."""

from __future__ import annotations

import bpy

from ..control import artist_control
from ..rigs.rig import SceneError
from .layout import ArmaturePanel, draw_words

SHOWN_NAMES = 8
"""How many bones are named; the rest is counted."""


class POSEFIT_PT_control(ArmaturePanel, bpy.types.Panel):
    """What refining may not move, or only stiffly."""

    bl_label = "Control"
    bl_idname = "POSEFIT_PT_control"
    bl_parent_id = "POSEFIT_PT_refine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.prop(context.scene.posefit, "show_held")
        _draw_bones(self.layout, context.object, context.scene)
        _draw_frames(self.layout, context.object)


def _draw_bones(
    layout: bpy.types.UILayout, armature: bpy.types.Object, scene: bpy.types.Scene
) -> None:
    locked = artist_control.locked_bones(armature)
    stiff = artist_control.stiff_bones(armature)
    column = layout.column(align=True)
    column.operator("posefit.lock_bones", icon="LOCKED")
    column.operator("posefit.unlock_bones", icon="UNLOCKED")
    draw_words(layout, f"{len(locked)} bones locked{_named(locked)}", "DECORATE_LOCKED")
    column = layout.column(align=True)
    column.prop(scene.posefit, "stiffness")
    button = column.operator("posefit.set_stiffness", icon="MOD_SIMPLEDEFORM")
    button.stiffness = scene.posefit.stiffness
    words = [f"{name} (stiffness {factor:g})" for name, factor in stiff.items()]
    draw_words(layout, f"{len(stiff)} held more or less than usual{_named(words)}", "BLANK1")


def _draw_frames(layout: bpy.types.UILayout, armature: bpy.types.Object) -> None:
    try:
        words = f"{len(artist_control.pinned_frames(armature))} frames pinned"
        icon = "PINNED"
    except SceneError as error:
        words, icon = str(error), "ERROR"
    draw_words(layout, words, icon)
    layout.prop(armature, "posefit_pinned_frames", text="")
    column = layout.column(align=True)
    for frames, of_which in (("CURRENT", "Current Frame"), ("KEYS", "Selected Keys")):
        row = column.row(align=True)
        row.operator("posefit.pin_frames", text=f"Pin {of_which}").frames = frames
        row.operator("posefit.unpin_frames", text="Unpin").frames = frames
    column.operator("posefit.clear_pins", icon="X")


def _named(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f": {', '.join(names[:SHOWN_NAMES])}{more}"


CLASSES = (POSEFIT_PT_control,)
