# SPDX-License-Identifier: Apache-2.0
"""Where to compute: what `cpu`, `cuda` and `auto` mean on this machine."""

from __future__ import annotations

import torch

from .errors import RefinementError
from .gpu.memory import limit_gpu_memory

__all__ = ["choose_device"]


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU where there is one.

    Raises:
        RefinementError: `cuda` was asked for and there is none.
        GpuMemoryError: the limit of its memory is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RefinementError(
            "no CUDA device can be used (posefit doctor says more): install a GPU build of torch, "
            "or use --device cpu"
        )
    device = torch.device(name)
    limit_gpu_memory(device)
    return device
