# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend: where poses are refined, and whether it can be reached."""

from __future__ import annotations

import bpy

from .. import session
from ..properties import backend_choice, evidence_words, preferences
from .layout import SidebarPanel, draw_words

_STATE_ICONS = {
    "off": "UNLINKED",
    "starting": "TIME",
    "connecting": "TIME",
    "connected": "LINKED",
    "lost": "ERROR",
}


class POSEFIT_PT_backend(SidebarPanel, bpy.types.Panel):
    """Where poses are refined, and whether it can be reached."""

    bl_label = "Backend"
    bl_idname = "POSEFIT_PT_backend"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        state = session.SESSION.connection
        draw_words(layout, state.words, _STATE_ICONS[state.kind])
        for words in state.details:
            draw_words(layout, words, "BLANK1")
        if state.kind == "connected":
            draw_words(layout, f"Evidence: {evidence_words(context.scene)}", "BLANK1")
        if state.kind in ("off", "lost"):
            layout.prop(preferences(context), "address", text="")
            layout.operator("posefit.connect", icon="LINKED")
            layout.prop(preferences(context), "backend_python", text="Python")
            _draw_local_backend(layout, context)
        else:
            layout.operator("posefit.disconnect", icon="UNLINKED")
        if session.SESSION.has_log:
            layout.operator("posefit.show_log", icon="TEXT")


def _draw_local_backend(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    choice = backend_choice(context)
    if choice.words:
        draw_words(layout, choice.words, "ERROR" if choice.is_problem else "INFO")
    layout.operator("posefit.start_backend", icon="PLAY")
    if choice.python is None:
        layout.operator("posefit.show_installer", icon="HELP")


CLASSES = (POSEFIT_PT_backend,)
