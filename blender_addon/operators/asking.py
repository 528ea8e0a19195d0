# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators share that ask the backend for something and come back before it is there."""

from __future__ import annotations

from collections.abc import Callable

import bpy

from posefit_shared.body_files import BodyFileError

from .. import session
from ..jobs.job import Job
from ..rigs.rig import SceneError
from .on_armature import OnArmature


def wait_property(what: str):
    """The property that makes an operator come back only when all is done.

    Args:
        what: what is true then.
    """
    return bpy.props.BoolProperty(
        name="Wait",
        description=f"Return only when {what} (for scripts; Blender does not respond until then)",
        options={"SKIP_SAVE", "HIDDEN"},
    )


class AsksAboutArmature(OnArmature):
    """An operator that has the backend do a job about the active armature."""

    job_kind = ""
    """Which the backend must know."""
    too_old = "Connect to a backend first"
    """What the tooltip says where one is connected that does not know it."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether an armature is active, and a backend that knows the job is there."""
        if not super().poll(context):
            return False
        if not session.SESSION.knows(cls.job_kind):
            is_there = session.SESSION.is_connected
            cls.poll_message_set(cls.too_old if is_there else "Connect to a backend first")
            return False
        return True

    def ask(self, context: bpy.types.Context, make: Callable[[], Job]) -> set[str]:
        """Ask for the job that `make` gives; what is wrong is reported in words."""
        try:
            job = make()
            session.SESSION.ask_about(context, context.object, job)
            if self.wait:
                session.SESSION.wait_for(job)
        except (SceneError, BodyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}
