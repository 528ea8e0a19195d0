# SPDX-License-Identifier: Apache-2.0
"""Jobs as tasks of a Ray cluster; results come back through Ray's object store.

A short clip is one task. A long one is several: the first finds what its windows share, parts of it
follow on any node, and the last joins them and judges; a part whose node is lost is done again by
Ray, the others stay. Where asked, decoding and keypoints are a task before these that takes cores
and no GPU. What goes between them are records of a checkpoint, 1.5 kB a frame, and the numbers are
those of the clip done in one piece. Nodes need posefit and the jobs' input files under the same
paths; they write nothing there.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .executor import Event, Failed, Finished
from .job_process import failure_of
from .jobs import FILE_COLUMNS, WORD_COLUMNS, BatchError, Job
from .local_processes import ProcessLimits
from .ray_config import RayConfig

__all__ = ["RayTasks"]

logger = logging.getLogger(__name__)

_LOG_CHARACTERS = 100_000
_WATCH_S = 1.0
_CONNECT_S = 15.0
_PART_RETRIES = 2
"""How often Ray does a part of a clip again whose process or node is gone."""


@dataclass
class _Task:
    job: Job
    folder: Path
    log: Path
    order: dict[str, Any]
    before: list[Any]
    """References of the tasks that it waits for."""


class RayTasks:
    """An executor of Ray tasks.

    Args:
        address: of the cluster, `auto` for the one that this machine belongs to, or `local`.
        machine: what `handlers.Machine` takes.
        resources: what a task takes.
        limits: when a task is given up.
        handlers: module with `run_job` and `Machine`, importable on every node.

    Raises:
        BatchError: Ray is not installed, or there is no cluster.
    """

    def __init__(
        self,
        address: str,
        machine: dict[str, Any],
        resources: RayConfig,
        limits: ProcessLimits | None = None,
        handlers: str = "posefit.batch.work",
    ) -> None:
        limits = limits or ProcessLimits()
        self._ray = _connect(address)
        self._check(resources)
        # The batch tries again itself, and writes down why.
        rules = {"max_retries": 0, "max_calls": limits.jobs_a_process}
        taken = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
        self._remote = self._ray.remote(**taken, **rules)(do_job)
        self._part = self._ray.remote(**taken, **{**rules, "max_retries": _PART_RETRIES})(do_part)
        self._look = None
        if resources.decode_cpus > 0:
            self._look = self._ray.remote(num_cpus=resources.decode_cpus, **rules)(do_look)
        self._order = {
            "handlers": handlers, "machine": machine, "limits": limits,
            "chunk_frames": resources.chunk_frames,
        }  # fmt: skip
        self._slots = resources.in_flight
        self._tasks: dict[Any, _Task] = {}

    @property
    def slots(self) -> int:
        """How many tasks Ray may know of."""
        return self._slots

    def submit(self, job: Job, folder: Path, fingerprint: str, log: Path, kept: Path) -> None:
        """Hand a job to the cluster; what is done of it is kept there, not in the folder."""
        order = {**self._order, "job": with_whole_paths(job).to_map(), "fingerprint": fingerprint}
        before = [] if self._look is None else [self._look.remote(order)]
        self._tasks[self._remote.remote(order, *before)] = _Task(job, folder, log, order, before)

    def events(self, timeout_s: float) -> list[Event]:
        """What has ended since."""
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        found = [self._event(reference, self._tasks.pop(reference)) for reference in ready]
        return [event for event in found if event is not None]

    def close(self) -> None:
        """Stop all tasks and leave the cluster."""
        before = [reference for task in self._tasks.values() for reference in task.before]
        for reference in (*self._tasks, *before):
            with contextlib.suppress(Exception):  # the cluster may be gone
                self._ray.cancel(reference, force=True)
        self._tasks.clear()
        self._ray.shutdown()

    def _event(self, reference: Any, task: _Task) -> Event | None:
        """What became of a job; None where it goes on in parts."""
        errors = self._ray.exceptions
        try:
            outcome = self._ray.get(reference)
        except (errors.NodeDiedError, errors.LocalRayletDiedError, errors.ObjectLostError):
            return Failed(task.job.name, "lost", "the node went away")
        except errors.OutOfMemoryError:
            return Failed(task.job.name, "broke", "the node's memory ran out")
        except errors.WorkerCrashedError:
            limits = self._order["limits"]
            words = f"the process died, or showed no progress for {limits.hang_seconds:g} s"
            return Failed(task.job.name, "broke", words)
        except errors.RayError as error:
            return Failed(task.job.name, "broke", f"Ray: {str(error).splitlines()[0]}")
        with task.log.open("a", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(outcome["log"])
        if outcome["event"] == "failed":
            return Failed(task.job.name, outcome["kind"], outcome["words"])
        if outcome["event"] == "begun":
            self._divide(task, outcome)
            return None
        for name, data in outcome["files"].items():
            (task.folder / Path(name).name).write_bytes(data)
        return Finished(task.job.name)

    def _divide(self, task: _Task, begun: dict[str, Any]) -> None:
        """Hand out the parts of a clip, and the task that joins them."""
        shared = self._ray.put({"event": "begun", "records": begun["records"], "log": ""})
        parts = [self._part.remote(task.order, chunk, shared) for chunk in begun["chunks"]]
        joining = self._remote.remote({**task.order, "chunk_frames": 0}, shared, *parts)
        self._tasks[joining] = replace(task, before=[*task.before, shared, *parts])

    def _check(self, resources: RayConfig) -> None:
        """Refuse what no node has; an autoscaler may still bring others, so only a warning."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        wanted = (resources.cpus, resources.gpus, resources.decode_cpus, resources.chunk_frames)
        if resources.in_flight < 1 or min(wanted) < 0:
            self._ray.shutdown()
            raise BatchError(
                "--ray-in-flight must be 1 or more, and --ray-cpus, --ray-gpus, --ray-decode-cpus "
                "and --ray-chunk-frames must not be below 0"
            )
        if not any(
            node.get("CPU", 0) >= resources.cpus and node.get("GPU", 0) >= resources.gpus
            for node in nodes
        ):
            logger.warning(
                "no node of the cluster has %g CPUs and %g GPUs for a job: jobs wait for one",
                resources.cpus, resources.gpus,
            )  # fmt: skip


def with_whole_paths(job: Job) -> Job:
    """The job with paths that mean the same in every working folder."""
    files = {name: getattr(job, name).resolve() for name in FILE_COLUMNS if getattr(job, name)}
    words = {
        name: str(Path(word).resolve())
        for name in WORD_COLUMNS
        for word in (getattr(job, name),)
        if word and Path(word).is_file()
    }
    others = tuple(path.resolve() for path in job.others)
    return replace(job, others=others, **files, **words)


def do_look(order: dict[str, Any]) -> dict[str, Any]:
    """A job's first stage: what was seen, or why nothing was; nothing escapes but death.

    Args:
        order: as for `do_job`.
    """

    def look(module: Any, job: Job, machine: Any, sign: Callable[[float, str], None]) -> Any:
        return {"event": "looked", "records": module.look_at_job(job, machine, sign)}

    return _told(order, look)


def do_part(order: dict[str, Any], chunk: Any, begun: dict[str, Any]) -> dict[str, Any]:
    """A part of a long clip: its records, or why there are none; nothing escapes but death.

    Args:
        order: as for `do_job`.
        chunk: which part.
        begun: what all parts share.
    """

    def run(module: Any, job: Job, machine: Any, sign: Callable[[float, str], None]) -> Any:
        records = module.do_chunk(job, chunk, machine, begun["records"], sign)
        return {"event": "done", "records": records}

    return _told(order, run)


def do_job(order: dict[str, Any], *before: dict[str, Any]) -> dict[str, Any]:
    """One job on a node: its files, or why there are none; nothing escapes but death.

    Args:
        order: `handlers`, `machine`, `limits`, `job`, `fingerprint`, `chunk_frames`: clips that are
            longer are only begun, and come back with their parts.
        before: what tasks before this one gave.
    """
    if failed := next((one for one in before if one["event"] == "failed"), None):
        return failed
    records = {name: arrays for one in before for name, arrays in one["records"].items()}

    def run(module: Any, job: Job, machine: Any, sign: Callable[[float, str], None]) -> Any:
        if longest := order["chunk_frames"]:
            chunks = module.begin_chunks(job, machine, longest, records, sign)
            if chunks:
                return {"event": "begun", "chunks": chunks, "records": records}
        with tempfile.TemporaryDirectory(prefix="posefit-") as name:
            folder = Path(name)
            module.run_job(job, folder, machine, order["fingerprint"], sign, records)
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return {"event": "finished", "files": files}

    outcome = _told(order, run)
    return {**outcome, "log": "".join(one["log"] for one in before) + outcome["log"]}


def _told(order: dict[str, Any], do: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What a stage gave, with its log, or how it failed."""
    words, log = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(words)
    log.addHandler(handler)
    watch = _Watch(order["limits"])
    try:
        module = importlib.import_module(order["handlers"])
        machine = module.Machine(**order["machine"])
        outcome = do(module, Job.from_map(order["job"]), machine, watch.sign)
    except Exception as error:
        traceback.print_exc(file=words)
        kind, sentence = failure_of(error)
        # A full disk of one node is no reason to end the batch.
        outcome = {"event": "failed", "kind": "broke" if kind == "disk" else kind}
        outcome["words"] = f"{sentence} on the node" if kind == "disk" else sentence
    finally:
        watch.end()
        log.removeHandler(handler)
    return {**outcome, "log": words.getvalue()[-_LOG_CHARACTERS:]}


class _Watch:
    """Ends this process when its job shows no sign of progress."""

    def __init__(self, limits: ProcessLimits) -> None:
        self._limits = limits
        self._began_at = self._sign_at = time.monotonic()
        self._ended = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def sign(self, fraction: float, stage: str) -> None:
        """The job goes on."""
        self._sign_at = time.monotonic()

    def end(self) -> None:
        """The job is over."""
        self._ended.set()

    def _look(self) -> None:
        longest = self._limits.job_seconds or float("inf")
        while not self._ended.wait(_WATCH_S):
            now = time.monotonic()
            if now - self._sign_at > self._limits.hang_seconds or now - self._began_at > longest:
                os._exit(1)


def _connect(address: str) -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise BatchError(
            "Ray is not installed: pip install 'posefit[ray]' here and on the cluster's nodes"
        ) from error
    _check_that_somebody_listens(address)
    try:
        ray.init(
            address=None if address == "local" else address, include_dashboard=False,
            log_to_driver=False, logging_level=logging.WARNING,
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise _no_cluster(address, error) from error
    return ray


def _check_that_somebody_listens(address: str) -> None:
    """Say soon that nobody does: Ray itself would try for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> BatchError:
    return BatchError(
        f"no Ray cluster answers at {address} ({str(error).splitlines()[0]}): start one with "
        "`ray start --head`, or use --ray local"
    )
