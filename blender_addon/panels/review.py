# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding bad frames: what became of them, the worst ones, and how they are drawn."""

from __future__ import annotations

import bpy

from ..results import comparison, key_marks, review
from .layout import SidebarPanel, draw_words

SHOWN_FRAMES = 5
"""How many of the worst frames are listed."""
_STATUS_WORDS = {
    "refined": ("refined", "refined"),
    "kept": ("left as it was", "left as they were"),
    "no_person": ("without a person", "without a person"),
    "failed": ("not computed", "not computed"),
}
"""What became of one frame, and of several."""


class POSEFIT_PT_review(SidebarPanel, bpy.types.Panel):
    """Finding bad frames of a refinement."""

    bl_label = "Review"
    bl_idname = "POSEFIT_PT_review"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return not review.problem(context.object)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        armature, settings = context.object, context.scene.posefit_review
        draw_words(layout, _counted_words(review.counts(armature)), "INFO")
        if words := review.misfit_words(armature):
            draw_words(layout, words, "BLANK1")
        column = layout.column(align=True)
        for one in review.worst(armature, SHOWN_FRAMES):
            icon = "ERROR" if one.confidence < settings.threshold else "CHECKMARK"
            words = review.doubt_words(one)
            column.operator("posefit.show_frame", text=words, icon=icon).frame = one.frame
        column = layout.column(align=True)
        column.prop(settings, "threshold")
        column.operator("posefit.previous_doubtful", icon="PREV_KEYFRAME")
        column.operator("posefit.next_doubtful", icon="NEXT_KEYFRAME")
        is_marked = key_marks.are_shown(armature)
        words = "Unmark Keys" if is_marked else "Mark Doubtful Keys"
        layout.operator(
            "posefit.mark_keys", text=words, icon="KEYTYPE_EXTREME_VEC"
        ).use_marks = not is_marked
        _draw_overlay(layout, settings, has_original=not comparison.problem(armature))


def _counted_words(counts: dict[str, int]) -> str:
    """How many frames ended in which way: `5 frames refined, 1 left as it was`."""
    found = []
    for status, number in counts.items():
        frames = "" if found else "frame " if number == 1 else "frames "
        one, several = _STATUS_WORDS[status]
        found.append(f"{number} {frames}{one if number == 1 else several}")
    return ", ".join(found)


def _draw_overlay(
    layout: bpy.types.UILayout, settings: bpy.types.PropertyGroup, has_original: bool
) -> None:
    column = layout.column(align=True)
    column.prop(settings, "colours", text="")
    if settings.colours == "CONFIDENCE":
        limit = settings.threshold
        draw_words(column, f"Blue is sure, pale {limit:.0%} sure, orange unsure", "COLOR")
    if settings.colours == "CHANGE":
        limit = settings.change_limit_mm
        words = f"Blue has not moved, pale by {limit / 2:g} mm, orange by {limit:g} mm or more"
        draw_words(column, words, "COLOR")
        column.prop(settings, "change_limit_mm")
    if settings.colours != "OFF":
        column.prop(settings, "opacity")
    column = layout.column(align=True)
    column.active = has_original  # once that is decided there is nothing to compare with
    column.prop(settings, "ghost", text="")
    column.prop(settings, "use_arrows", icon="EMPTY_SINGLE_ARROW")


CLASSES = (POSEFIT_PT_review,)
