# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend: connect to one, start one here, leave it, read its log."""

from __future__ import annotations

import tempfile
from pathlib import Path

import bpy

from .. import session
from ..backend_process import BackendStartError
from ..properties import ROOT_PACKAGE, preferences
from ..session import ConnectError


class POSEFIT_OT_connect(bpy.types.Operator):
    """Connect to the backend at the address above"""

    bl_idname = "posefit.connect"
    bl_label = "Connect"

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            session.SESSION.connect(preferences(context).address)
        except ConnectError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class POSEFIT_OT_start_backend(bpy.types.Operator):
    """Start a backend on this machine; it stops with Blender"""

    bl_idname = "posefit.start_backend"
    bl_label = "Start Here"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not preferences(context).backend_python:
            cls.poll_message_set("Choose the Python that posefit's backend was installed with")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        python = Path(bpy.path.abspath(preferences(context).backend_python))
        try:
            session.SESSION.start_backend(python, media_roots(), log_folder())
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
    """Load the log of the backend that was started here into the text editor"""

    bl_idname = "posefit.show_log"
    bl_label = "Backend Log"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return session.SESSION.has_log

    def execute(self, context: bpy.types.Context) -> set[str]:
        text = bpy.data.texts.get("posefit backend log") or bpy.data.texts.new(
            "posefit backend log"
        )
        text.from_string(session.SESSION.log_text())
        self.report({"INFO"}, f"{text.name} is in the text editor")
        return {"FINISHED"}


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
)
