# SPDX-License-Identifier: Apache-2.0
"""The life of a job: it waits, runs on a worker, gives results, and ends exactly once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from posefit_shared.codec import Envelope
from posefit_shared.messages import (
    Cancel,
    Cancelled,
    Failure,
    Message,
    Progress,
    ProtocolError,
    Result,
)

from ..worker.messages import Alive, Assign, Idle, WorkerReady
from .config import ServeLimits
from .schedule import Job, KeptResult, Schedule
from .sessions import Session, SessionTable
from .store import ContentStore
from .supervisor import Supervisor
from .tally import Tally
from .workers import Worker

__all__ = ["JobDesk"]

logger = logging.getLogger(__name__)

MAX_KEPT_JOBS = 4096
"""Jobs of one client that are unfinished, or whose end it has not acknowledged."""
RESULT_OVERHEAD_BYTES = 2048
"""Memory of a kept result besides its arrays."""


class JobDesk:
    """All jobs of one backend; used by the broker's thread only."""

    def __init__(
        self,
        limits: ServeLimits,
        sessions: SessionTable,
        store: ContentStore,
        send: Callable[[Worker, Message | list[Any]], bool],
    ) -> None:
        """Start without jobs.

        Args:
            limits: bounds of memory and time.
            sessions: where results go.
            store: whose contents jobs hold on to.
            send: gives a message, or parts of one, to a worker; false if that is not possible.
        """
        self._limits, self._sessions, self._store, self._send = limits, sessions, store, send
        self._schedule = Schedule()
        self.supervisor: Supervisor | None = None
        self.tally = Tally()
        self._request_bytes = 0
        self._result_bytes = 0

    @property
    def kept_bytes(self) -> tuple[int, int]:
        """Memory of requests and of results."""
        return self._request_bytes, self._result_bytes

    @property
    def waiting(self) -> dict[str, int]:
        """Jobs that wait, by priority."""
        return self._schedule.counts()

    # What clients want

    def reason_to_refuse(self, session: Session, size: int) -> str:
        """Why another job of this size cannot be taken, or nothing."""
        unfinished = sum(not job.is_ended for job in session.jobs.values())
        if unfinished >= self._limits.wire.jobs:
            return f"this client has {unfinished} unfinished jobs, which is the limit: wait for one"
        if len(session.jobs) >= MAX_KEPT_JOBS:
            return f"this client has left the results of {len(session.jobs)} jobs lying: fetch them"
        held = session.held_bytes
        if held + size > self._limits.session_bytes:
            return (
                f"this client's jobs and results that it has not fetched take {held >> 20} MiB, "
                f"{self._limits.session_bytes >> 20} are allowed: fetch results, or send less"
            )
        if self._request_bytes + size > self._limits.queued_bytes:
            return "the backend's memory for waiting jobs is full: wait for jobs to end"
        return ""

    def submit(self, session: Session, job: Job) -> int:
        """Let a job wait for a worker.

        Returns:
            How many jobs are ahead of it.
        """
        session.jobs[job.job] = job
        self._store.pin(job.content_hashes)
        self._request_bytes += job.size
        self._schedule.add(job)
        logger.info(
            "%s submits %s (%s)", session.label, job.kind, job.priority, extra={"job": job.job}
        )
        return self._schedule.ahead_of(job)

    def cancel(self, session: Session, job_id: str) -> None:
        """End a job that waits; ask the worker to end one that runs."""
        job = session.jobs.get(job_id)
        if job is None:
            self._sessions.send(session, Cancelled(job_id))
        elif job.is_ended:
            self._sessions.pump(session)
        elif self._schedule.remove(job):
            self._end(job, Cancelled(job.job))
        elif job.cancelled_at is None:
            job.cancelled_at = time.monotonic()
            worker = self._worker_of(job)
            if worker is not None:
                self._send(worker, Cancel(job.job))

    def acknowledge(self, session: Session, job_id: str, revision: int | None) -> None:
        """Let go of what a client has received."""
        job = session.jobs.get(job_id)
        if job is None:
            return
        if revision is None:
            job.end = None
        else:
            kept = job.results.pop(revision, None)
            self._result_bytes -= kept.size if kept else 0
        if job.is_settled:
            del session.jobs[job_id]
        self._sessions.pump(session)

    def end_session(self, session: Session) -> None:
        """Cancel a session's jobs and forget what they gave."""
        for job_id in list(session.jobs):
            self.cancel(session, job_id)
        for job in session.jobs.values():
            self._result_bytes -= sum(kept.size for kept in job.results.values())
            job.results.clear()
        self._sessions.forget(session)

    # What workers say

    def assign(self) -> None:
        """Give waiting jobs to idle workers."""
        assert self.supervisor is not None
        for worker in self.supervisor.workers:
            if worker.state == "idle" and (job := self._schedule.take()) is not None:
                self._assign(worker, job)

    def _assign(self, worker: Worker, job: Job) -> None:
        now = time.monotonic()
        worker.state, worker.job = "busy", job
        worker.assigned_at = worker.sign_at = now
        job.attempts += 1
        order = Assign(job.job, job.next_revision)
        if not (self._send(worker, order) and self._send(worker, job.parts)):
            logger.warning("worker on %s took no job; the supervisor will see", worker.device)
        logger.debug("given to the worker on %s", worker.device, extra={"job": job.job})

    def worker_is_ready(self, worker: Worker, message: WorkerReady) -> None:
        """A worker has loaded its models."""
        worker.state, worker.failed_starts = "idle", 0
        worker.description, worker.models = message.device, message.models
        worker.kinds = message.kinds
        logger.info("worker on %s is ready (%s)", worker.device, message.device)

    def hear_alive(self, worker: Worker, message: Alive) -> None:
        """A worker's heartbeat."""
        if message.signs != worker.signs:
            worker.signs, worker.sign_at = message.signs, time.monotonic()

    def hear_job_message(self, worker: Worker, envelope: Envelope, parts: list[Any]) -> None:
        """Something about the job that a worker runs.

        Raises:
            ProtocolError: it is about another job.
        """
        job = worker.job
        if job is None or envelope.text("job") != job.job:
            raise ProtocolError("a worker spoke of a job that it does not run")
        worker.sign_at = time.monotonic()
        if envelope.name == Idle.NAME:
            self._worker_is_free(worker, job)
        elif job.is_ended:
            return
        elif envelope.name == Progress.NAME:
            if (session := self._sessions.of_token(job.session)) is not None:
                self._sessions.send(session, Progress.from_map(envelope.fields))
        elif envelope.name == Result.NAME:
            self._keep_result(job, envelope, parts)
        elif envelope.name == Failure.NAME:
            self._end(job, Failure.from_map(envelope.fields))
        elif envelope.name == Cancelled.NAME:
            self._end(job, Cancelled(job.job))

    def _worker_is_free(self, worker: Worker, job: Job) -> None:
        worker.state, worker.job, worker.deaths_in_a_row = "idle", None, 0
        if not job.is_ended:
            self._end(job, Failure("internal", "the job ended without a result", job=job.job))

    def _keep_result(self, job: Job, envelope: Envelope, parts: list[Any]) -> None:
        revision, is_final = envelope.fields.get("revision"), envelope.fields.get("final")
        if not isinstance(revision, int) or not isinstance(is_final, bool):
            raise ProtocolError("a worker gave a result without revision or final")
        job.next_revision = revision + 1
        if is_final:
            self._finish(job, "done")
        session = self._sessions.of_token(job.session)
        if session is None:
            return  # its client has left for good
        size = sum(len(part) for part in parts) + RESULT_OVERHEAD_BYTES
        job.results[revision] = KeptResult(revision, is_final, parts, size)
        self._result_bytes += size
        self._trim_results()
        self._sessions.pump(session)

    def _trim_results(self) -> None:
        """Keep results within memory: provisional ones go first, then those of lost clients."""
        if self._result_bytes <= self._limits.result_bytes:
            return
        sessions = self._sessions.all()
        jobs = [job for session in sessions for job in session.jobs.values()]
        lost = [job for session in sessions if session.identity is None
                for job in session.jobs.values() if job.is_ended]  # fmt: skip
        for job, only_provisional in [(job, True) for job in jobs] + [(job, False) for job in lost]:
            for kept in [*job.results.values()]:
                if self._result_bytes <= self._limits.result_bytes:
                    return
                if kept.is_final and only_provisional:
                    continue
                del job.results[kept.revision]
                self._result_bytes -= kept.size
                if kept.is_final:
                    reason = "the result was dropped because nobody fetched it: run the job again"
                    job.end = Failure("expired", reason, job=job.job)

    # How jobs end

    def worker_died(self, worker: Worker, reason: str, can_retry: bool) -> None:
        """Decide what becomes of the job of a worker that is no more."""
        job, worker.job = worker.job, None
        self.tally.worker_deaths += 1
        if job is None or job.is_ended:
            return
        if job.cancelled_at is not None:
            self._end(job, Cancelled(job.job))
        elif can_retry and job.attempts <= self._limits.job_retries:
            logger.warning("tried again: %s", reason, extra={"job": job.job})
            self._schedule.add(job, first=True)
        else:
            tries = f" (tried {job.attempts} times)" if job.attempts > 1 else ""
            kind = "worker" if can_retry else "deadline"
            self._end(job, Failure(kind, f"{reason}{tries}", job=job.job))

    def tick(self, now: float) -> None:
        """Kill workers whose job was cancelled and does not stop; fail jobs that nobody can run."""
        assert self.supervisor is not None
        for worker in self.supervisor.workers:
            job = worker.job
            if job is None or job.cancelled_at is None:
                continue
            if now - job.cancelled_at > self._limits.cancel_grace_s:
                self.supervisor.kill(worker, "a cancelled job did not stop by itself")
        if self._all_workers_keep_failing():
            words = self.supervisor.workers[0].last_words
            while (job := self._schedule.take()) is not None:
                reason = f"no worker can start ({words}): see the backend's log"
                self._end(job, Failure("worker", reason, job=job.job))
        self.assign()

    def _all_workers_keep_failing(self) -> bool:
        workers = self.supervisor.workers if self.supervisor else []
        return bool(workers) and all(worker.failed_starts >= 3 for worker in workers)

    def _end(self, job: Job, end: Failure | Cancelled) -> None:
        """A job comes to nothing; its client is told now or when it returns."""
        job.end = end
        self._finish(job, "failed" if isinstance(end, Failure) else "cancelled")
        if isinstance(end, Failure):
            logger.warning("failed (%s): %s", end.kind, end.message, extra={"job": job.job})
        session = self._sessions.of_token(job.session)
        if session is not None:
            self._sessions.pump(session)

    def _finish(self, job: Job, outcome: str) -> None:
        """Let go of what a job needed; its results stay until they are acknowledged."""
        if job.is_ended:
            return
        job.is_ended = True
        self._store.unpin(job.content_hashes)
        self._request_bytes -= job.size
        job.parts = []
        seconds = time.monotonic() - job.submitted_at
        self.tally.ended(job.kind, outcome, seconds)
        logger.info("%s %s after %.2f s", job.kind, outcome, seconds, extra={"job": job.job})

    def _worker_of(self, job: Job) -> Worker | None:
        workers = self.supervisor.workers if self.supervisor else []
        return next((worker for worker in workers if worker.job is job), None)
