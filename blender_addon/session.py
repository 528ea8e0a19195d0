# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's one state: the connection, a local backend, the refinements under way.

`SESSION.step()` does a slice of whatever is to be done: reads scenes, hands requests over, takes
replies in, and has finished refinements applied. A timer calls it in a window; tests, scripts and
background mode call it themselves. It runs on Blender's main thread only; what may take long
elsewhere (the socket, hashing a film) has threads of its own, which never see bpy.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bpy

from posefit_shared.body_files import BodyFileError
from posefit_shared.client import BackendError
from posefit_shared.codec import CodecError
from posefit_shared.messages import Accepted, Failure
from posefit_shared.sequence import SequenceError
from posefit_shared.settings import RefineSettings

from . import job_queue
from .backend_link import BackendLink
from .connection_view import ConnectionView
from .job import Job
from .refine_job import RefineJob
from .remote_job import RemoteJob
from .rig import SceneError
from .scene_job import SceneJob
from .sequence_export import ExportJob

logger = logging.getLogger(__name__)

SLICE_SECONDS = 0.02
"""How long one step may read scenes."""
BLENDERS_JOBS = ("RENDER", "OBJECT_BAKE")
"""Work of Blender's own during which no frame may be set and nothing be changed."""


class Session:
    """What outlives an operator; one per Blender."""

    def __init__(self) -> None:
        self._link = BackendLink(f"Blender {bpy.app.version_string}")
        self._jobs: list[Job] = []
        self._shown: tuple | None = None
        self.drawn_count = 0
        """Finished frames when the 3D views were last drawn anew."""
        self.playback_ended_at = -math.inf
        """When a playback last ended, by `time.monotonic()`."""
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
        self._end_remote("the backend was left")
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

    # Jobs

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Jobs in the order they were asked for: the last ones that ended, and all others."""
        return tuple(self._jobs)

    @property
    def finished_count(self) -> int:
        """Frames that are done and not in place; where it changes, views look different."""
        return sum(len(job.finished) for job in self._jobs if isinstance(job, RefineJob))

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return any(job.is_open for job in self._jobs)

    def refine(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        scene_frames: Sequence[int],
        settings: RefineSettings,
    ) -> RefineJob:
        """Begin to refine an armature over frames; returns at once.

        Where the same armature is being refined, this begins from what comes of that.

        Raises:
            SceneError: the scene cannot be read, or no backend is there; nothing was begun.
            BodyFileError: the body's file cannot be read.
        """
        if not self.is_connected:
            raise SceneError("no backend is connected: connect to one first")
        job = RefineJob(context.scene.name, armature.name, tuple(scene_frames), settings)
        self._begin(context, armature, job)
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
        self._begin(context, armature, job)
        return job

    def ask(self, context: bpy.types.Context, job: RemoteJob) -> None:
        """Begin a job for the backend that needs nothing read from the scene; returns at once.

        Raises:
            SceneError: no backend is there, or it does not know this kind of job.
        """
        self._check_knows(job)
        job.scene_uid = context.scene.session_uid
        self._jobs = job_queue.with_job(self._jobs, job)
        self._prepare(job)

    def ask_about(
        self, context: bpy.types.Context, armature: bpy.types.Object, job: SceneJob
    ) -> None:
        """Begin a job for the backend that reads an armature first; returns at once.

        Raises:
            SceneError: the scene cannot be read, or no backend is there that knows such jobs.
            BodyFileError: the body's file cannot be read.
        """
        assert isinstance(job, RemoteJob)
        self._check_knows(job)
        self._begin(context, armature, job)

    def _check_knows(self, job: RemoteJob) -> None:
        if not self.is_connected:
            raise SceneError("no backend is connected: connect to one first")
        if not self._link.knows(job.KIND):
            raise SceneError(f"this backend cannot run {job.KIND} jobs: update it")

    def knows(self, kind: str) -> bool:
        """Whether a backend is there that runs this kind of job."""
        return self.is_connected and self._link.knows(kind)

    def _begin(self, context: bpy.types.Context, armature: bpy.types.Object, job: SceneJob) -> None:
        if not job.scene_frames:
            raise SceneError("the frame range is empty: its end lies before its start")
        job.scene_uid, job.armature_uid = context.scene.session_uid, armature.session_uid
        if (ahead := job_queue.ahead_of(self._jobs, job)) is None:
            job.begin_reading()
        else:
            job.wait_for_turn(f"after {ahead.label}")
        self._jobs = job_queue.with_job(self._jobs, job)

    def find_job(self, job_id: str) -> Job | None:
        """The job of that name, while the session remembers it."""
        return next((job for job in self._jobs if job.job_id == job_id), None)

    def undecided(self, job_id: str = "") -> list[RemoteJob]:
        """Jobs, or the named one, of which something has come that is not in place."""
        jobs = [job for job in self._jobs if job_id in ("", job.job_id)]
        return [job for job in jobs if job_queue.is_undecided(job)]

    def place(self, context: bpy.types.Context, job: RemoteJob) -> str:
        """Put what has come of a job in place; for the operators that are its undo step.

        Returns:
            What was done, in words.

        Raises:
            SceneError: it cannot be put in place; it is kept until that is decided.
            BodyFileError: the body's file cannot be read.
        """
        try:
            if not job_queue.can_be_placed(job):
                raise SceneError(f"show scene {job.scene} first: a body can be changed only there")
            words = job.apply(context)
        except (SceneError, BodyFileError) as error:
            job.end(str(error), is_problem=True)
            raise
        job.drop()
        job.end(words)
        return words

    def stop(self, job_id: str = "") -> None:
        """Stop everything under way, or the named job; what is done of it is then undecided."""
        for job in self._jobs:
            if job.is_open and job_id in ("", job.job_id):
                self._forget(job)
                job.end(job_queue.stopped_words(job))

    def cancel_all(self, words: str = job_queue.NOTHING_CHANGED) -> None:
        """Stop everything under way and drop what has come of it."""
        for job in self._jobs:
            if job.is_open:
                self._forget(job)
            if job.is_open or job_queue.is_undecided(job):
                job.end(words)
            if isinstance(job, RemoteJob):
                job.drop()

    def _end_remote(self, words: str) -> None:
        for job in self._jobs:
            if job.is_open and isinstance(job, RemoteJob):
                self._forget(job)
                job.end(words, is_problem=True)

    def wait_for(self, job: Job, timeout_s: float = 3600.0) -> None:
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

    def restart_reading(self) -> None:
        """After an undo: what was read so far may be gone, so read again from the start."""
        for job in self._jobs:
            if isinstance(job, SceneJob) and job.is_reading:
                self._guard(job, job.begin_reading)

    # One slice of work

    def step(self) -> bool:
        """Do what can be done now; true if anything that the panel shows may have changed."""
        if ended := self._link.watch():
            self._end_remote(ended)
        is_rendering = any(bpy.app.is_job_running(name) for name in BLENDERS_JOBS)
        if not is_rendering:
            self._read_scenes()
        self._submit_prepared()
        if self._link.client is not None:
            for event in self._link.client.poll():
                self._receive(event)
        if not is_rendering:
            self._place_next()
        # What operators changed since the last step counts too.
        before, self._shown = self._shown, self._now_shown()
        return before != self._shown

    def _place_next(self) -> None:
        """Put one finished job in place; the next step takes another, and Blender draws between."""
        for job in self._jobs:
            if job.is_open and isinstance(job, RemoteJob) and job.has_final and self._apply(job):
                return

    def _now_shown(self) -> tuple[ConnectionView, list[tuple[float, str, bool]]]:
        return self.connection, [(job.fraction, job.line, job.is_open) for job in self._jobs]

    def _read_scenes(self) -> None:
        deadline = time.monotonic() + SLICE_SECONDS
        for job in self._jobs:
            if not isinstance(job, SceneJob) or time.monotonic() >= deadline:
                continue
            if job.is_waiting and job_queue.ahead_of(self._jobs, job) is None:
                self._guard(job, job.begin_reading)
            elif job.is_reading:
                self._guard(job, lambda job=job: job.read_until(deadline))
            if job.is_open and job.reading is not None and not job.is_handed_over:
                job.is_handed_over = True
                if isinstance(job, ExportJob):
                    job.write()
                elif isinstance(job, RemoteJob):
                    self._prepare(job)

    def _prepare(self, job: RemoteJob) -> None:
        """Have a request made, away from the main thread."""
        if self._link.client is None:
            job.end("the backend is gone", is_problem=True)
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "posefit-files")
        job.preparing = self._threads.submit(job.preparation(self._link.client))
        job.words = "sending"

    def _submit_prepared(self) -> None:
        for job in self._jobs:
            preparing = job.preparing
            if preparing is not None and preparing.done():
                job.preparing = None
                self._guard(job, lambda job=job, preparing=preparing: self._take(job, preparing))

    def _take(self, job: Job, preparing: Future[Any]) -> None:
        if isinstance(job, ExportJob):
            job.take_written(preparing)
        elif isinstance(job, RemoteJob):
            self._submit(job, preparing)

    def _submit(self, job: RemoteJob, preparing: Future[Any]) -> None:
        client = self._link.client
        if client is None:
            raise SceneError("the backend is gone")
        message = job.take_prepared(preparing.result())
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

    def _apply(self, job: RemoteJob) -> bool:
        """Put a finished job in place: one operator, one undo step; false if it has to wait."""
        windows = bpy.context.window_manager.windows
        modal = [operator for window in windows for operator in window.modal_operators]
        if any(operator.bl_idname.startswith("TRANSFORM_OT_") for operator in modal):
            return False  # the artist is moving something: the next step will do
        if not job_queue.can_be_placed(job):
            job.words = f"done, and put in place when scene {job.scene} is shown"
            return False
        with bpy.context.temp_override(**({"window": windows[0]} if windows else {})):
            bpy.ops.posefit.apply_result("EXEC_DEFAULT", True, job=job.job_id)
        return True

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


SESSION = Session()
"""The one session."""
