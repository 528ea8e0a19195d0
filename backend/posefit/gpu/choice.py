# SPDX-License-Identifier: Apache-2.0
"""Where kernels of our own stand in for torch's operations."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["takes_kernels"]


def takes_kernels(values: Tensor) -> bool:
    """Whether a Warp kernel computes this: in float32 on a GPU, where nobody asks for gradients
    and torch isn't compiling.

    Args:
        values: what is computed with.
    """
    if not values.is_cuda or values.dtype != torch.float32 or torch.compiler.is_compiling():
        return False
    return not (torch.is_grad_enabled() and values.requires_grad)
