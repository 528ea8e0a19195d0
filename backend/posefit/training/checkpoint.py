# SPDX-License-Identifier: Apache-2.0
"""Checkpoints small enough to travel: half-precision files and a page of JSON.

`resume.safetensors` holds the weights as trained, `weights.safetensors` the averaged ones, which
are also what is shipped, `optimizer.safetensors` the optimiser's moments: a run that doesn't find
them rebuilds them in its warm-up steps. A kill at any moment leaves a checkpoint that can be gone
on with: each file is renamed into place, `resume.safetensors`, whose header says how far it is,
last.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..displacement.kinds import DisplacementNetwork, NetworkSizes
from ..displacement.weights import Calibration, load_network, save_network
from ..errors import PosefitError
from ..whole_files import replace_file
from .moments import MomentsError, Optimizer, moments_of, put_moments

__all__ = [
    "BEST",
    "CheckpointError",
    "Progress",
    "read_checkpoint",
    "read_moments",
    "write_checkpoint",
]

logger = logging.getLogger(__name__)

CURRENT, AVERAGED, PROGRESS = "resume.safetensors", "weights.safetensors", "progress.json"
MOMENTS, BEST = "optimizer.safetensors", "best.safetensors"
LAST_AVERAGED = "averaged.safetensors"
"""The averaged weights of the last step, where `weights.safetensors` holds better ones."""


class CheckpointError(PosefitError):
    """There is nothing to go on from; the message says where it was looked for."""


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
    shipped: str = "last"
    """What `weights.safetensors` holds: the averaged weights of the `last` step, or the `best`."""
    shipped_epe: float | None = None
    """Their end-point error on the batches that validation on the way uses, pixels."""


def write_checkpoint(
    folder: Path,
    network: nn.Module,
    averaged: nn.Module,
    config: NetworkSizes,
    progress: Progress,
    calibration: Calibration,
    optimizer: Optimizer | None = None,
    best: nn.Module | None = None,
) -> None:
    """Writes the files.

    Args:
        folder: where to; made if missing.
        network: weights as trained.
        averaged: averaged weights.
        config: the network's sizes.
        progress: how far it is.
        calibration: of the weights that are shipped.
        optimizer: whose moments are kept; None keeps none.
        best: weights to ship in place of the averaged ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shipped = "last" if best is None else "best"
    progress = dataclasses.replace(progress, shipped=shipped)
    page = json.dumps(dataclasses.asdict(progress))

    def save(name: str, module: nn.Module, measured: Calibration) -> None:
        notes = {"progress": page}
        replace_file(folder / name, lambda p: save_network(p, module, config, measured, notes))

    if optimizer is not None:
        replace_file(folder / MOMENTS, lambda p: _save_moments(p, optimizer, progress))
    if best is None:
        save(AVERAGED, averaged, calibration)
    else:
        save(LAST_AVERAGED, averaged, Calibration())
        save(AVERAGED, best, calibration)
    save(CURRENT, network, Calibration())
    replace_file(folder / PROGRESS, lambda p: p.write_text(page))


def _save_moments(path: Path, optimizer: Optimizer, progress: Progress) -> None:
    """Moments in bfloat16, which keeps their range; counts in full."""
    moments = {
        name: value.detach().to("cpu", torch.bfloat16 if value.ndim else torch.float32).contiguous()
        for name, value in moments_of(optimizer).items()
    }
    save_file(moments, path, metadata={"steps": str(progress.steps)})


def read_checkpoint(
    folder: Path, device: torch.device | str
) -> tuple[DisplacementNetwork, DisplacementNetwork, Progress]:
    """Weights as trained, averaged weights, and progress, ready to go on from.

    Args:
        folder: of `write_checkpoint`.
        device: where the networks go.

    Raises:
        CheckpointError: the folder holds none.
    """
    if not (folder / CURRENT).is_file():
        raise CheckpointError(
            f"no checkpoint in {folder} (no {CURRENT}): give --resume the output folder of a run "
            "that has saved, or leave it out to start anew"
        )
    progress = _progress(folder)
    # header and JSON say the same unless the run was killed between two files
    kept = folder / LAST_AVERAGED
    averaged_file = kept if progress.shipped == "best" and kept.is_file() else folder / AVERAGED
    network, _ = load_network(folder / CURRENT, device)
    averaged, _ = load_network(averaged_file, device)
    return network.train().requires_grad_(True), averaged, progress


def _progress(folder: Path) -> Progress:
    """What the JSON says, which may have been edited, if it is of the same step as the weights."""
    page = folder / PROGRESS
    told = Progress(**json.loads(page.read_text())) if page.is_file() else None
    with safe_open(folder / CURRENT, framework="pt", device="cpu") as data:
        header = (data.metadata() or {}).get("progress")
    written = None if header is None else Progress(**json.loads(header))
    if written is None or (told is not None and told.steps == written.steps):
        return told or Progress()
    return written


def read_moments(folder: Path, optimizer: Optimizer, progress: Progress) -> bool:
    """Gives the optimiser the moments of a checkpoint, if they are there and of the same step.

    Args:
        folder: of `write_checkpoint`.
        optimizer: new; changed in place.
        progress: of `read_checkpoint`.

    Returns:
        Whether it has them now.
    """
    path = folder / MOMENTS
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt", device="cpu") as data:
            if (data.metadata() or {}).get("steps") != str(progress.steps):
                logger.info("%s is of another step: moments start anew", path.name)
                return False
            put_moments(optimizer, {n: data.get_tensor(n) for n in data.keys()})  # noqa: SIM118
    except (MomentsError, SafetensorError) as error:
        logger.info("%s doesn't fit, moments start anew: %s", path.name, error)
        return False
    return True
