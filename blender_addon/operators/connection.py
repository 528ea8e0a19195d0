# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend: connect to one, start one here, leave it, read its log."""

from __future__ import annotations

import tempfile
from pathlib import Path

import bpy

from posefit_shared.key_files import KeyFileError

from .. import session
from ..connection.backend_link import ConnectError
from ..connection.backend_process import BackendStartError
from ..connection.installed_backend import note_path
from ..properties import ROOT_PACKAGE, backend_choice, chosen_keys, preferences

INSTALL_STEPS = Path(__file__).parents[1] / "install_backend.txt"
"""How to install a backend, for the artist."""


class POSEFIT_OT_connect(bpy.types.Operator):
    """Connect to the backend at the address above"""

    bl_idname = "posefit.connect"
    bl_label = "Connect"

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            session.SESSION.connect(preferences(context).address, chosen_keys(context))
        except (ConnectError, KeyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class POSEFIT_OT_start_backend(bpy.types.Operator):
    """Start a backend on this machine; it stops with Blender"""

    bl_idname = "posefit.start_backend"
    bl_label = "Start Here"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if backend_choice(context).python is None:
            cls.poll_message_set("Install a backend, or choose the Python that has posefit")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        choice = backend_choice(context)
        if choice.python is None:
            self.report({"ERROR"}, choice.words)
            return {"CANCELLED"}
        try:
            session.SESSION.start_backend(choice.python, media_roots(), log_folder())
        except BackendStartError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class POSEFIT_OT_disconnect(bpy.types.Operator):
    """Leave the backend; one that was started here is stopped"""

    bl_idname = "posefit.disconnect"
    bl_label = "Disconnect"

    def execute(self, context: bpy.types.Context) -> set[str]:
        session.SESSION.disconnect()
        return {"FINISHED"}


class POSEFIT_OT_show_log(bpy.types.Operator):
    """Load the log of the last backend that was started here into the text editor"""

    bl_idname = "posefit.show_log"
    bl_label = "Backend Log"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return session.SESSION.has_log

    def execute(self, context: bpy.types.Context) -> set[str]:
        text = show_text(context, "posefit backend log", session.SESSION.log_text())
        self.report({"INFO"}, f"{text.name} is in the text editor")
        return {"FINISHED"}


class POSEFIT_OT_show_installer(bpy.types.Operator):
    """Load the steps that install a backend on this machine into the text editor"""

    bl_idname = "posefit.show_installer"
    bl_label = "How to Install a Backend"

    def execute(self, context: bpy.types.Context) -> set[str]:
        steps = INSTALL_STEPS.read_text(encoding="utf-8").replace("NOTE_PATH", str(note_path()))
        text = show_text(context, "posefit: install a backend", steps)
        self.report({"INFO"}, f"{text.name} is in the text editor")
        return {"FINISHED"}


def show_text(context: bpy.types.Context, name: str, content: str) -> bpy.types.Text:
    """Put a text into the file, replacing one of that name, and into an open text editor."""
    text = bpy.data.texts.get(name) or bpy.data.texts.new(name)
    text.from_string(content)
    areas = [area for window in context.window_manager.windows for area in window.screen.areas]
    editor = next((area for area in areas if area.type == "TEXT_EDITOR"), None)
    if editor is not None:
        editor.spaces.active.text = text
    return text


def media_roots() -> list[Path]:
    """Folders that a local backend may read footage from: those of all clips and images in use."""
    users = [*bpy.data.movieclips, *bpy.data.images]
    files = [
        Path(bpy.path.abspath(one.filepath, library=one.library)) for one in users if one.filepath
    ]
    return sorted({file.resolve().parent for file in files if file.is_file()})


def log_folder() -> Path:
    """Where a local backend keeps its log: the extension's own folder where it has one."""
    if ROOT_PACKAGE.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(ROOT_PACKAGE, path="backend", create=True))
    return Path(tempfile.gettempdir()) / "posefit"


CLASSES = (
    POSEFIT_OT_connect,
    POSEFIT_OT_start_backend,
    POSEFIT_OT_disconnect,
    POSEFIT_OT_show_log,
    POSEFIT_OT_show_installer,
)
