# SPDX-License-Identifier: Apache-2.0
"""Checkpoints small enough to travel: two half-precision files and a page of JSON.

`resume.safetensors` holds the weights as trained, `weights.safetensors` the averaged ones, which
are also what is shipped. Optimiser moments are left out: they are rebuilt during the warm-up steps
after a resume.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..displacement.kinds import DisplacementNetwork, NetworkSizes
from ..displacement.weights import Calibration, load_network, save_network

__all__ = ["Progress", "read_checkpoint", "write_checkpoint"]

CURRENT, AVERAGED, PROGRESS = "resume.safetensors", "weights.safetensors", "progress.json"


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    steps: int = 0
    """Steps taken."""
    samples: int = 0
    """Samples generated, over all processes."""
    share: float = 0.0
    """Share of the whole training that is done."""
    seconds: float = 0.0
    """Time spent in the training loop."""


def write_checkpoint(
    folder: Path,
    network: nn.Module,
    averaged: nn.Module,
    config: NetworkSizes,
    progress: Progress,
    calibration: Calibration,
) -> None:
    """Writes the files, each through a temporary name.

    Args:
        folder: where to; made if missing.
        network: weights as trained.
        averaged: averaged weights.
        config: the network's sizes.
        progress: how far it is.
        calibration: of the averaged weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notes = {"progress": json.dumps(dataclasses.asdict(progress))}
    for name, module, measured in (
        (CURRENT, network, Calibration()),
        (AVERAGED, averaged, calibration),
    ):
        partial = folder / f"{name}.partial"
        save_network(partial, module, config, measured, notes)
        partial.replace(folder / name)
    (folder / PROGRESS).write_text(json.dumps(dataclasses.asdict(progress)))


def read_checkpoint(
    folder: Path, device: torch.device | str
) -> tuple[DisplacementNetwork, DisplacementNetwork, Progress]:
    """Weights as trained, averaged weights, and progress, ready to go on from.

    Args:
        folder: of `write_checkpoint`.
        device: where the networks go.
    """
    network, _ = load_network(folder / CURRENT, device)
    averaged, _ = load_network(folder / AVERAGED, device)
    progress = Progress(**json.loads((folder / PROGRESS).read_text()))
    return network.train().requires_grad_(True), averaged, progress
