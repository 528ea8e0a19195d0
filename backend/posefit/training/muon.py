# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum whose matrices are made orthogonal before they move the weights.

Source: Jordan et al., "Muon" (2024); scaled to AdamW's step size as in Liu et al., "Muon is
scalable for LLM training" (2025), so that both share one learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Muon", "OptimizerPair", "in_a_row", "laid_out", "make_optimizer", "orthogonal"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives singular values towards 1."""
STEPS = 5
ADAM_STEP = 0.2
"""Root mean square of AdamW's steps in learning rates."""
ROW_MULTIPLE = 64
COLUMNS = (512, 2048)
"""Fewest columns of padded matrices; larger ones have the next power of two. Few sizes mean few
kernels to start, and starting them is what a step's time goes to."""


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
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


def in_a_row(tensors: Sequence[Tensor]) -> Float[Tensor, " element"]:
    """All elements of dense tensors behind each other, each tensor's as they lie in memory.

    Kernels in channels-last layout come as (output, row, column, input): the columns of the same
    matrix in another order, which is all the same to Muon.

    Args:
        tensors: parameters or their gradients.
    """
    views = [
        t if t.is_contiguous() or t.ndim != 4 else t.permute(0, 2, 3, 1)  # channels last
        for t in tensors
    ]
    return torch.cat([view.flatten() for view in views])


def laid_out(row: Float[Tensor, " element"], like: Sequence[Tensor]) -> list[Tensor]:
    """A row's parts as views, shaped and laid out as the tensors that it was made of.

    Args:
        row: of `in_a_row`, or as long.
        like: the tensors.
    """
    parts = row.split([t.numel() for t in like])
    return [part.as_strided(t.shape, t.stride(), part.storage_offset())
            for part, t in zip(parts, like, strict=True)]  # fmt: skip


class _Stacks:
    """Where each matrix's elements go in stacks of padded matrices, and come back from there."""

    def __init__(self, parameters: list[Tensor]) -> None:
        device = parameters[0].device
        counts = [p.numel() for p in parameters]
        self.total = sum(counts)
        groups: dict[tuple[int, int], list[Tensor]] = {}
        first = 0
        for parameter, count in zip(parameters, counts, strict=True):
            places = torch.arange(first, first + count, device=device).view(len(parameter), -1)
            first += count
            if len(places) > places.shape[1]:
                places = places.mT
            groups.setdefault(_padded(*places.shape), []).append(places)
        self.places: list[Tensor] = []
        """Per stack: for each of its elements, which element of all it is; one past the last for
        padding."""
        self.source = torch.zeros(self.total, dtype=torch.int64, device=device)
        """For each element of all, where it lies in the stacks laid end to end."""
        begins = 0
        for (rows, columns), members in groups.items():
            stack = torch.full(
                (len(members), rows, columns), self.total, dtype=torch.int64, device=device
            )
            for place, member in enumerate(members):
                stack[place, : member.shape[0], : member.shape[1]] = member
            used = (stack.flatten() < self.total).nonzero()[:, 0]
            self.source[stack.flatten()[used]] = used + begins
            self.places.append(stack)
            begins += stack.numel()

    def apart(self, values: Float[Tensor, " element"]) -> list[Float[Tensor, "member row column"]]:
        """The stacks of padded matrices that hold all elements."""
        padded = torch.cat([values, values.new_zeros(1)])
        return [padded[places] for places in self.places]

    def together(self, stacks: list[Float[Tensor, "member row column"]]) -> Tensor:
        """All elements again, without the padding."""
        return torch.cat([stack.flatten() for stack in stacks])[self.source]


def _padded(rows: int, columns: int) -> tuple[int, int]:
    """Size of the stack that a matrix goes into."""
    rows = -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE
    least = next((size for size in COLUMNS if size >= columns), 1 << (columns - 1).bit_length())
    return rows, max(rows, least)


class Muon(torch.optim.Optimizer):
    """For the kernels of convolutions and linear layers, each taken as a matrix.

    All gradients go through everything in one row, and into stacks of padded matrices for what
    needs matrices; nothing waits for the device.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float
    ) -> None:
        """Takes the parameters, which stay where they are and laid out as they are.

        Args:
            parameters: of two dimensions or more; all but the first are one.
            lr: learning rate, as for AdamW.
            momentum: decay of the averaged gradient.
            weight_decay: as AdamW's.
        """
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._members: list[Tensor] = [p for group in self.param_groups for p in group["params"]]
        self._stacks = _Stacks(self._members)
        self._average = self._members[0].new_zeros(self._stacks.total)
        scales = [ADAM_STEP * max(len(p), p[0].numel()) ** 0.5 for p in self._members]
        counts = torch.tensor([p.numel() for p in self._members])
        self._scales = torch.tensor(scales).repeat_interleave(counts).to(self._average.device)

    def averages(self) -> list[Tensor]:
        """The averaged gradient of each parameter, as views in the parameters' shapes."""
        return laid_out(self._average, self._members)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore
        """Moves every parameter; one without a gradient counts as having a zero one."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        group = self.param_groups[0]
        gradient = in_a_row([_gradient(p) for p in self._members])
        self._average.lerp_(gradient, 1.0 - group["momentum"])
        ahead = gradient.lerp(self._average, group["momentum"])
        stacks = [orthogonal(stack) for stack in self._stacks.apart(ahead)]
        steps = laid_out(self._stacks.together(stacks) * self._scales, self._members)
        if group["weight_decay"]:
            torch._foreach_mul_(self._members, 1.0 - group["lr"] * group["weight_decay"])  # pyright: ignore
        torch._foreach_add_(self._members, steps, alpha=-group["lr"])  # pyright: ignore


def _gradient(parameter: Tensor) -> Tensor:
    """A parameter's gradient, laid out as it is."""
    if parameter.grad is None:
        return torch.zeros_like(parameter)
    if parameter.grad.stride() != parameter.stride():
        return torch.empty_like(parameter).copy_(parameter.grad)
    return parameter.grad


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
