# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's one state: the connection, a local backend, the refinements under way.

`SESSION.step()` does a slice of whatever is to be done: reads scenes, hands requests over, takes
replies in, and has finished refinements applied. A timer calls it in a window; tests, scripts and
background mode call it themselves. It runs on Blender's main thread only; what may take long
elsewhere (the socket, hashing a film) has threads of its own, which never see bpy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import bpy

from posefit_shared.body_files import BodyFileError
from posefit_shared.key_files import CurveKeys
from posefit_shared.sequence import SequenceError
from posefit_shared.settings import RefineSettings

from .connection.backend_link import BackendLink
from .jobs import job_queue
from .jobs.accept_job import AcceptJob
from .jobs.job import Job
from .jobs.job_runner import JobRunner
from .jobs.placed_job import PlacedJob
from .jobs.refine_job import RefineJob
from .jobs.remote_job import RemoteJob
from .jobs.scene_job import SceneJob
from .jobs.sequence_export import ExportJob
from .jobs.sequence_job import FileJob, SequenceJob
from .results import accept_refinement
from .results.accepted_keys import AcceptOptions
from .rigs.rig import SceneError


class Session(JobRunner):
    """What outlives an operator; one per Blender."""

    def __init__(self) -> None:
        super().__init__(BackendLink(f"Blender {bpy.app.version_string}"))
        self.drawn_count = 0
        """Finished frames when the 3D views were last drawn anew."""
        self.playback_ended_at = -math.inf
        """When a playback last ended, by `time.monotonic()`."""

    # The connection

    def connect(self, address: str, keys: CurveKeys | None = None) -> None:
        """Begin to talk to a backend; returns at once.

        Args:
            address: where it listens.
            keys: of this client; none: the backend asks for none.

        Raises:
            ConnectError: the address is malformed or not allowed.
        """
        self.disconnect()
        self._link.connect(address, keys)

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

    @property
    def is_connected(self) -> bool:
        """Whether a backend is there."""
        return self._link.is_connected

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
        return any(job_queue.is_active(job) for job in self._jobs)

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

    def accept(
        self, context: bpy.types.Context, armature: bpy.types.Object, options: AcceptOptions
    ) -> AcceptJob:
        """Begin to accept an armature's refinement bit by bit; returns at once.

        Raises:
            SceneError: there is nothing to accept, or it is being accepted; nothing was begun.
        """
        accept_refinement.check(armature)
        uid = armature.session_uid
        accepting = [job for job in self._jobs if isinstance(job, AcceptJob) and job.is_open]
        if any(job.armature_uid == uid for job in accepting):
            raise SceneError(f"{armature.name} is being accepted: wait for it, or cancel it")
        job = AcceptJob(context.scene.name, armature.name, uid, options)
        self._queue(context, job)
        return job

    def bring_in(self, context: bpy.types.Context, job: FileJob) -> None:
        """Begin to build a body from what was read of a file bit by bit; returns at once."""
        self._queue(context, job)

    def ask(self, context: bpy.types.Context, job: RemoteJob) -> None:
        """Begin a job for the backend that needs nothing read from the scene; returns at once.

        Raises:
            SceneError: no backend is there, or it does not know this kind of job.
        """
        self._check_knows(job)
        self._queue(context, job)
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

    def _queue(self, context: bpy.types.Context, job: Job) -> None:
        job.scene_uid = context.scene.session_uid
        self._jobs = job_queue.with_job(self._jobs, job)

    def find_job(self, job_id: str) -> Job | None:
        """The job of that name, while the session remembers it."""
        return next((job for job in self._jobs if job.job_id == job_id), None)

    def undecided(self, job_id: str = "") -> list[PlacedJob]:
        """Jobs, or the named one, of which something has come that is not in place."""
        jobs = [job for job in self._jobs if job_id in ("", job.job_id)]
        return [job for job in jobs if job_queue.is_undecided(job)]

    def place(self, context: bpy.types.Context, job: PlacedJob) -> str:
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
        except SequenceError as error:
            job.end(str(error), is_problem=True)
            raise SceneError(str(error)) from error
        job.drop()
        job.end(words)
        return words

    def stop(self, job_id: str = "") -> None:
        """Stop everything under way, or the named job; what is done of it is then undecided."""
        for job in self._jobs:
            if job_queue.is_active(job) and job_id in ("", job.job_id):
                self._forget(job)
                job.end(job_queue.stopped_words(job))

    def cancel_all(self, words: str = job_queue.NOTHING_CHANGED) -> None:
        """Stop everything under way and drop what has come of it."""
        for job in self._jobs:
            if job.is_open:
                self._forget(job)
            if job_queue.is_active(job) or job_queue.is_undecided(job):
                job.end(words)
            if isinstance(job, PlacedJob):
                job.drop()

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

    def after_undo(self) -> None:
        """What was read and built so far may be gone: the next step begins it anew."""
        self._is_undone = True

    def before_save(self) -> None:
        """Make whole what the file must hold whole, and leave out what is half built."""
        self.previews.finish()
        for job in self._jobs:
            if isinstance(job, SequenceJob):  # a mesh hangs on an object, and would be saved
                job.build_anew()

    def after_edit(self, graph: bpy.types.Depsgraph) -> None:
        """Something in the file was changed: what is built from it is begun anew."""
        self.previews.after_edit(graph)
        jobs = [job for job in self._jobs if isinstance(job, PlacedJob) and job.source_uids]
        if not jobs or not graph.id_type_updated("ACTION"):
            return
        changed = {update.id.original.session_uid for update in graph.updates}
        for job in jobs:
            if job.source_uids & changed:
                job.source_changed()


SESSION = Session()
"""The one session."""
