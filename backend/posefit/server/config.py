# SPDX-License-Identifier: Apache-2.0
"""Settings of a backend: where it listens, what it allows, how long it waits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from posefit_shared.addresses import DEFAULT_ADDRESS, AddressError, check_address
from posefit_shared.messages import Limits

from ..errors import PosefitError
from ..worker.log_records import LogFormat

__all__ = [
    "ServeConfig",
    "ServeError",
    "ServeLimits",
    "check_config",
    "config_of_map",
    "map_of_config",
]


class ServeError(PosefitError):
    """The backend cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class ServeLimits:
    """Bounds of memory, disk and time; times in seconds."""

    wire: Limits = field(default_factory=Limits)
    """What clients may send; told to them in `Welcome`."""
    sessions: int = 64
    """Clients at once, those that may come back included."""
    sessions_per_key: int = 16
    """Of these, with one key."""
    session_bytes: int = 1 << 30
    """Memory of one client's requests and of results that it has not acknowledged."""
    queued_bytes: int = 2 << 30
    """Memory of requests that wait or run."""
    result_bytes: int = 1 << 30
    """Memory of results that no client has acknowledged."""
    content_bytes: int = 32 << 30
    """Disk space of uploads; the longest unused go first."""
    credit: int = 16
    """Upload pieces and submissions that a client may have under way."""
    heartbeat_s: float = 1.0
    """Silence after which either side says that it is still there."""
    handshake_s: float = 10.0
    """Time for a new connection to say what it is before it is dropped."""
    client_silence_s: float = 15.0
    """Silence that counts as a lost client."""
    session_keep_s: float = 600.0
    """How long a lost client's jobs run on and its results are kept."""
    job_deadline_s: float = 6 * 3600.0
    """Longest time of one job."""
    job_stall_s: float = 300.0
    """Longest time in which a job neither reports nor asks whether it is cancelled."""
    job_retries: int = 1
    """How often a job whose worker died is given to another."""
    cancel_grace_s: float = 5.0
    """Time for a cancelled job to end by itself before its worker is killed."""
    worker_start_s: float = 180.0
    """Time for a worker to load its models."""
    worker_silence_s: float = 30.0
    """Silence of a worker process that counts as hung."""
    broker_silence_s: float = 60.0
    """Silence of the broker after which its keeper, if it has one, starts another."""
    worker_restart_s: float = 0.5
    """Pause before a worker is started again that has died twice without a job having come to its
    end, or at its start; doubles while it keeps dying at its start."""
    standby_pause_s: float = 2.0
    """Pause before a standby is started, after its worker is ready or another one was needed;
    doubles while workers die without a job having come to its end."""
    stop_grace_s: float = 3.0
    """Time for workers to exit by themselves at shutdown."""


@dataclass(frozen=True)
class ServeConfig:
    """One backend."""

    bind: str = DEFAULT_ADDRESS
    """Address to listen on; port 0 takes a free one. Other than loopback needs `curve`."""
    curve: bool = False
    """Take encrypted connections of allowed clients only (`posefit keys`), and no others."""
    key_folder: Path | None = None
    """Where the backend's keys and the list of clients lie; none: the user's own folder."""
    launch_keys: Path | None = None
    """File that receives the keys of the one client of this run; removed when it stops. For a
    program that starts a backend for itself alone."""
    media_roots: tuple[Path, ...] = ()
    """Folders whose footage clients may name by path; none: uploads only."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    workers: int | None = None
    """Worker processes; none: one for each GPU, or one on the CPU."""
    standby: bool = False
    """Keep one more process for each device that has everything loaded and no job, and that takes
    the place of a worker that dies."""
    handlers: str = "posefit.worker.jobs:run_job"
    """Function that runs a job, as `module:function`; imported by the workers only."""
    ready_file: Path | None = None
    """File that receives the address once the backend listens; removed when it stops."""
    log_format: LogFormat = "text"
    """`text` for people, `json` for programs: one object a line."""
    metrics: str | None = None
    """Loopback `host:port` that answers /metrics, /healthz and /readyz; none: nobody asks."""
    crash_folder: Path | None = None
    """Folder for reports of crashes and unexpected errors, which hold no pictures; none: none."""
    exit_with_stdin: bool = False
    """End when standard input ends: for a program that starts a backend and may crash."""
    is_kept: bool = False
    """Let a process of its own start the backend again when it dies; not on Windows."""
    limits: ServeLimits = field(default_factory=ServeLimits)


def check_config(config: ServeConfig) -> None:
    """See whether a backend may be started so.

    Raises:
        ServeError: the address may not be used, or a media root is not there.
    """
    try:
        has_keys = config.curve or config.launch_keys is not None
        check_address(config.bind, has_keys=has_keys, may_pick_port=True)
    except AddressError as error:
        raise ServeError(str(error)) from error
    for root in config.media_roots:
        if not root.is_dir():
            raise ServeError(f"media root {root} is no folder: check --media-root")


def map_of_config(config: ServeConfig) -> dict[str, Any]:
    """Settings as JSON has them."""
    values = asdict(config)
    for name in _PATHS:
        values[name] = None if values[name] is None else str(values[name])
    return {**values, "media_roots": [str(root) for root in config.media_roots]}


def config_of_map(values: dict[str, Any]) -> ServeConfig:
    """The settings that `map_of_config` wrote."""
    limits = {**values["limits"], "wire": Limits(**values["limits"]["wire"])}
    paths = {name: Path(values[name]) for name in _PATHS if values[name] is not None}
    roots = tuple(Path(root) for root in values["media_roots"])
    return ServeConfig(**{**values, **paths, "media_roots": roots, "limits": ServeLimits(**limits)})


_PATHS = ("key_folder", "launch_keys", "ready_file", "crash_folder")
