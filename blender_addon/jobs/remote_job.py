# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that the backend does: what is sent, what comes back, and how it gets into the scene.

No bpy here but through what a kind of job does in `apply`.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from posefit_shared.body_files import FREE_BODY
from posefit_shared.client import BackendError, Client
from posefit_shared.content import Content, ContentKind, content_slices
from posefit_shared.messages import (
    Accepted,
    Cancelled,
    MediaReference,
    Priority,
    Progress,
    Record,
    Request,
    Result,
)

from ..rigs.rig import SceneError
from .placed_job import PlacedJob


@dataclass(eq=False)
class RemoteJob(PlacedJob):
    """What is known of one job of the backend; changed by the session alone."""

    RESULT: ClassVar[type[Record]] = Record
    """What the backend answers with."""
    KIND: ClassVar[str] = ""
    """What the wire calls this kind of job."""
    remote_id: str = field(default="", kw_only=True)
    """Its name at the backend, once it was handed over."""
    by_upload: bool = field(default=False, kw_only=True)
    """Whether its file travels, instead of being named by path."""
    result: Any = field(default=None, kw_only=True)
    """The newest revision that came and is not in place."""
    has_final: bool = field(default=False, kw_only=True)
    """Whether that is the last one."""

    @property
    def is_to_be_placed(self) -> bool:
        """Whether its result waits to be put in place."""
        return self.is_kept or (self.is_open and self.has_final)

    @property
    def media(self) -> Path | None:
        """The file or folder that the backend works on, once it is known."""
        raise NotImplementedError

    @property
    def priority(self) -> Priority:
        """How urgent it is among the backend's jobs."""
        return "normal"

    @property
    def can_be_kept(self) -> bool:
        """Whether something has come of it that is not in place."""
        return self.has_final

    def preparation(self, client: Client) -> Generator[None, None, Any]:
        """What is to be done before it can be sent, in slices; none of it uses bpy."""
        raise NotImplementedError

    def take_prepared(self, prepared: Any) -> Request:
        """The message to send, from what the preparation gave."""
        return prepared

    def hear(self, event: object) -> None:
        """Take in what the backend says of it; failures are the session's."""
        if isinstance(event, Accepted):
            self.words = f"{event.position} ahead of it" if event.position else "waiting"
        elif isinstance(event, Progress):
            self.fraction = event.fraction
            self.words = event.message or event.stage or "computing"
            self.time_left.report(time.monotonic(), event.fraction, event.eta_s)
        elif isinstance(event, Result) and isinstance(event.payload, self.RESULT):
            self.take_result(event.payload, event.final)
            if event.final:
                self.words, self.fraction = "putting it in place", 1.0
        elif isinstance(event, Cancelled):
            self.end("the backend cancelled it", is_problem=True)

    def take_result(self, payload: Record, is_final: bool) -> None:
        """Take in a revision of the result."""
        self.result, self.has_final = payload, is_final

    def drop(self) -> None:
        """Forget what has come of it."""
        super().drop()
        self.result, self.has_final = None, False


def name_media(
    client: Client, path: Path, by_upload: bool
) -> Generator[None, None, MediaReference]:
    """A file or folder as the backend finds it, in slices: a film that is to travel is hashed.

    Args:
        client: where the job will go.
        path: a file, or a folder of images.
        by_upload: send it even where the backend accepts paths.

    Raises:
        SceneError: it can neither be named nor sent.
        BackendError: the file cannot be read.
    """
    welcome = client.welcome
    if welcome is not None and welcome.accepts_paths and not by_upload:
        return MediaReference(path=str(path))
    if path.is_dir():
        raise SceneError(
            f"the backend may not open the folder {path}: start it with --media-root "
            "naming that folder, or one above it"
        )
    content = yield from _hashed(path, "media")
    return MediaReference(content_hash=client.upload(content), name=path.name)


def name_body(client: Client, body: str) -> Generator[None, None, str]:
    """A body as the backend finds it: `free`, or the hash of a file that is sent if it lacks it.

    Raises:
        BackendError: the file cannot be read.
    """
    if body == FREE_BODY:
        return FREE_BODY
    content = yield from _hashed(Path(body), "body")
    return client.upload(content)


def _hashed(path: Path, kind: ContentKind) -> Generator[None, None, Content]:
    try:
        return (yield from content_slices(path, kind))
    except OSError as error:
        raise BackendError(
            f"cannot read {path} ({error.strerror or error}): check the path"
        ) from error
