# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of jobs: whose turn it is, which are remembered, which leave something to decide."""

from __future__ import annotations

from collections.abc import Sequence

import bpy

from ..rigs.lookup import find_scene
from .accept_job import AcceptJob
from .job import Job
from .placed_job import PlacedJob
from .refine_job import RefineJob
from .scene_job import SceneJob

SHOWN_JOBS = 1
"""Jobs that ended, and that the panel remembers."""
NOTHING_CHANGED = "cancelled, nothing was changed"


def ahead_of(jobs: Sequence[Job], job: SceneJob) -> RefineJob | AcceptJob | None:
    """The last job that changes the same armature and must be done before another is read."""
    if not isinstance(job, RefineJob):
        return None
    before = jobs[: jobs.index(job)] if job in jobs else jobs
    same = [
        other
        for other in before
        if isinstance(other, (RefineJob, AcceptJob)) and other.armature_uid == job.armature_uid
    ]
    return next((other for other in reversed(same) if is_active(other)), None)


def with_job(jobs: Sequence[Job], job: Job) -> list[Job]:
    """The queue with one more job; of those that ended, the last ones are remembered."""
    done = [old for old in jobs if not is_active(old) and not is_undecided(old)]
    forgotten = done[:-SHOWN_JOBS]
    return [*(old for old in jobs if old not in forgotten), job]


def is_active(job: Job) -> bool:
    """Whether something is still to be done for a job."""
    return job.is_open or (isinstance(job, PlacedJob) and job.is_kept)


def is_undecided(job: Job) -> bool:
    """Whether something has come of a job that ended, and is neither in place nor dropped."""
    return isinstance(job, PlacedJob) and not is_active(job) and job.can_be_kept


def can_be_placed(job: PlacedJob) -> bool:
    """Whether a job's scene is shown where it has to be; one that is gone is not waited for."""
    is_shown = bpy.context.scene.session_uid == job.scene_uid
    return is_shown or not job.must_be_shown or find_scene(job.scene_uid) is None


def stopped_words(job: Job) -> str:
    """How a job stands that was stopped."""
    if isinstance(job, RefineJob) and job.can_be_kept:
        done = len(job.scene_frames) if job.has_final else len(job.finished)
        return f"stopped, {done} of {len(job.scene_frames)} frames are done"
    return NOTHING_CHANGED
