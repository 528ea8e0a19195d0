# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue: stop what is under way, and keep or drop what is done of it."""

from __future__ import annotations

import time

import bpy

from posefit_shared.body_files import BodyFileError

from .. import session
from ..rigs.rig import SceneError

SAME_KEY_SECONDS = 0.3
"""A playback that ended so short a time ago was ended by the same key."""
_JOB = dict(
    name="Job",
    description="Which jobs of the queue, by their ids with spaces between; empty for all of them",
    options={"HIDDEN", "SKIP_SAVE"},
)


class POSEFIT_OT_cancel(bpy.types.Operator):
    """Stop what is under way; frames that are done can then be kept or dropped"""

    bl_idname = "posefit.cancel"
    bl_label = "Cancel"
    bl_options = {"REGISTER"}

    job: bpy.props.StringProperty(**_JOB)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return session.SESSION.is_busy

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        # Esc over a 3D view first ends a playback, and then comes here.
        since_playback = time.monotonic() - session.SESSION.playback_ended_at
        if event.type == "ESC" and since_playback < SAME_KEY_SECONDS:
            return {"PASS_THROUGH"}
        running = [job.job_id for job in session.SESSION.jobs if job.is_open]
        outcome = self.execute(context)
        if stopped := [job for job in session.SESSION.undecided() if job.job_id in running]:
            _ask(context, stopped)
        return outcome

    def execute(self, context: bpy.types.Context) -> set[str]:
        for name in self.job.split() or [""]:
            session.SESSION.stop(name)
        return {"FINISHED"}


class POSEFIT_OT_keep_finished(bpy.types.Operator):
    """Put the frames that are done in place, in a new action; stops the job if it still runs"""

    bl_idname = "posefit.keep_finished"
    bl_label = "Keep What Is Done"
    bl_options = {"REGISTER", "UNDO"}

    job: bpy.props.StringProperty(**_JOB)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _can_be_decided(cls)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Have it done bit by bit, as a result is that comes by itself."""
        for job in _named(self.job):
            session.SESSION.stop(job.job_id)
            job.is_kept, job.words = True, "putting it in place"
        return {"CANCELLED"}  # nothing is changed yet: no undo step

    def execute(self, context: bpy.types.Context) -> set[str]:
        kept = 0
        for job in _named(self.job):
            session.SESSION.stop(job.job_id)
            try:
                self.report({"INFO"}, session.SESSION.place(context, job))
                kept += 1
            except (SceneError, BodyFileError) as error:
                self.report({"WARNING"}, str(error))
        return {"FINISHED"} if kept else {"CANCELLED"}


class POSEFIT_OT_drop_finished(bpy.types.Operator):
    """Drop the frames that are done; nothing is changed"""

    bl_idname = "posefit.drop_finished"
    bl_label = "Drop"
    bl_options = {"REGISTER"}

    job: bpy.props.StringProperty(**_JOB)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _can_be_decided(cls)

    def execute(self, context: bpy.types.Context) -> set[str]:
        for job in _named(self.job):
            session.SESSION.stop(job.job_id)
            job.drop()
            job.end("dropped, nothing was changed")
        return {"FINISHED"}


def _named(names: str) -> list[session.PlacedJob]:
    """The named jobs, or all, of which something is done that is not in place."""
    chosen = names.split()
    jobs = [job for job in session.SESSION.jobs if isinstance(job, session.PlacedJob)]
    return [job for job in jobs if job.can_be_kept and (not chosen or job.job_id in chosen)]


def _can_be_decided(operator: type[bpy.types.Operator]) -> bool:
    if not _named(""):
        operator.poll_message_set("Nothing is done that is not in place")
        return False
    return True


def _ask(context: bpy.types.Context, jobs: list[session.PlacedJob]) -> None:
    """Ask once what is to become of stopped jobs; the panel asks on until it is answered."""
    if bpy.app.background:
        return
    names = " ".join(job.job_id for job in jobs)
    lines = [f"{job.label}: {job.words}" for job in jobs]

    def draw(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
        for line in lines:
            menu.layout.label(text=line)
        menu.layout.operator("posefit.keep_finished", icon="CHECKMARK").job = names
        menu.layout.operator("posefit.drop_finished", icon="TRASH").job = names

    context.window_manager.popup_menu(draw, title="Stopped", icon="QUESTION")


def attach() -> None:
    """Let Esc over a 3D view stop what is under way.

    A key of the view and no modal operator: one that runs as long as a refinement would keep
    Blender from saving by itself. Tools, popups and text fields take their Esc before it.
    """
    if (keys := _keys()) is not None:
        keys.keymap_items.new("posefit.cancel", "ESC", "PRESS")


def detach() -> None:
    """Take that key away again."""
    if (keys := _keys()) is not None:
        for item in [item for item in keys.keymap_items if item.idname == "posefit.cancel"]:
            keys.keymap_items.remove(item)


def _keys() -> bpy.types.KeyMap | None:
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration is None:
        return None
    return configuration.keymaps.new("3D View", space_type="VIEW_3D")


CLASSES = (POSEFIT_OT_cancel, POSEFIT_OT_keep_finished, POSEFIT_OT_drop_finished)
