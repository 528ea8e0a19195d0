# SPDX-License-Identifier: Apache-2.0
"""The kinds of displacement network: made by name for training, by file header for use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .network import SMALL_NETWORK, CorrespondenceNetwork, NetworkConfig
from .unet import UNet, UNetConfig

__all__ = [
    "DisplacementNetwork",
    "NetworkName",
    "NetworkSizes",
    "kind_of",
    "make_network",
    "network_from_header",
]

DisplacementNetwork = CorrespondenceNetwork | UNet
NetworkSizes = NetworkConfig | UNetConfig
NetworkName = Literal["correspondence", "small", "unet"]
"""`correspondence` is for GPUs; `small` is the same in fewer channels; `unet` is for CPUs."""


@dataclass(frozen=True)
class _Kind:
    network: type[CorrespondenceNetwork] | type[UNet]
    sizes: type[NetworkConfig] | type[UNetConfig]


_KINDS = {
    "correspondence": _Kind(CorrespondenceNetwork, NetworkConfig),
    "unet": _Kind(UNet, UNetConfig),
}
_NAMED_SIZES: dict[str, NetworkSizes] = {
    "correspondence": NetworkConfig(),
    "small": SMALL_NETWORK,
    "unet": UNetConfig(),
}


def make_network(name: NetworkName) -> DisplacementNetwork:
    """A new, untrained network of that name, in its default sizes."""
    sizes = _NAMED_SIZES[name]
    if isinstance(sizes, UNetConfig):
        return UNet(sizes)
    return CorrespondenceNetwork(sizes)


def kind_of(sizes: NetworkSizes) -> str:
    """What a weight file's header calls the kind of network that has these sizes."""
    return next(name for name, kind in _KINDS.items() if isinstance(sizes, kind.sizes))


def network_from_header(kind: str, fields: dict[str, Any]) -> DisplacementNetwork:
    """The untrained network that a weight file's header describes.

    Args:
        kind: as `kind_of` gives it.
        fields: of its sizes; lists stand for tuples.

    Raises:
        ValueError: this version knows no such kind or no such field.
    """
    if kind not in _KINDS:
        raise ValueError(f"network kind {kind!r}, expected one of {', '.join(_KINDS)}")
    known = _KINDS[kind]
    sizes = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    try:
        return known.network(known.sizes(**sizes))  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise ValueError(f"network sizes that this version doesn't know: {error}") from error
