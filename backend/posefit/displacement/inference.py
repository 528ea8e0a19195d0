# SPDX-License-Identifier: Apache-2.0
"""The learned estimator: frame crops and renderings → displacement fields, by a network.

There are two: the large one, which is for GPUs, and the fast one, for CPUs, which an exported graph
computes where it can (`runtime`).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..modalities import Modalities
from . import DisplacementError
from .field import DisplacementField
from .inputs import RENDER_CHANNELS, network_inputs
from .losses import LOG_SCALE_RANGE
from .runtime import open_graph
from .weights import WeightsError, load_network, preferred_form, shipped_weights

__all__ = ["NetworkEstimator", "fast_estimator", "large_estimator"]

MULTIPLE = 32
"""Crop sides must be multiples of this."""
MOST_PIXELS = 64 * 256 * 256
"""Pixels that go through the network at once; larger batches are cut."""
LAPLACE_SIGMA = math.sqrt(2.0)
"""Standard deviation of a Laplace distribution of scale 1."""


def large_estimator(device: torch.device) -> NetworkEstimator:
    """The estimator `net-large`: the more exact network, also on a CPU."""
    return NetworkEstimator(device, shipped_weights("large"))


def fast_estimator(device: torch.device) -> NetworkEstimator:
    """The estimator `net-fast`: the quicker network, also on a GPU."""
    return NetworkEstimator(device, shipped_weights("fast"))


class NetworkEstimator:
    """The displacement estimator `net`; in bfloat16 on GPUs, float32 on CPUs."""

    name = "net"

    def __init__(self, device: torch.device, weights: Path | None = None) -> None:
        """Loads the network.

        Args:
            device: where it computes.
            weights: weight file; None takes the preferred one of those shipped.

        Raises:
            DisplacementError: the weights are missing or unusable.
        """
        device = torch.device(device)
        if weights is None:
            weights = shipped_weights(preferred_form())
        try:
            network, self._calibration = load_network(weights, device)
        except WeightsError as error:
            raise DisplacementError(str(error)) from error
        self._network = network.to(memory_format=torch.channels_last)  # pyright: ignore
        self._device = device
        self._graph = open_graph(weights) if device.type == "cpu" else None

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
        render, image = network_inputs(images, modalities)
        pieces = max(1, MOST_PIXELS // (height * width))
        predictions = [
            self._run(part[:, :RENDER_CHANNELS], part[:, RENDER_CHANNELS:])
            for part in torch.cat([render, image], dim=1).split(pieces)
        ]
        return self._field(torch.cat(predictions), images.dtype)

    def _run(self, render: Tensor, image: Tensor) -> Tensor:
        """The network's last prediction."""
        if self._graph is not None and self._graph.takes(render):
            return self._graph(render, image)
        layout = torch.channels_last
        with torch.autocast(self._device.type, torch.bfloat16, self._device.type == "cuda"):
            return self._network(
                render.float().contiguous(memory_format=layout),
                image.float().contiguous(memory_format=layout),
            )[-1].float()

    def _field(self, prediction: Tensor, dtype: torch.dtype) -> DisplacementField:
        """Calibrated outputs."""
        calibration = self._calibration
        scale = torch.exp(prediction[:, 2].clamp(*LOG_SCALE_RANGE))
        logits = prediction[:, 3] / calibration.visibility_temperature
        return DisplacementField(
            displacement=prediction[:, :2].permute(0, 2, 3, 1).contiguous().to(dtype),
            scale=(scale * calibration.scale_factor * LAPLACE_SIGMA).to(dtype),
            visibility=torch.sigmoid(logits).to(dtype),
        )
