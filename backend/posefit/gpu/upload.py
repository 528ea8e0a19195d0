# SPDX-License-Identifier: Apache-2.0
"""Arrays on their way to a device, which is not waited for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["page_locked", "upload"]


def upload(values: npt.NDArray[Any], device: torch.device | str) -> Tensor:
    """A copy on a device, contiguous and of the same type.

    A GPU gets it from page-locked memory, behind what its current stream has been told to do so
    far: `torch.tensor` would wait until all of that is done. Not for functions that `replayed`
    records: a replay would copy what lies in that memory by then.

    Args:
        values: any shape and strides; may change as soon as this returns.
        device: where it goes.
    """
    device = torch.device(device)
    staged = page_locked(values) if device.type == "cuda" else torch.from_numpy(np.array(values))
    return staged.to(device, non_blocking=True)


def page_locked(values: npt.NDArray[Any]) -> Tensor:
    """A copy that a GPU reads by itself.

    Args:
        values: any shape and strides.
    """
    like = torch.from_numpy(np.empty(0, values.dtype))
    staged = like.new_empty(values.shape, pin_memory=torch.cuda.is_available())
    staged.numpy()[...] = values
    return staged
