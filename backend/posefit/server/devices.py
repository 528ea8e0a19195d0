# SPDX-License-Identifier: Apache-2.0
"""Which devices a backend's workers compute on, found without torch."""

from __future__ import annotations

import os
import shutil
import subprocess

__all__ = ["choose_devices"]


_PROCESS_MIB = 8 << 10
"""Memory of a GPU that one process of a batch is given room for; long clips take 5.5 GiB."""


def choose_devices(device: str, workers: int | None, *, each: int = 1) -> list[str]:
    """The device of each worker, found without torch.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        workers: how many; none: one for each GPU, or one.
        each: how many on each GPU that has memory for them, unless `workers` says how many.

    Returns:
        Names as torch has them; `auto:N` leaves the choice to the worker, who has torch.
    """
    if device in ("auto", "cuda"):
        gpus = _count_gpus()
        names = [f"{device}:{index}" for index in range(max(gpus, 1))]
    else:
        names = [device]
    if workers is None and each > 1 and device != "cpu" and _holds(each):
        names = names * each
    count = len(names) if workers is None else max(workers, 1)
    return [names[index % len(names)] for index in range(count)]


def _count_gpus() -> int:
    """NVIDIA GPUs that a worker may see; 0 where there is no driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return sum(line.startswith("GPU ") for line in _told_by_driver("-L"))


def _holds(processes: int) -> bool:
    """Whether every NVIDIA GPU has memory for so many processes, as far as can be known."""
    if os.environ.get("POSEFIT_GPU_MEMORY_GIB"):
        return False  # each process would take that much
    lines = _told_by_driver("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    sizes = [int(line) for line in lines if line.strip().isdigit()]
    return bool(sizes) and min(sizes) >= processes * _PROCESS_MIB


def _told_by_driver(*question: str) -> list[str]:
    """Lines that NVIDIA's tool answers; none where there is no tool or no answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        answer = subprocess.run(
            [tool, *question], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.splitlines()
