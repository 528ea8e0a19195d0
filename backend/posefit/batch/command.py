# SPDX-License-Identifier: Apache-2.0
"""`posefit batch`: reads the jobs, runs them here or on a cluster, writes table and page."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..server.devices import choose_devices
from .display import LineDisplay
from .executor import Executor
from .folder import OutputFolder, is_disk_full
from .gathering import gather
from .jobs import BatchError, Job, read_jobs
from .local_processes import LocalProcesses, ProcessLimits
from .ray_config import RayConfig
from .runner import BatchResult, DiskFullError, Display, run_jobs

__all__ = ["BatchConfig", "run_batch"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchConfig:
    """How a batch is run."""

    source: Path
    """Table or folder of jobs."""
    output: Path
    """Folder for the results."""
    defaults: Job = field(default_factory=lambda: Job("defaults"))
    """Body and settings of jobs that do not state their own."""
    workers: int | None = None
    """Processes; two for each GPU (one where its memory is below 16 GiB), or one, unless given."""
    retries: int = 1
    """How often a job is tried again after a crash or a hang."""
    device: str = "auto"
    """Where to compute."""
    rasterizer: str = "warp"
    """`warp` or `pytorch3d`."""
    pictures: int = 2
    """Worst frames of each job of which pictures are kept."""
    limits: ProcessLimits = ProcessLimits()
    """When a job is given up."""
    ray: str | None = None
    """Address of a Ray cluster, or `local`, instead of processes of this machine."""
    ray_resources: RayConfig = RayConfig()
    """What a job takes there."""


def run_batch(
    config: BatchConfig,
    *,
    display: Display | None = None,
    make_executor: Callable[[BatchConfig], Executor] | None = None,
) -> BatchResult:
    """Do all jobs of a batch that have no result yet, then write `summary.csv` and `report.html`.

    Args:
        config: what and how.
        display: told how it goes; lines on standard error unless given.
        make_executor: runs the jobs elsewhere than the config says.

    Returns:
        What became of the jobs.

    Raises:
        BatchError: the batch cannot start, or the disk is full.
        KeyboardInterrupt: it was stopped (also by SIGTERM); the same batch goes on later.
    """
    _check(config)
    jobs = read_jobs(config.source, config.defaults)
    own_display = LineDisplay()
    shown: Display = display or own_display
    folder = OutputFolder(config.output)
    try:
        with _terminated_as_interrupted():
            executor = (make_executor or executor_of)(config)
            result = run_jobs(jobs, folder, executor, shown, retries=config.retries)
        figures = gather(jobs, folder, result.failed)
        from .page import write_page  # loads torch, for which the jobs need not wait

        write_page(config.output, figures, f"Batch {config.source.stem}")
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f"the disk of {config.output} is full, so report and table are not written; the "
            "results are: free some space and run the same command again"
        ) from error
    finally:
        own_display.close()
        folder.close()
    return result


def executor_of(config: BatchConfig) -> Executor:
    """What runs the jobs: worker processes, or a cluster."""
    machine = {"rasterizer": config.rasterizer, "pictures": config.pictures}
    if config.ray is not None:
        from .ray_tasks import RayTasks

        return RayTasks(
            config.ray, {**machine, "device": config.device}, config.ray_resources, config.limits
        )
    # Two at once fill the gaps in which a GPU waits for the host (docs/performance.md).
    devices = choose_devices(config.device, config.workers, each=2)
    return LocalProcesses(devices, machine, config.limits)


def print_result(result: BatchResult, output: Path) -> int:
    """Say what a batch came to, and give the exit status."""
    total = result.done + len(result.failed)
    words = f"{result.done} of {total} jobs done"
    if result.failed:
        words += f", {len(result.failed)} failed (run the same command again once they are mended)"
    sys.stderr.write(f"{words}: {output / 'report.html'}\n")
    return 1 if result.failed else 0


def _check(config: BatchConfig) -> None:
    if config.workers is not None and config.workers < 1:
        raise BatchError(f"--workers is {config.workers}, expected 1 or more")
    if config.retries < 0:
        raise BatchError(f"--retries is {config.retries}, expected 0 or more")
    source = config.source.resolve()
    if source.is_dir() and config.output.resolve() == source:
        raise BatchError(
            f"--output is the folder of jobs itself ({source}): choose another, or a folder in it"
        )


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which schedulers send before they kill, ends a batch as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
