# SPDX-License-Identifier: Apache-2.0
"""A trained network as it is run: fewer passes over memory, the same numbers but for rounding.

Normalisation becomes part of the convolution before it. Convolution, bias, what is added and the
ReLU behind it become one call, which is one kernel on a GPU.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .network import Residual

__all__ = ["fuse_layers"]


def fuse_layers(network: nn.Module) -> None:
    """Fuses a network's layers in place.

    Args:
        network: in evaluation mode.
    """
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        _fuse_normalisation(sequence)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Residual):
                setattr(module, name, _FusedResidual(child))
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        _fuse_activations(sequence)


def _fuse_normalisation(sequence: nn.Sequential) -> None:
    for place in range(len(sequence) - 1):
        convolution, normalisation = sequence[place], sequence[place + 1]
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            sequence[place] = fuse_conv_bn_eval(convolution, normalisation)
            sequence[place + 1] = nn.Identity()


def _fuse_activations(sequence: nn.Sequential) -> None:
    layers = [k for k, layer in enumerate(sequence) if not isinstance(layer, nn.Identity)]
    for first, second in zip(layers, layers[1:], strict=False):
        convolution = sequence[first]
        if isinstance(convolution, nn.Conv2d) and isinstance(sequence[second], nn.ReLU):
            sequence[first] = _ActiveConvolution(convolution)
            sequence[second] = nn.Identity()


class _ActiveConvolution(nn.Module):
    """A convolution and the ReLU behind it."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(
        self, x: Float[Tensor, "batch input height width"]
    ) -> Float[Tensor, "batch output rows columns"]:
        return _active(self.convolution, x)


class _FusedResidual(nn.Module):
    """`Residual`: its last convolution adds the shortcut and is active."""

    def __init__(self, residual: Residual) -> None:
        super().__init__()
        first, last = residual.body[0], residual.body[1]
        assert isinstance(last, nn.Conv2d)
        self.first, self.last, self.shortcut = first, last, residual.shortcut
        if isinstance(self.shortcut, nn.Sequential):
            # Both biases are added to the same sum: one addition less.
            added = self.shortcut[0]
            assert isinstance(added, nn.Conv2d)
            if added.bias is not None and last.bias is not None:
                last.bias = nn.Parameter(last.bias + added.bias, requires_grad=False)
                added.bias = None

    def forward(
        self, x: Float[Tensor, "batch input height width"]
    ) -> Float[Tensor, "batch output rows columns"]:
        return _active(self.last, self.first(x), self.shortcut(x))


def _active(convolution: nn.Conv2d, x: Tensor, added: Tensor | None = None) -> Tensor:
    """ReLU of the convolution, with another picture added to it."""
    if not x.is_cuda:
        made = convolution(x)
        return functional.relu(made if added is None else made + added)
    weight, bias = convolution.weight, convolution.bias
    assert not isinstance(convolution.padding, str), "the networks' paddings are numbers"
    layout = (convolution.stride, convolution.padding, convolution.dilation, convolution.groups)
    x = x.to(weight.dtype)
    if added is None:
        return torch.cudnn_convolution_relu(x, weight, bias, *layout)
    return torch.cudnn_convolution_add_relu(x, weight, added.to(weight.dtype), 1.0, bias, *layout)
