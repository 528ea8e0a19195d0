# SPDX-License-Identifier: Apache-2.0
"""The U-Net's exported graph, run on a CPU by OpenVINO where that is installed.

The graph (`export`) lies beside its weight file. It is a shortcut: where the package, the graph or
a graph for these crops is missing, torch computes the same.
"""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["GraphNetwork", "graph_of", "open_graph"]

logger = logging.getLogger(__name__)

INPUTS = ("render", "image")
OUTPUT = "prediction"
GRAPH_SIDE = 256
"""Side of the crops of a shipped graph, pixels."""
WEIGHTS_KEY = "weights_sha256"
"""Where a graph says which weight file it belongs to."""


def graph_of(weights: Path) -> Path:
    """Where the graph of a weight file lies."""
    return weights.with_suffix(".onnx")


def open_graph(weights: Path) -> GraphNetwork | None:
    """The graph of a weight file, ready to run, or None where torch has to do it.

    Args:
        weights: the weight file; the graph lies beside it.
    """
    graph = graph_of(weights)
    if not graph.is_file() or find_spec("openvino") is None:
        return None
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest.encode() not in graph.read_bytes():
        logger.warning("%s belongs to other weights than %s; torch is used", graph, weights)
        return None
    return GraphNetwork(graph)


@lru_cache(maxsize=1)
def _core():
    """OpenVINO, one for the process: each gives signals a stack of its own when it begins, and
    where several end in another order than they began, the next signal ends the process."""
    import openvino

    return openvino.Core()


class GraphNetwork:
    """A graph in OpenVINO, called like the network; in float32, crop by crop."""

    def __init__(self, graph: Path, threads: int | None = None, *, precision: str = "f32") -> None:
        """Compiles the graph.

        Args:
            graph: file of `export.export_graph`.
            threads: to compute with; None takes as many as torch does.
            precision: `f32`, or `bf16` where a processor has it: faster, and off by some 0.4%.
        """
        threads = threads or torch.get_num_threads()
        core = _core()
        self._model = core.compile_model(
            core.read_model(graph),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": precision,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        self._request = self._model.create_infer_request()
        self.batch, _, *size = self._model.output(0).shape
        self.size = tuple(size)

    def takes(self, crops: Float[Tensor, "batch channel height width"]) -> bool:
        """Whether the graph is for crops of this size."""
        return tuple(crops.shape[2:]) == self.size

    def __call__(
        self,
        render: Float[Tensor, "batch 12 height width"],
        image: Float[Tensor, "batch 3 height width"],
    ) -> Float[Tensor, "batch 4 height width"]:
        """The last prediction, as the network's.

        Args:
            render: render channels; crops of this graph's size.
            image: frame crops about zero.
        """
        made = np.empty((len(render), *self._model.output(0).shape[1:]), np.float32)
        inputs = [x.detach().float().contiguous().numpy() for x in (render, image)]
        for start in range(0, len(made), self.batch):
            part = slice(start, start + self.batch)
            self._request.infer([x[part] for x in inputs])
            made[part] = self._request.get_output_tensor(0).data
        return torch.from_numpy(made)
