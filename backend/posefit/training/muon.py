# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum whose matrices are made orthogonal before they move the weights.

Source: Jordan et al., "Muon" (2024); scaled to AdamW's step size as in Liu et al., "Muon is
scalable for LLM training" (2025), so that both share one learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Muon", "OptimizerPair", "make_optimizer", "orthogonal"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives singular values towards 1."""
STEPS = 5
ADAM_STEP = 0.2
"""Root mean square of AdamW's steps in learning rates."""
ROW_MULTIPLE = 64


def orthogonal(
    matrices: Float[Tensor, "batch row column"],
) -> Float[Tensor, "batch row column"]:
    """Matrices with the same singular vectors and singular values of about 1 (0.7 to 1.2).

    Args:
        matrices: no more rows than columns; rows and columns of zeros stay zero.
    """
    a, b, c = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-12)
    x = x.bfloat16() if matrices.is_cuda else x
    for _ in range(STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.to(matrices.dtype)


@dataclass(frozen=True)
class _Bucket:
    """Matrices of like size, padded with zeros to one; they go through everything together."""

    members: list[nn.Parameter]
    turned: list[bool]
    """Whether a member is kept transposed, to have no more rows than columns."""
    gradient: Float[Tensor, "member row column"]
    average: Float[Tensor, "member row column"]

    def places(self, stack: Float[Tensor, "member row column"]) -> list[Tensor]:
        """Each member's part of a stack, as a view in the member's shape."""
        parts = []
        for index, (member, turned) in enumerate(zip(self.members, self.turned, strict=True)):
            height, width = len(member), member[0].numel()
            part = stack[index, :width, :height].mT if turned else stack[index, :height, :width]
            parts.append(part.unflatten(1, member.shape[1:]))
        return parts


def _buckets(parameters: list[nn.Parameter]) -> list[_Bucket]:
    """The parameters sorted by padded size."""
    groups: dict[tuple[int, int], list[nn.Parameter]] = {}
    for parameter in parameters:
        rows, columns = sorted((len(parameter), parameter[0].numel()))
        rows = -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE
        columns = max(rows, 1 << (columns - 1).bit_length())
        groups.setdefault((rows, columns), []).append(parameter)
    return [
        _Bucket(
            members,
            [len(p) > p[0].numel() for p in members],
            members[0].new_zeros(len(members), *size),
            members[0].new_zeros(len(members), *size),
        )
        for size, members in groups.items()
    ]


class Muon(torch.optim.Optimizer):
    """For the kernels of convolutions and linear layers, each taken as a matrix."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float
    ) -> None:
        """Takes the parameters.

        Args:
            parameters: of two dimensions or more; all but the first are one.
            lr: learning rate, as for AdamW.
            momentum: decay of the averaged gradient.
            weight_decay: as AdamW's.
        """
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._buckets = [bucket for g in self.param_groups for bucket in _buckets(g["params"])]

    def averages(self) -> list[Tensor]:
        """The averaged gradient of each parameter, as views in the parameters' shapes."""
        by_parameter = {
            parameter: part
            for bucket in self._buckets
            for parameter, part in zip(bucket.members, bucket.places(bucket.average), strict=True)
        }
        return [by_parameter[p] for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore
        """Moves every parameter; one without a gradient counts as having a zero one."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        group = self.param_groups[0]
        for bucket in self._buckets:
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket.members]
            torch._foreach_copy_(bucket.places(bucket.gradient), gradients)  # pyright: ignore
            bucket.average.lerp_(bucket.gradient, 1.0 - group["momentum"])
            steps = orthogonal(bucket.gradient.lerp(bucket.average, group["momentum"]))
            scales = [ADAM_STEP * max(len(p), p[0].numel()) ** 0.5 for p in bucket.members]
            steps *= steps.new_tensor(scales)[:, None, None]
            weights: list[Tensor] = [*bucket.members]
            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])  # pyright: ignore
            torch._foreach_add_(weights, bucket.places(steps), alpha=-group["lr"])  # pyright: ignore


class OptimizerPair:
    """Two optimisers that step together; what the training loop needs of one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of all, to set learning rates in."""
        return [group for one in self.optimizers for group in one.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets gradients."""
        for one in self.optimizers:
            one.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """Moves all parameters."""
        for one in self.optimizers:
            one.step()


def make_optimizer(
    network: nn.Module, kind: str, lr: float, weight_decay: float
) -> torch.optim.Optimizer | OptimizerPair:
    """AdamW for everything, or Muon for the matrices inside and AdamW for the rest.

    Args:
        network: whose parameters to train.
        kind: `adamw` or `muon`.
        lr: learning rate of both.
        weight_decay: of both.

    Raises:
        ValueError: another kind.
    """
    if kind not in ("adamw", "muon"):
        raise ValueError(f"no optimizer {kind!r}, expected adamw or muon")
    parameters = list(network.parameters())
    fused = parameters[0].is_cuda

    def adamw(chosen: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            chosen, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=fused
        )

    if kind == "adamw":
        return adamw(parameters)
    inside = [p for p in parameters if is_inner_matrix(p)]
    rest = [p for p in parameters if not is_inner_matrix(p)]
    return OptimizerPair(Muon(inside, lr, 0.95, weight_decay), adamw(rest))


def is_inner_matrix(parameter: nn.Parameter) -> bool:
    """Whether it maps many features to many: neither a bias, a picture's stem nor an output."""
    if parameter.ndim < 2:
        return False
    rows, columns = parameter.shape[0], parameter[0].numel()
    from_picture = parameter.ndim == 4 and parameter.shape[1] < 16
    return min(rows, columns) >= 16 and not from_picture
