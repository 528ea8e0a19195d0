# SPDX-License-Identifier: Apache-2.0
"""The messages that a client and the backend exchange, and the version of their protocol.

The first exchange is `Hello` and `Welcome` (or `Refused`). Content goes `Have` → `Missing` →
`UploadChunk`… → `UploadDone` → `Stored`; a job goes `Submit` → `Accepted` → `Progress`… →
`Result`… (the last one `final`), `Failure` or `Cancelled`. docs/wire.md has the table.
`payloads` says what jobs take and give, `codec` makes bytes, `client` sends them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from .message_fields import ArrayOf, AtMost, Between, JsonTree, ProtocolError, Record, Text
from .payload_parts import check_content_hash
from .payloads import (
    FREE_BODY,
    REQUESTS,
    RESULTS,
    AlignRequest,
    AlignResult,
    EstimateRequest,
    EstimateResult,
    ImportRequest,
    ImportResult,
    MediaReference,
    OtherPeople,
    PingRequest,
    PingResult,
    PreviewRequest,
    PreviewResult,
    RefineRequest,
    RefineResult,
    Request,
    TextureRequest,
    TextureResult,
    ViewReference,
)

__all__ = [
    "FREE_BODY", "MESSAGES", "PRIORITIES", "PROTOCOL_VERSION", "REQUESTS", "RESULTS",
    "Accepted", "Acknowledge", "AlignRequest", "AlignResult", "AskReport", "Cancel", "Cancelled",
    "Credit",
    "EstimateRequest", "EstimateResult", "Failure", "Goodbye", "Have", "Heartbeat", "Hello",
    "ImportRequest", "ImportResult", "Limits", "MediaReference", "Message", "Missing",
    "OtherPeople", "PingRequest", "PingResult", "PreviewRequest", "PreviewResult", "Priority",
    "Progress", "ProtocolError", "Record", "RefineRequest", "RefineResult", "Refused", "Report",
    "Request", "Result", "Status", "Stored", "Submit", "TextureRequest", "TextureResult",
    "UploadChunk", "UploadDone", "ViewReference", "Welcome", "read_message",
]  # fmt: skip

PROTOCOL_VERSION = (1, 1)
"""Major and minor. Another major is refused; a minor only adds fields, kinds and messages."""

Priority = Literal["interactive", "normal", "batch"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "normal", "batch")
"""Classes of urgency; a job of an earlier class runs before one of a later class."""

JobId = Annotated[str, Text(64)]
Token = Annotated[str, Text(128)]
Hash = Annotated[str, Text(64)]
Hashes = Annotated[tuple[Hash, ...], AtMost(256)]
Sentence = Annotated[str, Text(2000)]
Kind = Annotated[str, Text(64)]
Count = Annotated[int, Between(0, 2**53)]


class Message(Record):
    """Base of everything that travels on its own; `NAME` is its type on the wire."""


@dataclass(frozen=True)
class Limits(Record):
    """What the backend accepts; a client that respects them is never cut off."""

    NAME: ClassVar[str] = "limits"
    message_bytes: Count = 256 << 20
    """One message, header and arrays together."""
    part_bytes: Count = 128 << 20
    """One array."""
    header_bytes: Count = 4 << 20
    parts: Count = 64
    """Header and arrays of one message."""
    chunk_bytes: Count = 1 << 20
    """One piece of an upload."""
    upload_bytes: Count = 8 << 30
    """One uploaded file."""
    jobs: Count = 256
    """Unfinished jobs of one session."""
    result_window: Count = 8
    """Results that may be under way to a client that has not acknowledged them."""


@dataclass(frozen=True)
class Hello(Message):
    """Client → backend: who calls; the first message on every connection."""

    NAME: ClassVar[str] = "hello"
    protocol: tuple[Annotated[int, Between(0, 65535)], Annotated[int, Between(0, 65535)]]
    client_name: Annotated[str, Text(64)] = "client"
    client_version: Annotated[str, Text(64)] = ""
    session: Token | None = None
    """Token of an earlier `Welcome`, to find its jobs again."""


@dataclass(frozen=True)
class Welcome(Message):
    """Backend → client: the session is open."""

    NAME: ClassVar[str] = "welcome"
    protocol: tuple[Annotated[int, Between(0, 65535)], Annotated[int, Between(0, 65535)]]
    server_version: Annotated[str, Text(64)]
    session: Token
    """Secret that names this session; whoever has it sees its jobs."""
    resumed: bool = False
    """Whether the session in `Hello` was found again."""
    jobs: Annotated[tuple[JobId, ...], AtMost(4096)] = ()
    """Jobs of the session that the backend still knows."""
    device: Annotated[str, Text(128)] = ""
    """Where jobs run, in words for people."""
    models: Annotated[tuple[Annotated[str, Text(128)], ...], AtMost(64)] = ()
    """Names of loaded models."""
    kinds: Annotated[tuple[Kind, ...], AtMost(64)] = ()
    """Kinds of jobs that this backend knows."""
    limits: Limits = field(default_factory=Limits)
    credit: Annotated[int, Between(0, 65536)] = 16
    """Upload pieces and submissions that may be under way before `Credit` returns some."""
    heartbeat_s: Annotated[float, Between(0.01, 3600)] = 1.0
    """Silence after which each side says `Heartbeat`."""
    accepts_paths: bool = False
    """Whether the backend has media roots, so that footage may be named by path."""


@dataclass(frozen=True)
class Refused(Message):
    """Backend → client: no session, and why."""

    NAME: ClassVar[str] = "refused"
    kind: Annotated[str, Text(64)]
    """`protocol_version`, `hello_first`, `full`, `revoked`, `protocol` or `shutdown`."""
    reason: Sentence


@dataclass(frozen=True)
class Status(Message):
    """Backend → client: what `Welcome` said of the workers has changed."""

    NAME: ClassVar[str] = "status"
    device: Annotated[str, Text(128)]
    models: Annotated[tuple[Annotated[str, Text(128)], ...], AtMost(64)] = ()
    kinds: Annotated[tuple[Kind, ...], AtMost(64)] = ()


@dataclass(frozen=True)
class AskReport(Message):
    """Client → backend: how do you do; answered by `Report`."""

    NAME: ClassVar[str] = "ask_report"


@dataclass(frozen=True)
class Report(Message):
    """Backend → client: counts, sizes and times for whoever watches over it; no names, no jobs."""

    NAME: ClassVar[str] = "report"
    report: Annotated[dict[str, Any], JsonTree()]


@dataclass(frozen=True)
class Goodbye(Message):
    """Client → backend: it leaves; its unfinished jobs end unless it asks to keep them."""

    NAME: ClassVar[str] = "goodbye"
    keep_jobs: bool = False


@dataclass(frozen=True)
class Heartbeat(Message):
    """Both ways: still here."""

    NAME: ClassVar[str] = "heartbeat"


@dataclass(frozen=True)
class Credit(Message):
    """Backend → client: this many more upload pieces and submissions may be sent."""

    NAME: ClassVar[str] = "credit"
    amount: Annotated[int, Between(1, 65536)]


@dataclass(frozen=True)
class Have(Message):
    """Client → backend: content that it could upload; answered by `Missing`."""

    NAME: ClassVar[str] = "have"
    hashes: Hashes

    def __post_init__(self) -> None:
        super().__post_init__()
        for content_hash in self.hashes:
            check_content_hash(content_hash, "a hash in have")


@dataclass(frozen=True)
class Missing(Message):
    """Backend → client: which of those it lacks; with a job: that job waits until it is submitted
    again after the upload."""

    NAME: ClassVar[str] = "missing"
    hashes: Hashes
    job: JobId | None = None
    asked: Hashes = ()
    """The hashes of the `Have` that this answers."""


@dataclass(frozen=True)
class UploadChunk(Message):
    """Client → backend: one piece of a content, in order from offset 0."""

    NAME: ClassVar[str] = "upload"
    content_hash: Hash
    offset: Count
    data: Annotated[npt.NDArray[np.uint8], ArrayOf("uint8", "byte")]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_content_hash(self.content_hash, "upload.content_hash")


@dataclass(frozen=True)
class UploadDone(Message):
    """Client → backend: the content is complete; answered by `Stored` or `Failure`."""

    NAME: ClassVar[str] = "upload_done"
    content_hash: Hash
    size: Count
    kind: Literal["body", "character", "media", "texture"] = "media"
    """What it is, for people."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_content_hash(self.content_hash, "upload_done.content_hash")


@dataclass(frozen=True)
class Stored(Message):
    """Backend → client: the content arrived whole, its hash is right."""

    NAME: ClassVar[str] = "stored"
    content_hash: Hash


@dataclass(frozen=True)
class Submit(Message):
    """Client → backend: run a job. The same job id sent again is the same job."""

    NAME: ClassVar[str] = "submit"
    job: JobId
    payload: Request
    priority: Priority = "normal"

    @property
    def kind(self) -> str:
        """Kind of the job, from its payload."""
        return self.payload.KIND

    def to_map(self) -> dict[str, Any]:
        return {**super().to_map(), "kind": self.kind}

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> Self:
        return super().from_map(_with_payload(values, REQUESTS))


@dataclass(frozen=True)
class Accepted(Message):
    """Backend → client: the job waits or runs."""

    NAME: ClassVar[str] = "accepted"
    job: JobId
    position: Count = 0
    """Jobs ahead of it when it was accepted."""


@dataclass(frozen=True)
class Progress(Message):
    """Backend → client: how far a job is. Progress may be dropped; the newest says all."""

    NAME: ClassVar[str] = "progress"
    job: JobId
    fraction: Annotated[float, Between(0, 1)]
    stage: Annotated[str, Text(64)] = ""
    message: Sentence = ""
    eta_s: Annotated[float, Between(0, 1e9)] | None = None


@dataclass(frozen=True)
class Result(Message):
    """Backend → client: a revision of a job's result. The final one is complete in itself;
    provisional ones before it may be dropped."""

    NAME: ClassVar[str] = "result"
    job: JobId
    kind: Kind
    revision: Count
    final: bool
    payload: Record
    timings_ms: Annotated[dict[Annotated[str, Text(64)], float], AtMost(64)] = field(
        default_factory=dict
    )
    """Time of each step."""

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> Self:
        return super().from_map(_with_payload(values, RESULTS))


@dataclass(frozen=True)
class Acknowledge(Message):
    """Client → backend: this revision, or without one the job's end, need not be kept."""

    NAME: ClassVar[str] = "acknowledge"
    job: JobId
    revision: Count | None = None


@dataclass(frozen=True)
class Failure(Message):
    """Backend → client: a job, an upload or a message came to nothing."""

    NAME: ClassVar[str] = "failure"
    kind: Kind
    """A class name (`FootageError`), or `protocol`, `busy`, `content`, `media`, `worker`,
    `deadline`, `internal`."""
    message: Sentence
    job: JobId | None = None
    content_hash: Hash | None = None
    """The upload that failed."""

    @property
    def is_about_nothing_known(self) -> bool:
        """Whether something came to nothing of which the backend could not read what it was."""
        return self.kind == "protocol" and self.job is None and self.content_hash is None


@dataclass(frozen=True)
class Cancel(Message):
    """Client → backend: stop a job; answered by `Cancelled` (or by the end that came first)."""

    NAME: ClassVar[str] = "cancel"
    job: JobId


@dataclass(frozen=True)
class Cancelled(Message):
    """Backend → client: the job has ended because it was told to."""

    NAME: ClassVar[str] = "cancelled"
    job: JobId


MESSAGES: dict[str, type[Message]] = {
    kind.NAME: kind
    for kind in (
        Hello, Welcome, Refused, Status, Goodbye, Heartbeat, Credit, Have, Missing, UploadChunk,
        UploadDone, Stored, Submit, Accepted, Progress, Result, Acknowledge, Failure, Cancel,
        Cancelled, AskReport, Report,
    )
}  # fmt: skip
"""Every message by its name on the wire."""


def read_message(
    name: str, values: Mapping[str, Any], kinds: Mapping[str, type[Message]] = MESSAGES
) -> Message:
    """The message that travelled under `name` with `values`.

    Raises:
        ProtocolError: the name is unknown or a value breaks a rule.
    """
    if name not in kinds:
        raise ProtocolError(f"message type '{name[:40]}' is unknown to protocol {PROTOCOL_VERSION}")
    return kinds[name].from_map(values)


def _with_payload(values: Mapping[str, Any], kinds: Mapping[str, type[Record]]) -> dict[str, Any]:
    """The values with `payload` read as the record that `kind` names."""
    if not isinstance(values, Mapping):
        raise ProtocolError("a message with a payload is no map of its fields")
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        found = f"'{kind[:40]}'" if isinstance(kind, str) else "missing"
        raise ProtocolError(f"the job kind is {found}, expected one of {', '.join(kinds)}")
    return {**values, "payload": kinds[kind].from_map(values.get("payload", {}))}
