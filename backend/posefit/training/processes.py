# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one network, one a GPU: who is who, and sums over all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import PosefitError

__all__ = ["DeviceError", "Team", "join_team"]


class DeviceError(PosefitError):
    """The device that was asked for isn't there."""


PATIENCE = timedelta(minutes=10)
"""How long processes wait for one that is late (compiling, validating) before all of them end."""


@dataclass(frozen=True)
class Team:
    """This process among those started together by torchrun; alone without it."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process logs, validates and writes."""
        return self.rank == 0

    def mean_(self, values: Tensor) -> None:
        """Replaces values on the device by their mean over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
            values.div_(self.size)

    def totals(self, *numbers: float) -> tuple[float, ...]:
        """Sums over all processes, in every process; waits for the device."""
        if self.size == 1:
            return numbers
        values = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(values)
        return tuple(values.tolist())

    def leave(self) -> None:
        """Ends the connection to the others."""
        if self.size > 1:
            dist.destroy_process_group()


def join_team(device: str) -> Team:
    """Joins the processes that torchrun started; without it, a team of one.

    Args:
        device: `cuda` or `cpu`; with several processes each takes the GPU of its local rank.

    Raises:
        DeviceError: `cuda`, and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "training wants a CUDA device and this machine has none: give --device cpu for a trial"
        )
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    else:
        chosen = torch.device(device)
    if size > 1:
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    return Team(rank, size, chosen)
