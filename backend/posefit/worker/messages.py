# SPDX-License-Identifier: Apache-2.0
"""What the broker and its worker processes say to each other, besides the messages of the wire.

Broker → worker: `Assign` followed by the client's own `Submit` untouched, `Cancel`, `Heartbeat`,
`Stop`. Worker → broker: `WorkerHello`, `WorkerReady`, `Alive`, and for the job it runs `Progress`,
`Result`, `Failure` or `Cancelled`, then `Idle`. A standby says `StandbyReady` when it has loaded,
and after `TakeOver` it is a worker, which says `WorkerReady`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from posefit_shared.message_fields import AtMost, Between, Text
from posefit_shared.messages import (
    Cancel,
    Cancelled,
    Failure,
    Heartbeat,
    JobId,
    Kind,
    Limits,
    Message,
    Progress,
    Result,
    Submit,
    Token,
)

__all__ = [
    "FAULTS_FILE", "WORKER_LIMITS", "WORKER_MESSAGES", "Alive", "Assign", "Idle", "StandbyReady",
    "Stop", "TakeOver", "WorkerHello", "WorkerReady",
]  # fmt: skip

FAULTS_FILE = "faults"
"""In a worker's folder: what it was at when a signal ended it."""
WORKER_LIMITS = Limits(message_bytes=8 << 30, part_bytes=8 << 30, header_bytes=64 << 20)
"""Between broker and worker; what clients may send is limited at the front."""


@dataclass(frozen=True)
class WorkerHello(Message):
    """A worker process has started; its models are not loaded yet."""

    NAME: ClassVar[str] = "worker_hello"
    token: Token
    """The secret that the broker gave it through its standard input."""


@dataclass(frozen=True)
class WorkerReady(Message):
    """The worker waits for its first job."""

    NAME: ClassVar[str] = "worker_ready"
    device: Annotated[str, Text(128)]
    """In words for people: `cpu`, `cuda:0 (NVIDIA H100)`."""
    models: Annotated[tuple[Annotated[str, Text(128)], ...], AtMost(64)] = ()
    kinds: Annotated[tuple[Kind, ...], AtMost(64)] = ()


@dataclass(frozen=True)
class StandbyReady(Message):
    """The process has loaded what it can without touching its device, and waits for `TakeOver`."""

    NAME: ClassVar[str] = "standby_ready"


@dataclass(frozen=True)
class TakeOver(Message):
    """The standby is a worker from now on."""

    NAME: ClassVar[str] = "take_over"


@dataclass(frozen=True)
class Alive(Message):
    """The worker process runs; `signs` grows whenever its job reports or asks for anything."""

    NAME: ClassVar[str] = "alive"
    signs: Annotated[int, Between(0, 2**53)] = 0


@dataclass(frozen=True)
class Assign(Message):
    """The `Submit` that follows is for this worker."""

    NAME: ClassVar[str] = "assign"
    job: JobId
    first_revision: Annotated[int, Between(0, 2**53)] = 0
    """Where to go on counting, if an earlier worker got part of the way."""


@dataclass(frozen=True)
class Idle(Message):
    """The worker has ended this job and takes the next."""

    NAME: ClassVar[str] = "idle"
    job: JobId


@dataclass(frozen=True)
class Stop(Message):
    """The worker is to exit."""

    NAME: ClassVar[str] = "stop"


WORKER_MESSAGES: Mapping[str, type[Message]] = {
    kind.NAME: kind
    for kind in (
        WorkerHello, WorkerReady, StandbyReady, TakeOver, Alive, Assign, Idle, Stop, Submit, Cancel,
        Heartbeat, Progress, Result, Failure, Cancelled,
    )
}  # fmt: skip
"""Every message that may pass between the broker and a worker."""
