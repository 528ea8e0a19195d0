# SPDX-License-Identifier: GPL-3.0-or-later
"""What all panels share: their place in the sidebar, and sentences in lines that fit."""

from __future__ import annotations

import bpy


class SidebarPanel:
    """Where posefit's panels are found."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "posefit"


def draw_words(layout: bpy.types.UILayout, words: str, icon: str) -> None:
    """A sentence in as many lines as it needs, the icon before the first."""
    for line in wrapped(words):
        layout.label(text=line, icon=icon)
        icon = "BLANK1"


def wrapped(text: str, width: int = 44) -> list[str]:
    """Lines short enough for the sidebar."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
