# SPDX-License-Identifier: GPL-3.0-or-later
"""What all panels share: their place in the sidebar, and sentences in lines that fit."""

from __future__ import annotations

import bpy

USUAL_LENGTH, SHORTEST_LENGTH = 34, 16
"""Characters in a line of a sidebar as wide as Blender opens it, and the least ever."""
MARGIN_PIXELS, CHARACTER_PIXELS = 86, 6.0
"""What tabs, borders and an icon take, and what a rather wide character of Blender's font does."""

ICON_CHARACTERS = 4
"""How many more characters fit where no icon stands before them."""


class SidebarPanel:
    """Where posefit's panels are found."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "posefit"


class ArmaturePanel(SidebarPanel):
    """A panel about the active armature."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether an armature is active."""
        return context.object is not None and context.object.type == "ARMATURE"


def draw_words(layout: bpy.types.UILayout, words: str, icon: str) -> None:
    """A sentence in as many lines as it needs, the icon before the first, where it has one."""
    has_icon = icon != "NONE"
    column = layout.column(align=True)  # lines of one sentence lie closer than two sentences
    for line in wrapped(words, line_length() + (0 if has_icon else ICON_CHARACTERS)):
        column.label(text=line, icon=icon)
        icon = "BLANK1" if has_icon else "NONE"


def line_length() -> int:
    """How many characters fit beside an icon in the sidebar that is being drawn."""
    region = bpy.context.region
    if region is None:
        return USUAL_LENGTH
    width = region.width / bpy.context.preferences.system.ui_scale
    return max(SHORTEST_LENGTH, int((width - MARGIN_PIXELS) / CHARACTER_PIXELS))


def wrapped(text: str, length: int) -> list[str]:
    """Lines of at most so many characters; a longer word, such as a path, is cut."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
        while len(lines[-1]) > length:
            lines[-1:] = [lines[-1][:length], lines[-1][length:]]
    return lines
