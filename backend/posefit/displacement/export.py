# SPDX-License-Identifier: Apache-2.0
"""A weight file → an ONNX graph beside it, for runtimes that are faster than torch on CPUs.

The graph holds no weights: its tensors point into the weight file, whose half-precision numbers it
widens as torch does. The weights so exist once, and both forms compute with the same numbers. The
graph names the weight file's SHA-256, by which a graph that was left behind is told.

Only this module needs the package `onnx`; using a graph doesn't.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from .inputs import RENDER_CHANNELS
from .runtime import GRAPH_SIDE, INPUTS, OUTPUT, WEIGHTS_KEY, graph_of
from .unet import UNet
from .weights import WeightsError, load_network

__all__ = ["export_graph"]

OPSET = 17
"""The oldest ONNX operator set that has everything the U-Net uses."""
PREFIX = "network."
"""What the exporter puts before the names of the network's tensors."""


class _LastPrediction(nn.Module):
    """The network, with its last prediction only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, render: Tensor, image: Tensor) -> Tensor:
        return self.network(render, image)[-1]


def export_graph(weights: Path, *, batch: int = 1, side: int = GRAPH_SIDE) -> Path:
    """Writes the graph of a weight file beside it.

    Args:
        weights: file of `weights.save_network` that holds a U-Net.
        batch: crops in a batch; fixed in the graph.
        side: of the crops in pixels; fixed in the graph.

    Returns:
        The graph's path: the weight file's with the ending .onnx.

    Raises:
        WeightsError: the file can't be used, or holds a network whose work depends on the picture.
    """
    network, _ = load_network(weights)
    if not isinstance(network, UNet):
        raise WeightsError(
            f"{weights} holds a {type(network).__name__}, whose work depends on the picture; "
            "expected a U-Net: only that has a graph"
        )
    model = _trace(network, batch, side)
    _point_into(model, weights)
    model.metadata_props.add(key=WEIGHTS_KEY, value=_sha256(weights))
    path = graph_of(weights)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(partial))
    partial.replace(path)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _trace(network: UNet, batch: int, side: int) -> onnx.ModelProto:
    """The graph with weights inside, nothing folded, so that each weight keeps its name.

    The tracing exporter is used because the newer one folds normalisation into the weights.
    """
    examples = tuple(torch.zeros(batch, c, side, side) for c in (RENDER_CHANNELS, 3))
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _LastPrediction(network),
            examples,
            written,  # pyright: ignore[reportArgumentType]
            dynamo=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    return onnx.load_from_string(written.getvalue())


def _point_into(model: onnx.ModelProto, weights: Path) -> None:
    """Puts in place of each weight its half-precision bytes in the weight file, and a cast."""
    places, start = _places(weights)
    casts = []
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix(PREFIX)
        first, last = places[name]
        half = f"{tensor.name}.half"
        casts.append(onnx.helper.make_node("Cast", [half], [tensor.name], to=tensor.data_type))
        shape = list(tensor.dims)
        tensor.Clear()
        tensor.name, tensor.data_type = half, onnx.TensorProto.FLOAT16
        tensor.dims.extend(shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (
            ("location", weights.name),
            ("offset", start + first),
            ("length", last - first),
        ):
            tensor.external_data.add(key=key, value=str(value))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)


def _places(weights: Path) -> tuple[dict[str, tuple[int, int]], int]:
    """Where each tensor's bytes lie after the header, and where the header ends.

    Source: the safetensors format: 8 bytes of length, then that much JSON, then the data.
    """
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    places = {
        name: tuple(entry["data_offsets"])
        for name, entry in header.items()
        if name != "__metadata__"
    }
    wrong = [name for name in places if header[name]["dtype"] != "F16"]
    if wrong:
        raise WeightsError(f"{weights} holds {wrong[:3]} not in half precision, expected F16")
    return places, 8 + length
