# SPDX-License-Identifier: Apache-2.0
"""What a running job can ask of the worker that runs it: report, publish, cancel, find files."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from posefit_shared.messages import (
    RESULTS,
    MediaReference,
    Message,
    Progress,
    Record,
    Result,
    check_content_hash,
)

from .media_paths import MediaError, resolve_media_path

__all__ = ["JobCancelled", "JobContext", "JobFolders", "WorkerInfo"]

PROGRESS_PAUSE_S = 0.05
"""Progress of one stage that comes sooner than this after the last is not sent."""


class JobCancelled(Exception):  # noqa: N818  # not an error: the job was told to end
    """The client has cancelled the job; let it pass."""


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker says of itself once its models are loaded."""

    device: str
    """Torch's name of the device, given to each job."""
    description: str = ""
    """The device in words for people; the name if empty."""
    models: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobFolders:
    """Where jobs find files."""

    content: Path
    """Uploads, each under its hash."""
    media_roots: Sequence[Path]
    own: Path
    """For this worker's temporary files; removed with the backend."""


class JobContext:
    """One job's line to its client; used in the thread that runs the job."""

    def __init__(
        self,
        job: str,
        kind: str,
        *,
        device: str,
        folders: JobFolders,
        send: Callable[[Message], None],
        is_cancelled: Callable[[], bool],
        first_revision: int = 0,
    ) -> None:
        self.device = device
        """Torch's name of the device to compute on."""
        self.has_final = False
        """Whether the final result has been published."""
        self.signs = 0
        """How often the job has called; grows while it is not hung."""
        self._job, self._kind, self._folders = job, kind, folders
        self._send, self._is_cancelled = send, is_cancelled
        self._revision = first_revision
        self._started_at = time.monotonic()
        self._last_progress: tuple[float, str] = (-math.inf, "")

    def progress(self, fraction: float, stage: str = "", message: str = "") -> None:
        """Tell the client how far the job is; also a place where cancellation takes effect.

        Args:
            fraction: 0 to 1, of the whole job.
            stage: one word for the step.
            message: one sentence for people, if there is something to say.

        Raises:
            JobCancelled: the client has cancelled the job.
        """
        self.check_cancelled()
        now = time.monotonic()
        sent_at, sent_stage = self._last_progress
        if stage == sent_stage and now - sent_at < PROGRESS_PAUSE_S and fraction < 1:
            return
        self._last_progress = (now, stage)
        fraction = min(max(fraction, 0.0), 1.0) if math.isfinite(fraction) else 0.0
        elapsed_s = now - self._started_at
        eta_s = elapsed_s * (1 - fraction) / fraction if fraction > 0.01 else None
        self._send(Progress(self._job, fraction, stage[:64], message[:2000], eta_s))

    def publish(
        self, payload: Record, *, final: bool = False, timings_ms: Mapping[str, float] | None = None
    ) -> None:
        """Send a revision of the result.

        Args:
            payload: the result record of this kind of job; a final one is complete in itself.
            final: whether nothing will follow.
            timings_ms: time of each step, for the client's display.

        Raises:
            CodecError: the result is larger than a client accepts.
            JobCancelled: the client has cancelled the job.
        """
        self.check_cancelled()
        assert isinstance(payload, RESULTS[self._kind]), f"{self._kind} does not give this record"
        assert not self.has_final, "a final result has been published already"
        total = {"total": (time.monotonic() - self._started_at) * 1000}
        timings = {**(timings_ms or {}), **total}
        self._send(Result(self._job, self._kind, self._revision, final, payload, timings))
        self._revision += 1
        self.has_final = final

    def check_cancelled(self) -> None:
        """Call this at least once a frame.

        Raises:
            JobCancelled: the client has cancelled the job.
        """
        self.signs += 1
        if self._is_cancelled():
            raise JobCancelled

    def content(self, content_hash: str, ending: str = "") -> Path:
        """The uploaded file of that hash.

        Args:
            content_hash: as the client named it.
            ending: how the file's name should end, for readers that look at it (`.png`).

        Raises:
            MediaError: it is not there.
        """
        self.signs += 1
        path = self._folders.content / check_content_hash(content_hash, "the content hash")
        if not path.is_file():
            raise MediaError("an uploaded file is gone from the backend: upload it again")
        if not ending:
            return path
        named = self._folders.own / f"{path.name}{ending}"
        if not named.exists():
            named.hardlink_to(path)
        return named

    @property
    def readable_folders(self) -> tuple[Path, ...]:
        """Everything that a client may name, or has sent."""
        return (self._folders.content, self._folders.own, *self._folders.media_roots)

    def resolve_media(self, reference: MediaReference) -> Path:
        """The footage behind a reference: a file or a folder of images.

        Raises:
            MediaError: it is not there, or outside the media roots.
        """
        if reference.path is not None:
            return resolve_media_path(reference.path, self._folders.media_roots, look_inside=True)
        ending = Path(reference.name or "").suffix.lower()
        is_plain = re.fullmatch(r"\.[a-z0-9]{1,8}", ending) is not None
        return self.content(reference.content_hash or "", ending if is_plain else "")
