# SPDX-License-Identifier: Apache-2.0
"""Arrays on their way to a device, which is not waited for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["upload"]


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
    like = torch.from_numpy(np.empty(0, values.dtype))
    staged = like.new_empty(values.shape, pin_memory=device.type == "cuda")
    staged.numpy()[...] = values
    return staged.to(device, non_blocking=True)
