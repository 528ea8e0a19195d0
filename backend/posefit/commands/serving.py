# SPDX-License-Identifier: Apache-2.0
"""Commands around a backend: run one, watch over it, say who may use it."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from posefit_shared.addresses import DEFAULT_ADDRESS
from posefit_shared.key_files import KeyFileError, read_client_keys, write_client_keys

from ..child_processes import ChildProcess, kill_process
from ..worker.log_records import LogFormat, write_log
from ..worker.start import start_process

if TYPE_CHECKING:
    from ..server.config import ServeConfig
    from ..server.keyring import Keyring

__all__ = ["keys", "run_backend", "serve", "status"]

_CONNECT_S = 5.0
"""Longest wait for a backend to answer `posefit status`."""


def serve(
    bind: str = "tcp://127.0.0.1:5557",
    media_root: tuple[Path, ...] = (),
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int | None = None,
    standby: bool = True,
    curve: bool = False,
    key_folder: Path | None = None,
    ready_file: Path | None = None,
    log_format: LogFormat = "text",
    metrics: str | None = None,
    crash_folder: Path | None = None,
    exit_with_stdin: bool = False,
) -> int:
    """Run the backend that Blender and `refine --server` talk to.

    Args:
        bind: Address and port; port 0 takes a free one. Other than loopback needs --curve.
        media_root: Folders whose footage clients may name by path.
        device: Where to compute.
        workers: Processes that compute: one for each GPU, or one, unless given. With two on one
            device the other goes on at once when one dies.
        standby: Keep one more process for each device that has everything loaded and takes the
            place of one that dies (docs/faults.md has what it costs).
        curve: Encrypted connections of allowed clients only (docs/security.md).
        key_folder: Where the backend's keys and its list of clients lie.
        ready_file: File that receives the address once the backend listens.
        log_format: Log for people, or for programs: one JSON object a line.
        metrics: Loopback HOST:PORT that answers /metrics, /healthz and /readyz (docs/watching.md).
        crash_folder: Folder for reports of crashes and unexpected errors; they hold no pictures.
        exit_with_stdin: End when standard input closes, as it does when the starter dies.
    """
    from ..server.config import ServeConfig

    config = ServeConfig(
        bind=bind, media_roots=media_root, device=device, workers=workers, standby=standby,
        curve=curve, key_folder=key_folder, ready_file=ready_file, log_format=log_format,
        metrics=metrics, crash_folder=crash_folder, exit_with_stdin=exit_with_stdin,
        is_kept=True,
    )  # fmt: skip
    return run_backend(config)


def run_backend(config: ServeConfig) -> int:
    """Run a backend with a keeper or without; exit status as `server.serve`.

    Raises:
        ServeError: it cannot be started so.
    """
    from ..server.config import check_config, map_of_config
    from ..server.keeper import can_keep, keep

    check_config(config)
    if config.is_kept and can_keep():
        write_log(logging.INFO, config.log_format, "keeper")
        return keep(map_of_config(config))
    write_log(logging.INFO, config.log_format, "broker")
    with _early_worker(config) as early:
        from ..server import serve as run_server

        return run_server(config, early)


@contextlib.contextmanager
def _early_worker(config: ServeConfig) -> Iterator[list[ChildProcess]]:
    """The first worker's process, which loads torch while the broker is being imported; ended if
    nobody takes it out of the list."""
    early: list[ChildProcess] = []
    with contextlib.suppress(OSError):  # the supervisor will try as well, and say why it cannot
        early.append(start_process(config.handlers.partition(":")[0]))
    try:
        yield early
    finally:
        for process in early:
            kill_process(process)
            if process.stdin is not None:
                process.stdin.close()


def status(
    server: tyro.conf.Positional[str] = DEFAULT_ADDRESS,
    key_file: Path | None = None,
    json: bool = False,
) -> int:
    """Say how a backend does: workers, jobs, clients, memory. Exit status 1 while it is not ready.

    Args:
        server: Address of the backend.
        key_file: This client's keys, where the backend lets in known clients only.
        json: Everything as JSON, for programs.
    """
    from .backend_address import Server, connect

    with connect(Server(server, key_file), "posefit status") as client:
        client.wait_ready(_CONNECT_S)
        report = client.report()
    text = dumps(report, indent=2) if json else "\n".join(_status_lines(server, report))
    sys.stdout.write(text + "\n")
    return 0 if report["is_ready"] else 1


def _status_lines(server: str, report: dict[str, Any]) -> list[str]:
    jobs, sessions, size = report["jobs"], report["sessions"], report["bytes"]
    lines = [f"posefit {report['version']} at {server}, up {_duration(report['uptime_s'])}"]
    for worker in report["workers"]:
        work = f", {worker['job_kind']} for {worker['job_s']:.0f} s" if worker["job_kind"] else ""
        words = f" ({worker['last_words']})" if worker["state"] == "down" else ""
        lines.append(f"worker    {worker['device']}: {worker['state']}{work}{words}")
    waiting = ", ".join(f"{count} {name}" for name, count in jobs["waiting"].items() if count)
    for standby in report["standbys"]:
        words = f" ({standby['last_words']})" if standby["state"] == "down" else ""
        lines.append(f"standby   {standby['device']}: {standby['state']}{words}")
    lines.append(f"jobs      {jobs['running']} running, waiting: {waiting or 'none'}")
    lines += [f"ended     {one['count']} {one['kind']} {one['outcome']}" for one in jobs["ended"]]
    lines.append(f"clients   {sessions['connected']} connected of {sessions['open']}")
    lines.append(
        f"memory    {size['process'] >> 20} MiB; requests {size['requests'] >> 20}, results "
        f"{size['results'] >> 20}; uploads on disk {size['uploads'] >> 20}"
    )
    if report["worker_deaths"]:
        lines.append(f"deaths    {report['worker_deaths']} workers ended or were killed")
    return lines


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds) % 60} s"


def keys(
    action: tyro.conf.Positional[Literal["new", "allow", "list", "revoke"]],
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = "",
    key: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="KEY")] = "",
    output: Path | None = None,
    server_key: str | None = None,
    key_folder: Path | None = None,
) -> None:
    """Make keys for clients, and say which clients a backend lets in (docs/security.md).

    Args:
        action: "new" makes a client's key file, "allow" lets a client in, "revoke" no longer, and
            "list" prints the backend's public key and all clients.
        name: The client.
        key: With allow: the client's public key, or its key file.
        output: With new: where the client's key file goes (NAME.keys unless given).
        server_key: With new: public key of a backend on another machine.
        key_folder: Where the backend's keys and its list of clients lie.
    """
    from ..server.keyring import Keyring

    keyring = Keyring(key_folder)
    if action == "list":
        lines = [f"backend {keyring.backend_pair().public_key}"]
        lines += [f"client  {public} {client}" for public, client in keyring.allowed().items()]
    elif not name:
        raise KeyFileError(f"posefit keys {action} needs the client's name")
    elif action == "new":
        lines = _new_client(keyring, name, output or Path(f"{name}.keys"), server_key)
    elif action == "allow":
        keyring.allow(name, read_client_keys(Path(key)).public_key if Path(key).is_file() else key)
        lines = [f"{name} is let in"]
    else:
        keyring.revoke(name)
        lines = [f"{name} is let in no longer"]
    sys.stdout.write("\n".join(lines) + "\n")


def _new_client(keyring: Keyring, name: str, output: Path, server_key: str | None) -> list[str]:
    """Write a client's key file; what to do with it."""
    from ..server.keyring import make_client_keys

    if output.exists():
        raise KeyFileError(f"{output} is there already: keys are not overwritten, remove it first")
    made = make_client_keys(server_key or keyring.backend_pair().public_key)
    write_client_keys(output, made)
    return [
        f"{output} has {name}'s keys, secret one included: whoever has it is {name}",
        f"On the backend's machine: posefit keys allow {name} {made.public_key}",
    ]
