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

from .layers import Residual
from .network import CorrespondenceNetwork

__all__ = ["fuse_layers"]


def fuse_layers(network: nn.Module, *, align: bool = False) -> None:
    """Fuses a network's layers in place.

    Args:
        network: in evaluation mode.
        align: its channels, as a GPU likes them.
    """
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        _fuse_normalisation(sequence)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Residual):
                setattr(module, name, _FusedResidual(child))
    if isinstance(network, CorrespondenceNetwork):
        _fuse_gates(network)
        if align:
            _align_channels(network)
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        _fuse_activations(sequence)


def _fuse_gates(network: CorrespondenceNetwork) -> None:
    """The gates' biases become part of what the context adds to them, once for all updates."""
    added, update = network.context_gates, network.update
    context, gates, candidate = added.bias, update.gates.bias, update.candidate.bias
    if context is not None and gates is not None and candidate is not None:
        together = context + torch.cat([gates, candidate])
        added.bias = nn.Parameter(together, requires_grad=False)
        update.gates.bias = update.candidate.bias = None


def _align_channels(network: CorrespondenceNetwork) -> None:
    """Channels of zeros where a convolution reads a number that is no multiple of 8: for those
    cuDNN copies its input into such a one at each call. Not for the pictures' three, which it has
    a faster way for than for eight."""
    update = network.update
    motion = update.gates.in_channels
    for convolution, channels in (
        (_first_convolution(network.render_encoder), 16),
        (_first_convolution(network.context), 16),
        (update.correlation[0], _next_multiple(update.tap_channels)),
        (update.gates, _next_multiple(update.gates.in_channels)),
        (update.candidate, _next_multiple(update.candidate.in_channels)),
    ):
        assert isinstance(convolution, nn.Conv2d)
        spare = channels - convolution.in_channels
        weight = functional.pad(convolution.weight, (0, 0, 0, 0, 0, spare))
        convolution.weight = nn.Parameter(weight, requires_grad=False)
        convolution.in_channels = channels
    network.is_aligned = True
    update.tap_channels = _next_multiple(update.tap_channels)
    update.spare_channels = update.gates.in_channels - motion


def _next_multiple(channels: int) -> int:
    return -(-channels // 8) * 8


def _first_convolution(module: nn.Module) -> nn.Conv2d:
    return next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))


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
