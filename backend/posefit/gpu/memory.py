# SPDX-License-Identifier: Apache-2.0
"""A GPU's memory: how much may be taken, and giving it back, as well as the process's own."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import sys

import torch

from ..errors import PosefitError
from .graphs import forget_recordings

__all__ = [
    "LIMIT_VARIABLE",
    "GpuMemoryError",
    "give_back",
    "give_back_to_system",
    "limit_gpu_memory",
    "usable_memory",
]

LIMIT_VARIABLE = "POSEFIT_GPU_MEMORY_GIB"
"""Environment variable: GiB of a GPU that one process may take; unset: all."""


class GpuMemoryError(PosefitError, ValueError):
    """A limit that is none; the message says so."""


def limit_gpu_memory(device: torch.device) -> None:
    """Let this process take no more of a GPU than the environment says.

    Args:
        device: any; others than GPUs have no limit.

    Raises:
        GpuMemoryError: the variable is no number above zero.
    """
    if device.type == "cuda" and (limit := _limit_bytes()) < math.inf:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)


def usable_memory(device: torch.device) -> int:
    """Bytes of a GPU that this process may take, what it has taken included.

    Args:
        device: a GPU.

    Raises:
        GpuMemoryError: as `limit_gpu_memory`.
    """
    return int(min(_limit_bytes(), torch.cuda.get_device_properties(device).total_memory))


def _limit_bytes() -> float:
    """What the environment says; infinite where it says nothing."""
    words = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not words:
        return math.inf
    try:
        gib = float(words)
    except ValueError:
        gib = math.nan
    if not 0 < gib < math.inf:
        raise GpuMemoryError(
            f"{LIMIT_VARIABLE} is {words!r}, expected how many GiB of the GPU posefit may take, "
            "like 6; unset it for all"
        )
    return gib * 2**30


def give_back() -> None:
    """Give back what is kept of GPUs for the next job: recordings and unused memory."""
    if torch.cuda.is_available():
        forget_recordings()
        torch.cuda.empty_cache()


def give_back_to_system() -> None:
    """Give memory that this process has freed back to the system, where its allocator keeps it."""
    gc.collect()
    if sys.platform == "linux" and hasattr(allocator := ctypes.CDLL(None), "malloc_trim"):
        allocator.malloc_trim(0)
