# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend: where poses are refined, and whether it can be reached."""

from __future__ import annotations

import bpy

from posefit_shared.addresses import needs_keys

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
        draw_words(layout, state.words[:1].upper() + state.words[1:], _STATE_ICONS[state.kind])
        for words in state.details:
            draw_words(layout, words, "BLANK1")
        if state.kind in ("off", "lost"):
            _draw_local_backend(layout, context)
            layout.separator()
            column = layout.column(align=True)
            column.label(text="Or one that runs already:")
            chosen = preferences(context)
            column.prop(chosen, "address", text="")
            if chosen.key_file or needs_keys(chosen.address):
                column.prop(chosen, "key_file")
            column.operator("posefit.connect", icon="LINKED")
        else:
            layout.operator("posefit.disconnect", icon="UNLINKED")
        if session.SESSION.has_log and state.kind != "connected":
            layout.operator("posefit.show_log", icon="TEXT")


class POSEFIT_PT_backend_details(SidebarPanel, bpy.types.Panel):
    """What else is known of the backend."""

    bl_label = "Details"
    bl_idname = "POSEFIT_PT_backend_details"
    bl_parent_id = "POSEFIT_PT_backend"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return session.SESSION.connection.kind == "connected"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        for words in session.SESSION.connection.more:
            draw_words(layout, words, "NONE")
        draw_words(layout, f"Evidence: {evidence_words(context.scene)}", "NONE")
        if session.SESSION.has_log:
            layout.operator("posefit.show_log", icon="TEXT")


def _draw_local_backend(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    choice = backend_choice(context)
    if choice.words:
        draw_words(layout, choice.words, "ERROR" if choice.is_problem else "INFO")
    column = layout.column(align=True)
    column.prop(preferences(context), "backend_python", text="Python")
    column.operator("posefit.start_backend", icon="PLAY")
    if choice.python is None:
        layout.operator("posefit.show_installer", icon="HELP")


CLASSES = (POSEFIT_PT_backend, POSEFIT_PT_backend_details)
