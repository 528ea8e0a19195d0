# SPDX-License-Identifier: Apache-2.0
"""Random numbers of one seeded stream on one device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Draws"]


class Draws:
    """Draws tensors of random numbers; two with one seed draw the same."""

    def __init__(self, seed: int, device: torch.device | str) -> None:
        """Starts the stream.

        Args:
            seed: any whole number.
            device: where the tensors are made.
        """
        self.device = torch.device(device)
        self._stream = torch.Generator(device=self.device).manual_seed(seed)
        self._constants: dict[tuple[float, ...], Tensor] = {}

    def reseed(self, seed: int) -> None:
        """Starts the stream anew."""
        self._stream.manual_seed(seed)

    def constant(self, *values: float) -> Tensor:
        """A tensor of known numbers, sent to the device once: sending waits for the device."""
        if values not in self._constants:
            self._constants[values] = torch.tensor(values, device=self.device)
        return self._constants[values]

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Evenly between `low` and `high`."""
        draws = torch.rand(*shape, generator=self._stream, device=self.device)
        return draws * (high - low) + low

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        """Between `low` and `high`, evenly in the logarithm."""
        return self.uniform(*shape, low=math.log(low), high=math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        """Normally distributed, mean zero, deviation one."""
        return torch.randn(*shape, generator=self._stream, device=self.device)

    def integers(self, stop: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to `stop` − 1."""
        return torch.randint(stop, shape, generator=self._stream, device=self.device)

    def happens(self, share: float, *shape: int) -> Tensor:
        """True with the given probability."""
        return torch.rand(*shape, generator=self._stream, device=self.device) < share

    def directions(self, *shape: int) -> Tensor:
        """Unit vectors, evenly on the sphere."""
        return torch.nn.functional.normalize(self.normal(*shape, 3), dim=-1)
