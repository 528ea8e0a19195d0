# SPDX-License-Identifier: Apache-2.0
"""Writes the ONNX graph of a U-Net's weight file beside it, and says how far it is from torch.

    python tools/training/export_network.py backend/posefit/assets/displacement/cpu.safetensors

The graph points into the weight file: the two travel together. Needs the package `onnx`, and
`openvino` for the comparison.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from posefit.displacement.export import export_graph
from posefit.displacement.inputs import RENDER_CHANNELS
from posefit.displacement.runtime import GRAPH_SIDE, open_graph
from posefit.displacement.weights import load_network

TOLERANCE = 1e-3
"""Largest difference from torch: pixels, and units of log scale and logit."""


def difference(weights: Path) -> float | None:
    """Largest difference between graph and torch on random crops; None without OpenVINO."""
    graph = open_graph(weights)
    if graph is None:
        return None
    network, _ = load_network(weights)
    generator = torch.Generator().manual_seed(0)
    render, image = (
        torch.rand(2, channels, GRAPH_SIDE, GRAPH_SIDE, generator=generator) * 2 - 1
        for channels in (RENDER_CHANNELS, 3)
    )
    with torch.no_grad():
        return (graph(render, image) - network(render, image)[-1]).abs().max().item()


def main() -> None:
    """Exports and compares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path)
    weights = parser.parse_args().weights
    path = export_graph(weights)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
    found = difference(weights)
    if found is None:
        print("not compared with torch: install openvino for that")
    else:
        print(f"largest difference from torch: {found:.2g} (at most {TOLERANCE:g})")
        if found > TOLERANCE:
            sys.exit("the graph doesn't compute what torch does: don't ship it")


if __name__ == "__main__":
    main()
