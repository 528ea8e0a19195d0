# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's one state: the connection, a local backend, the refinements under way.

`SESSION.step()` does a slice of whatever is to be done: reads scenes, hands requests over, takes
replies in, and has finished refinements applied. A timer calls it in a window; tests, scripts and
background mode call it themselves. It runs on Blender's main thread only; what may take long
elsewhere (the socket, hashing a film) has threads of its own, which never see bpy.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bpy

from posefit_shared.body_files import BodyFileError
from posefit_shared.client import BackendError
from posefit_shared.codec import CodecError
from posefit_shared.messages import (
    Accepted,
    Cancelled,
    Failure,
    Progress,
    RefineResult,
    Result,
)
from posefit_shared.sequence import SequenceError
from posefit_shared.settings import RefineSettings

from .apply_refinement import Refinement
from .backend_link import BackendLink
from .connection_view import ConnectionView
from .refine_job import Prepared, RefineJob, prepare_request
from .rig import SceneError
from .scene_job import SceneJob
from .sequence_export import ExportJob

logger = logging.getLogger(__name__)

SLICE_SECONDS = 0.02
"""How long one step may read scenes."""
SHOWN_JOBS = 4
"""Finished refinements that the panel remembers."""


class Session:
    """What outlives an operator; one per Blender."""

    def __init__(self) -> None:
        self._link = BackendLink(f"Blender {bpy.app.version_string}")
        self._jobs: list[SceneJob] = []
        self._refinements: dict[str, Refinement] = {}
        self._threads: ThreadPoolExecutor | None = None

    # The connection

    def connect(self, address: str) -> None:
        """Begin to talk to a backend; returns at once.

        Raises:
            ConnectError: the address is malformed or not allowed.
        """
        self.disconnect()
        self._link.connect(address)

    def start_backend(
        self,
        python: Path,
        media_roots: Sequence[Path],
        folder: Path,
        options: Sequence[str] = (),
    ) -> None:
        """Start a backend on this machine and connect to it once it listens; returns at once.

        Raises:
            BackendStartError: it could not be started.
        """
        self.disconnect()
        self._link.start(python, media_roots, folder, options)

    def disconnect(self) -> None:
        """Leave the backend, drop what is under way, stop a backend that was started here."""
        self._cancel_refinements("the backend was left")
        self._link.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = None

    @property
    def is_connected(self) -> bool:
        """Whether a backend is there."""
        return self._link.is_connected

    @property
    def connection(self) -> ConnectionView:
        """The connection in words."""
        return self._link.view

    @property
    def has_log(self) -> bool:
        """Whether the last backend that was started here has a log, also after its end."""
        return self._link.has_log

    def log_text(self) -> str:
        """The log of the last backend that was started here."""
        return self._link.log_text()

    # Refinements and exports

    @property
    def jobs(self) -> tuple[SceneJob, ...]:
        """Refinements and exports under way, and the last ones that ended."""
        return tuple(self._jobs)

    @property
    def is_busy(self) -> bool:
        """Whether a refinement or an export is under way."""
        return any(job.is_open for job in self._jobs)

    def refine(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        scene_frames: Sequence[int],
        settings: RefineSettings,
    ) -> RefineJob:
        """Begin to refine an armature over frames; returns at once.

        Raises:
            SceneError: the scene cannot be read, or no backend is there; nothing was begun.
            BodyFileError: the body's file cannot be read.
        """
        if not self.is_connected:
            raise SceneError("no backend is connected: connect to one first")
        job = RefineJob(context.scene.name, armature.name, tuple(scene_frames), settings)
        self._begin(context, job)
        return job

    def export(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        scene_frames: Sequence[int],
        path: Path,
        with_camera: bool = True,
    ) -> ExportJob:
        """Begin to write an armature's motion to a sequence file; returns at once.

        Raises:
            SceneError: the scene cannot be read; nothing was begun.
            BodyFileError: the body's file cannot be read.
        """
        frames = tuple(scene_frames)
        job = ExportJob(context.scene.name, armature.name, frames, path, with_camera)
        self._begin(context, job)
        return job

    def _begin(self, context: bpy.types.Context, job: SceneJob) -> None:
        if not job.scene_frames:
            raise SceneError("the frame range is empty: its end lies before its start")
        job.begin_reading(context)
        ended = [old for old in self._jobs if not old.is_open]
        self._jobs = [*ended[-SHOWN_JOBS:], *(j for j in self._jobs if j.is_open), job]

    def cancel_all(self, words: str = "cancelled, nothing was changed") -> None:
        """Stop everything that is under way; replies that still come are dropped."""
        self._cancel(self._jobs, words)

    def _cancel_refinements(self, words: str) -> None:
        self._cancel([job for job in self._jobs if isinstance(job, RefineJob)], words)

    def _cancel(self, jobs: Sequence[SceneJob], words: str) -> None:
        for job in jobs:
            if job.is_open:
                self._forget(job)
                job.end(words)

    def wait_for(self, job: SceneJob, timeout_s: float = 3600.0) -> None:
        """Step until a job has ended: for scripts, as Blender does not respond meanwhile.

        Raises:
            SceneError: it came to nothing.
        """
        deadline = time.monotonic() + timeout_s
        while job.is_open and time.monotonic() < deadline:
            self.step()
            time.sleep(0.005)
        if job.is_open:
            self._forget(job)
            job.end("not finished in time", is_problem=True)
        if job.is_problem:
            raise SceneError(job.words)

    def take_refinement(self, job_id: str) -> Refinement | None:
        """A finished refinement, once; for the operator that applies it."""
        return self._refinements.pop(job_id, None)

    def settle(self, job_id: str, words: str, is_problem: bool = False) -> None:
        """Say how a refinement ended."""
        for job in self._jobs:
            if job.job_id == job_id:
                job.end(words, is_problem)

    def restart_reading(self) -> None:
        """After an undo: what was read so far may be gone, so read again from the start."""
        for job in self._jobs:
            if job.is_reading:
                self._guard(job, lambda job=job: job.begin_reading(bpy.context))

    # One slice of work

    def step(self) -> bool:
        """Do what can be done now; true if anything that the panel shows may have changed."""
        before = self.connection, [(j.fraction, j.words) for j in self._jobs]
        if ended := self._link.watch():
            self._cancel_refinements(ended)
        self._read_scenes()
        self._submit_prepared()
        if self._link.client is not None:
            for event in self._link.client.poll():
                self._receive(event)
        for job_id in list(self._refinements):
            self._apply(job_id)
        return before != (self.connection, [(j.fraction, j.words) for j in self._jobs])

    def _read_scenes(self) -> None:
        deadline = time.monotonic() + SLICE_SECONDS
        for job in self._jobs:
            if job.is_reading and time.monotonic() < deadline:
                self._guard(job, lambda job=job: job.read_until(deadline))
                if job.reading is None or not job.is_open:
                    continue
                if isinstance(job, ExportJob):
                    job.write()
                elif isinstance(job, RefineJob):
                    self._prepare(job)

    def _prepare(self, job: RefineJob) -> None:
        """Have a request made of what was read, away from the main thread."""
        assert self._link.client is not None
        assert job.reading is not None
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "posefit-files")
        job.preparing = self._threads.submit(
            prepare_request,
            self._link.client,
            job.reading,
            job.settings,
            job.by_upload,
            job.freedom,
        )
        job.words = "sending"

    def _submit_prepared(self) -> None:
        for job in self._jobs:
            preparing = job.preparing
            if preparing is not None and preparing.done():
                job.preparing = None
                self._guard(job, lambda job=job, preparing=preparing: self._take(job, preparing))

    def _take(self, job: SceneJob, preparing: Future[Any]) -> None:
        if isinstance(job, ExportJob):
            job.take_written(preparing)
        elif isinstance(job, RefineJob):
            self._submit(job, preparing)

    def _submit(self, job: RefineJob, preparing: Future[Prepared]) -> None:
        client = self._link.client
        if client is None:
            raise SceneError("the backend is gone")
        priority = "interactive" if len(job.scene_frames) == 1 else "normal"
        job.request, message = preparing.result()
        job.remote_id = client.submit(message, priority)
        if not message.content_hashes():  # else files may travel first
            self._link.clock.ask(job.remote_id)
        job.words = "waiting"

    def _receive(self, event: object) -> None:
        remote_id = getattr(event, "job", None)
        job = next((j for j in self._jobs if j.is_open and j.remote_id == remote_id), None)
        if remote_id is None or not isinstance(job, RefineJob):
            return
        if isinstance(event, Accepted):
            self._link.clock.hear(job.remote_id)
            job.words = f"{event.position} ahead of it" if event.position else "waiting"
        elif isinstance(event, Progress):
            job.report(event)
        elif isinstance(event, Result) and isinstance(event.payload, RefineResult):
            if event.final and job.request is not None:
                with_shape = job.settings.refine_shape
                job.words, job.fraction = "putting it in place", 1.0
                self._refinements[job.job_id] = Refinement(
                    job.request, event.payload, with_shape, job.freedom
                )
        elif isinstance(event, Failure):
            self._receive_failure(job, event)
        elif isinstance(event, Cancelled):
            job.end("the backend cancelled it", is_problem=True)

    def _receive_failure(self, job: RefineJob, failure: Failure) -> None:
        can_upload = job.request is not None and job.request.footage.is_file()
        if failure.kind == "media" and can_upload and not job.by_upload:
            # The backend may not open that path: send it the file instead.
            job.by_upload = True
            self._prepare(job)
            return
        job.end(failure.message, is_problem=True)

    def _apply(self, job_id: str) -> None:
        """Put a finished refinement in place: one operator, one undo step."""
        windows = bpy.context.window_manager.windows
        modal = [operator for window in windows for operator in window.modal_operators]
        if any(operator.bl_idname.startswith("TRANSFORM_OT_") for operator in modal):
            return  # the artist is moving something: the next step will do
        with bpy.context.temp_override(**({"window": windows[0]} if windows else {})):
            bpy.ops.posefit.apply_result("EXEC_DEFAULT", True, job=job_id)

    def _forget(self, job: SceneJob) -> None:
        self._refinements.pop(job.job_id, None)
        if job.remote_id and self._link.client is not None:
            try:
                self._link.client.cancel(job.remote_id)
            except BackendError as error:
                logger.warning("a job could not be cancelled on the backend: %s", error)

    def _guard(self, job: SceneJob, work: Callable[[], None]) -> None:
        """Do a part of a job; what goes wrong ends that job in words."""
        try:
            work()
        except (SceneError, BodyFileError, SequenceError, BackendError, CodecError) as error:
            job.end(str(error), is_problem=True)


SESSION = Session()
"""The one session."""
