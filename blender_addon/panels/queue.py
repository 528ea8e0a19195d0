# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue: what is under way, how far it is, and what stopped jobs leave to be decided."""

from __future__ import annotations

import bpy

from .. import session
from ..jobs import job_queue
from .layout import SidebarPanel, draw_words


class POSEFIT_PT_queue(SidebarPanel, bpy.types.Panel):
    """What is under way, how far it is, and what stopped jobs leave to be decided."""

    bl_label = "Queue"
    bl_idname = "POSEFIT_PT_queue"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(session.SESSION.jobs)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        for job in session.SESSION.jobs:
            column = layout.box().column()
            if job.is_open:
                _draw_open(column, job)
            else:
                draw_words(column, f"{job.label}: {job.words}", _icon(job))
            _draw_choice(column, job)
        if session.SESSION.finished_count:
            layout.prop(context.scene, "posefit_show_finished")
        if session.SESSION.is_busy:
            layout.operator("posefit.cancel", text="Cancel All", icon="X")


def _icon(job: session.Job) -> str:
    """How a job stands that is not under way at the backend any more."""
    if job.is_problem:
        return "ERROR"
    if job_queue.is_active(job):
        return "SORTTIME"
    if job_queue.is_undecided(job):
        return "QUESTION"
    return "CANCEL" if job.words == job_queue.NOTHING_CHANGED else "CHECKMARK"


def _draw_open(column: bpy.types.UILayout, job: session.Job) -> None:
    row = column.row(align=True)
    row.progress(factor=job.fraction, type="BAR", text=job.label)
    row.operator("posefit.cancel", text="", icon="X").job = job.job_id
    draw_words(column, job.line, "NONE")


def _draw_choice(column: bpy.types.UILayout, job: session.Job) -> None:
    if not isinstance(job, session.PlacedJob) or not job.can_be_kept or job.is_kept:
        return
    choice = column.column(align=True)
    choice.operator("posefit.keep_finished", icon="CHECKMARK").job = job.job_id
    if not job.is_open:
        choice.operator("posefit.drop_finished", icon="TRASH").job = job.job_id


CLASSES = (POSEFIT_PT_queue,)
