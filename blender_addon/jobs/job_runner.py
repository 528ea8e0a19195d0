# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the work of jobs bit by bit: reads scenes, hands requests over, takes replies in.

The part of the session that steps; what can be asked of it is in `session`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import bpy

from posefit_shared.body_files import BodyFileError
from posefit_shared.client import BackendError
from posefit_shared.codec import CodecError
from posefit_shared.messages import Accepted, Failure
from posefit_shared.sequence import SequenceError

from ..connection.backend_link import BackendLink
from ..connection.connection_view import ConnectionView
from ..keys.unfinished import drop_unfinished
from ..results.blended_preview import PreviewFilling
from ..rigs.lookup import in_scene
from ..rigs.rig import SceneError
from ..slices import SLICE_SECONDS
from . import job_queue
from .job import Job
from .placed_job import PlacedJob
from .remote_job import RemoteJob
from .scene_job import SceneJob
from .sequence_export import ExportJob

logger = logging.getLogger(__name__)

BLENDERS_JOBS = ("RENDER", "OBJECT_BAKE")
"""Work of Blender's own during which no frame may be set and nothing be changed."""


class JobRunner:
    """Jobs, and the backend that most of them go to."""

    def __init__(self, link: BackendLink) -> None:
        self._link = link
        self._jobs: list[Job] = []
        self._shown: tuple | None = None
        self._is_undone = False
        self._turn = 0
        self._may_place = True
        self._arrived: deque[object] = deque()
        self.previews = PreviewFilling()
        """What the slider shows, as far as it is not blended yet."""

    @property
    def connection(self) -> ConnectionView:
        """The connection in words."""
        return self._link.view

    def step(self) -> bool:
        """Do what can be done now; true if anything that the panel shows may have changed."""
        deadline = time.monotonic() + SLICE_SECONDS
        if self._is_undone:
            self._begin_anew()
        if ended := self._link.watch():
            self._end_remote(ended)
        self._exchange()
        if not self._receive_until(deadline) or time.monotonic() < deadline:
            self._work_until(deadline)
        self._exchange()  # what was made ready just now is sent at once
        # What operators changed since the last step counts too.
        before, self._shown = self._shown, self._now_shown()
        return before != self._shown

    def _work_until(self, deadline: float) -> None:
        """One thing after the other until a time, each of them first in its turn: whatever is first
        and has something to do does a slice at least, and two would hold Blender for too long."""
        work = [self.previews.until, self._go_on_preparing]
        if not any(bpy.app.is_job_running(name) for name in BLENDERS_JOBS):
            work += [self._read_scenes, self._place_next]
        self._turn += 1
        self._may_place = True
        for place in range(len(work)):
            has_worked = work[(self._turn + place) % len(work)](deadline)
            if has_worked and time.monotonic() >= deadline:
                return
            self._may_place = self._may_place and not has_worked

    def _exchange(self) -> None:
        """Send what is to be sent, and fetch what has come."""
        if self._link.client is not None:
            self._arrived.extend(self._link.client.poll())

    def _receive_until(self, deadline: float) -> bool:
        """Take in what has come until a time, one thing at least; whether anything had."""
        has_received = bool(self._arrived)
        while self._arrived:
            self._receive(self._arrived.popleft())
            if time.monotonic() >= deadline:
                break
        return has_received

    def _place_next(self, deadline: float) -> bool:
        """Put one finished job in place, or a part of it; Blender draws between two steps."""
        waiting = (job for job in self._jobs if isinstance(job, PlacedJob) and job.is_to_be_placed)
        return any(self._apply(job, deadline) for job in waiting)

    def _begin_anew(self) -> None:
        """After an undo: what was read and built so far may be gone, or be there once more."""
        self._is_undone = False
        self.previews.look_for_all()
        for job in self._jobs:
            if isinstance(job, SceneJob) and job.is_reading:
                self._guard(job, job.begin_reading)
            if isinstance(job, PlacedJob):
                job.build_anew()
        drop_unfinished()

    def _now_shown(self) -> tuple[ConnectionView, list[tuple[float, str, bool]]]:
        return self.connection, [(job.fraction, job.line, job.is_open) for job in self._jobs]

    def _read_scenes(self, deadline: float) -> bool:
        has_read = False
        for job in self._jobs:
            if not isinstance(job, SceneJob):
                continue
            is_waiting, is_reading = job.is_waiting, job.is_reading
            if is_waiting and job_queue.ahead_of(self._jobs, job) is None:
                self._guard(job, job.begin_reading)
                has_read = True
            elif is_reading:
                self._guard(job, lambda job=job: job.read_until(deadline))
                has_read = True
            if job.is_open and job.reading is not None and not job.is_handed_over:
                job.is_handed_over = True
                if isinstance(job, ExportJob):
                    job.write()
                elif isinstance(job, RemoteJob):
                    self._prepare(job)
            if has_read and time.monotonic() >= deadline:
                break
        return has_read

    def _prepare(self, job: RemoteJob) -> None:
        """Begin to make a request."""
        if self._link.client is None:
            job.end("the backend is gone", is_problem=True)
            return
        job.preparing = job.preparation(self._link.client)
        job.words = "sending"

    def _go_on_preparing(self, deadline: float) -> bool:
        """Work on what jobs need before they can be sent or written: a slice at least."""
        has_worked = False
        for job in self._jobs:
            if job.preparing is not None:
                self._guard(job, lambda job=job: self._prepare_until(job, deadline))
                has_worked = True
            if has_worked and time.monotonic() >= deadline:
                break
        return has_worked

    def _prepare_until(self, job: Job, deadline: float) -> None:
        assert job.preparing is not None
        try:
            next(job.preparing)
            while time.monotonic() < deadline:
                next(job.preparing)
        except StopIteration as done:
            job.preparing = None
            if isinstance(job, ExportJob):
                job.end_written()
            elif isinstance(job, RemoteJob):
                self._submit(job, done.value)

    def _submit(self, job: RemoteJob, prepared: Any) -> None:
        client = self._link.client
        if client is None:
            raise SceneError("the backend is gone")
        message = job.take_prepared(prepared)
        job.remote_id = client.submit(message, job.priority)
        if not message.content_hashes():  # else files may travel first
            self._link.clock.ask(job.remote_id)
        job.words = "waiting"

    def _receive(self, event: object) -> None:
        remote_id = getattr(event, "job", None)
        remote = [job for job in self._jobs if job.is_open and isinstance(job, RemoteJob)]
        job = next((job for job in remote if job.remote_id == remote_id), None)
        if not remote_id or job is None:
            return
        if isinstance(event, Accepted):
            self._link.clock.hear(job.remote_id)
        if isinstance(event, Failure):
            self._receive_failure(job, event)
        else:
            job.hear(event)

    def _receive_failure(self, job: RemoteJob, failure: Failure) -> None:
        can_upload = job.media is not None and job.media.is_file()
        if failure.kind == "media" and can_upload and not job.by_upload:
            # The backend may not open that path: send it the file instead.
            job.by_upload = True
            self._prepare(job)
            return
        job.end(failure.message, is_problem=True)

    def _apply(self, job: PlacedJob, deadline: float) -> bool:
        """Put a finished job in place, in as many steps as it takes; false if it has to wait.

        What it consists of is built beside the scene first. Then one operator, which is the undo
        step, puts it in place.
        """
        windows = bpy.context.window_manager.windows
        modal = [operator for window in windows for operator in window.modal_operators]
        if any(operator.bl_idname.startswith("TRANSFORM_OT_") for operator in modal):
            return False  # the artist is moving something: the next step will do
        if not job_queue.can_be_placed(job):
            job.words = f"done, and put in place when scene {job.scene} is shown"
            return False
        if not _is_built(job, deadline) or not self._may_place:
            return True  # putting in place cannot be divided: it has a turn of its own
        # Under Python 3.11 an operator within an override may run Python without the lock while
        # another thread has it: no override where none is needed.
        override = bpy.context.temp_override(window=windows[0]) if windows else nullcontext()
        with override:
            bpy.ops.posefit.apply_result("EXEC_DEFAULT", True, job=job.job_id)
        return True

    def _end_remote(self, words: str) -> None:
        for job in self._jobs:
            if job.is_open and isinstance(job, RemoteJob):
                self._forget(job)
                job.end(words, is_problem=True)

    def _forget(self, job: Job) -> None:
        if isinstance(job, RemoteJob) and job.remote_id and self._link.client is not None:
            try:
                self._link.client.cancel(job.remote_id)
            except BackendError as error:
                logger.warning("a job could not be cancelled on the backend: %s", error)

    def _guard(self, job: Job, work: Callable[[], None]) -> None:
        """Do a part of a job; what goes wrong ends that job in words."""
        try:
            work()
        except (SceneError, BodyFileError, SequenceError, BackendError, CodecError) as error:
            job.end(str(error), is_problem=True)


def _is_built(job: PlacedJob, deadline: float) -> bool:
    """Whether all is there that is put in place; some of it is built, until a time."""
    try:
        with in_scene(job.scene_uid, job.scene) as context:
            return job.build_until(context, deadline)
    except (SceneError, BodyFileError, SequenceError):
        return True  # putting it in place fails likewise, and says why
