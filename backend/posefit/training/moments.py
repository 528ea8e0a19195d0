# SPDX-License-Identifier: Apache-2.0
"""An optimiser's moments as plain tensors, so that a checkpoint can keep them without pickle."""

from __future__ import annotations

import torch
from torch import Tensor

from .muon import Muon, OptimizerPair

__all__ = ["MomentsError", "moments_of", "put_moments"]

Optimizer = torch.optim.Optimizer | OptimizerPair


class MomentsError(ValueError):
    """Moments that belong to other parameters or to another optimiser."""


def moments_of(optimizer: Optimizer) -> dict[str, Tensor]:
    """The moments by optimiser, parameter and kind, as views where that is possible.

    Args:
        optimizer: of `make_optimizer`.

    Returns:
        `0.12.exp_avg` and so on; empty before the first step of AdamW.
    """
    found: dict[str, Tensor] = {}
    for place, one in enumerate(_parts(optimizer)):
        if isinstance(one, Muon):
            for index, average in enumerate(one.averages()):
                found[f"{place}.{index}.average"] = average
            continue
        for index, parameter in enumerate(_parameters(one)):
            for name, value in one.state.get(parameter, {}).items():
                found[f"{place}.{index}.{name}"] = value
    return found


@torch.no_grad()
def put_moments(optimizer: Optimizer, moments: dict[str, Tensor]) -> None:
    """Gives an optimiser the moments of another one of the same kind and parameters.

    Args:
        optimizer: of `make_optimizer`, before its first step; changed in place.
        moments: of `moments_of`, in any precision.

    Raises:
        MomentsError: they don't fit; the optimiser is as it was.
    """
    expected = _expected(optimizer)
    if {name: tuple(value.shape) for name, value in moments.items()} != expected:
        raise MomentsError(
            f"found {len(moments)} moments, expected {len(expected)} of the sizes of this network"
        )
    for place, one in enumerate(_parts(optimizer)):
        if isinstance(one, Muon):
            for index, average in enumerate(one.averages()):
                average.copy_(moments[f"{place}.{index}.average"])
            continue
        for index, parameter in enumerate(_parameters(one)):
            one.state[parameter] = {
                name: _beside(parameter, moments[f"{place}.{index}.{name}"]) for name in ADAM
            }


def _beside(parameter: Tensor, moment: Tensor) -> Tensor:
    """A copy where AdamW's fused form wants it: on the device, strides like the parameter's."""
    like = parameter if moment.shape == parameter.shape else moment
    return torch.empty_like(like, dtype=torch.float32, device=parameter.device).copy_(moment)


ADAM = ("step", "exp_avg", "exp_avg_sq")


def _expected(optimizer: Optimizer) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the optimiser has after its first step."""
    expected: dict[str, tuple[int, ...]] = {}
    for place, one in enumerate(_parts(optimizer)):
        if isinstance(one, Muon):
            for index, average in enumerate(one.averages()):
                expected[f"{place}.{index}.average"] = tuple(average.shape)
            continue
        for index, parameter in enumerate(_parameters(one)):
            for name in ADAM:
                shape = () if name == "step" else tuple(parameter.shape)
                expected[f"{place}.{index}.{name}"] = shape
    return expected


def _parts(optimizer: Optimizer) -> tuple[torch.optim.Optimizer, ...]:
    return optimizer.optimizers if isinstance(optimizer, OptimizerPair) else (optimizer,)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
