# SPDX-License-Identifier: Apache-2.0
"""The learned estimator: frame crops and renderings → displacement fields, by a network.

There are two: the large one, which on CPUs is computed near the body alone (`near_body`), and the
fast one, for CPUs, which an exported graph computes where it can (`runtime`). GPUs, and CPUs that
can, compute the large one in bfloat16.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..gpu.graphs import replayed
from ..modalities import Modalities
from . import DisplacementError
from .correlation import query_budget
from .field import DisplacementField
from .fused import fuse_layers
from .inputs import RenderedModalities, network_inputs
from .kinds import DisplacementNetwork
from .losses import LOG_SCALE_RANGE
from .near_body import predict_near_body
from .network import CorrespondenceNetwork, cells_of_mask
from .runtime import GraphNetwork, graph_of, open_graph
from .weights import Calibration, WeightsError, load_network, preferred_form, shipped_weights

__all__ = [
    "NetworkEstimator",
    "cpu_has_bfloat16",
    "fast_estimator",
    "fast_precision",
    "large_estimator",
]

MULTIPLE = 32
"""Crop sides must be multiples of this."""
MOST_PIXELS = 64 * 256 * 256
"""Pixels that go through the network at once; larger batches are cut."""
_CPU_CROPS = 2
"""Crops that go through the large network at once on a CPU: its caches hold no more."""
_CELLS = 1024
"""What the number of cells that show the body is rounded up to on a GPU."""
LAPLACE_SIGMA = math.sqrt(2.0)
"""Standard deviation of a Laplace distribution of scale 1."""


def large_estimator(device: torch.device) -> NetworkEstimator:
    """The estimator `net-large`: the more exact network, also on a CPU."""
    return NetworkEstimator(device, shipped_weights("large"))


def fast_estimator(device: torch.device) -> NetworkEstimator:
    """The estimator `net-fast`: the quicker network, also on a GPU."""
    return NetworkEstimator(device, shipped_weights("fast"), name="net-fast")


class NetworkEstimator:
    """The displacement estimator `net`."""

    def __init__(
        self,
        device: torch.device,
        weights: Path | None = None,
        *,
        name: str = "net",
        precision: torch.dtype | None = None,
    ) -> None:
        """Loads the network.

        Args:
            device: where it computes.
            weights: weight file; None takes the preferred one of those shipped.
            name: what reports call it, and by which its results are judged (`verdict`).
            precision: of convolutions and products on a CPU; None takes what it is fast in.

        Raises:
            DisplacementError: the weights are missing or unusable.
        """
        self.name = name
        self._device = device = torch.device(device)
        if weights is None:
            weights = shipped_weights(preferred_form())
        try:
            self._network, self._calibration, self.precision = _ready_network(
                weights, _version(weights), device, precision
            )
        except WeightsError as error:
            raise DisplacementError(str(error)) from error
        self._graph: GraphNetwork | None = None
        if device.type == "cpu":
            versions = _version(weights), _version(graph_of(weights))
            self._graph = _ready_graph(weights, versions, torch.get_num_threads())

    @torch.no_grad()
    def predict(
        self, images: Float[Tensor, "batch 3 height width"], modalities: Modalities
    ) -> DisplacementField:
        """The field of each crop.

        Args:
            images: frame crops, RGB, 0 to 1; sides are multiples of 32.
            modalities: renderings of the current body in the same crops.

        Raises:
            ValueError: the crops' sides don't fit the network.
        """
        height, width = images.shape[2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(f"crops are {width}×{height}, expected multiples of {MULTIPLE}")
        pieces = max(1, MOST_PIXELS // (height * width))
        if self._near_body is not None:
            pieces = _CPU_CROPS
        fields = [
            self._predict(images[part], _samples(modalities, part))
            for first in range(0, len(images), pieces)
            for part in (slice(first, first + pieces),)
        ]
        if len(fields) == 1:
            return fields[0]
        names = [field.name for field in dataclasses.fields(DisplacementField)]
        return DisplacementField(
            **{name: torch.cat([getattr(one, name) for one in fields]) for name in names}
        )

    def _predict(self, images: Tensor, modalities: RenderedModalities) -> DisplacementField:
        if self._graph is not None and self._graph.takes(images):
            render, image = network_inputs(images, modalities)
            return _field(self._graph(render, image), self._calibration, images.dtype)
        if (network := self._near_body) is not None:
            arguments = network, self._calibration, images, modalities, self.precision
            return _near_body_field(*arguments)
        budget = None
        if images.is_cuda and isinstance(self._network, CorrespondenceNetwork):
            # Waits for the rendering; what is recorded afterwards depends on few numbers of cells.
            budget = query_budget(cells_of_mask(modalities.mask), _CELLS)
        return replayed(
            _network_field, self._network, self._calibration, images, modalities, budget
        )

    @property
    def _near_body(self) -> CorrespondenceNetwork | None:
        """The network where it is computed near the body alone: a large one on a CPU."""
        network = self._network if self._device.type == "cpu" else None
        return network if isinstance(network, CorrespondenceNetwork) else None


def _network_field(
    network: DisplacementNetwork,
    calibration: Calibration,
    images: Tensor,
    modalities: RenderedModalities,
    budget: int | None,
) -> DisplacementField:
    render, image = _inputs(images, modalities)
    options = {} if budget is None else {"query_budget": budget}
    with torch.autocast(images.device.type, torch.bfloat16, images.is_cuda):
        prediction = network(render, image, **options)[-1].float()
    return _field(prediction, calibration, images.dtype)


def _near_body_field(
    network: CorrespondenceNetwork,
    calibration: Calibration,
    images: Tensor,
    modalities: RenderedModalities,
    precision: torch.dtype,
) -> DisplacementField:
    """The field that is used, which is all of it on the body."""
    render, image = _inputs(images, modalities)
    with torch.autocast("cpu", torch.bfloat16, precision == torch.bfloat16):
        prediction = predict_near_body(network, render, image).float()
    return _field(prediction, calibration, images.dtype)


def _inputs(images: Tensor, modalities: RenderedModalities) -> list[Tensor]:
    """Renderings and crops as the networks take them."""
    return [
        part.float().contiguous(memory_format=torch.channels_last)
        for part in network_inputs(images, modalities)
    ]


def _field(
    prediction: Float[Tensor, "batch 4 height width"], calibration: Calibration, dtype: torch.dtype
) -> DisplacementField:
    """Calibrated outputs."""
    scale = torch.exp(prediction[:, 2].clamp(*LOG_SCALE_RANGE))
    logits = prediction[:, 3] / calibration.visibility_temperature
    return DisplacementField(
        displacement=prediction[:, :2].permute(0, 2, 3, 1).contiguous().to(dtype),
        scale=(scale * calibration.scale_factor * LAPLACE_SIGMA).to(dtype),
        visibility=torch.sigmoid(logits).to(dtype),
    )


def _samples(modalities: Modalities, part: slice) -> Modalities:
    """Some of the batch."""
    names = [field.name for field in dataclasses.fields(modalities)]
    return dataclasses.replace(modalities, **{n: getattr(modalities, n)[part] for n in names})


def _version(weights: Path) -> tuple[int, int] | None:
    """What changes when the file does."""
    try:
        status = weights.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=2)
def _ready_graph(weights: Path, versions: object, threads: int) -> GraphNetwork | None:
    """The graph beside a weight file, opened once a process."""
    return open_graph(weights)


@functools.lru_cache(maxsize=4)
def _ready_network(
    weights: Path,
    version: tuple[int, int] | None,
    device: torch.device,
    precision: torch.dtype | None,
) -> tuple[DisplacementNetwork, Calibration, torch.dtype]:
    """A network of this process as it is used, loaded once, and its precision."""
    network, calibration = load_network(weights, device)
    fuse_layers(network, align=device.type == "cuda")
    if precision is None:
        precision = fast_precision(device, network)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.to(precision)
    return network.to(memory_format=torch.channels_last), calibration, precision  # pyright: ignore


def fast_precision(device: torch.device, network: DisplacementNetwork) -> torch.dtype:
    """What a device computes a network's convolutions and products fast in, and well enough.

    The fast network stays in float32 on CPUs, as its graph does.
    """
    is_large = isinstance(network, CorrespondenceNetwork)
    reduced = device.type == "cuda" or (device.type == "cpu" and is_large and cpu_has_bfloat16())
    return torch.bfloat16 if reduced else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 itself; others emulate it, slowly.

    `ONEDNN_MAX_CPU_ISA=AVX2` makes one processor compute as an older one would.
    """
    is_native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)  # older torch: not known
    is_used = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)
    return torch.backends.mkldnn.is_available() and is_native() and bool(is_used())
