# SPDX-License-Identifier: Apache-2.0
"""Warp, started quietly, and its launches on torch's memory and torch's current CUDA stream.

Modules that launch kernels import this one before they import the kernels.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import warp as wp
from torch import Tensor

__all__ = ["launch", "warp_array"]


def _start_warp() -> None:
    """Initialise Warp without its greeting and its lament where there is no CUDA driver.

    The lament is printed by native code, whatever Warp's log level is.
    """
    wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)
    if torch.cuda.is_available():
        wp.init()
        return
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        wp.init()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


_start_warp()


def warp_array(tensor: Tensor, dtype: Any) -> Any:
    """A Warp view of a contiguous tensor's memory, which must outlive the launches that use it."""
    return wp.from_torch(tensor, dtype=dtype, requires_grad=False, return_ctype=True)


def launch(kernel: Any, device: torch.device, threads: tuple[int, ...], *inputs: Any) -> None:
    """Start a kernel: on the device's current CUDA stream, or here and now on the CPU."""
    if device.type == "cuda":
        stream = wp.stream_from_torch(torch.cuda.current_stream(device))
        wp.launch(kernel, dim=threads, inputs=inputs, stream=stream)
    else:
        wp.launch(kernel, dim=threads, inputs=inputs, device="cpu")
