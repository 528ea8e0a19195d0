# SPDX-License-Identifier: Apache-2.0
"""The generator of a run: made from its settings, and timed."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch

from ..body import load_body
from ..errors import PosefitError
from .checkpoint import Progress
from .config import TrainingConfig
from .drawing import load_drawing
from .generator import Generator, load_assets
from .processes import Team

__all__ = ["AssetsError", "make_generator", "time_generator", "wait_for"]

logger = logging.getLogger(__name__)


class AssetsError(PosefitError):
    """Training's asset files are missing; the message says how they are made."""


def make_generator(
    config: TrainingConfig, team: Team, progress: Progress, *, validation: bool
) -> Generator:
    """The generator of one side of the split, with random numbers of its own in every process.

    Args:
        config: the run.
        team: the process.
        progress: how far the training is, which decides the seed.
        validation: the validation split, with the same seed always.

    Raises:
        AssetsError: the folder lacks what training needs.
    """
    for name in ("poses.npz", "backgrounds.npz"):
        if not (config.assets / name).is_file():
            raise AssetsError(
                f"no {name} in {config.assets}: make it with tools/training/prepare_{name[:-4]}.py "
                "(docs/training.md) and give its folder as --assets"
            )
    body = load_body(config.body, team.device)
    garments = config.garments or Path(__file__).parents[1] / "assets/training/free_garments.npz"
    assets = load_assets(config.assets, garments, body, validation=validation)
    seed = 99 if validation else config.seed * 7919 + progress.steps * 64 + team.rank + 1
    return Generator(assets, load_drawing(config.rasterizer), config.generator, seed)


def time_generator(generator: Generator, warm: int = 2, batches: int = 8) -> float:
    """Samples a second that the generator makes while nothing else runs.

    Args:
        generator: drawn from; its random numbers move on.
        warm: batches that aren't counted.
        batches: batches that are.
    """
    device = generator.draws.device
    for _ in range(warm):
        generator.batch()
    wait_for(device)
    start = time.monotonic()
    for _ in range(batches):
        generator.batch()
    wait_for(device)
    count = batches * generator.config.people * generator.config.frames
    speed = count / (time.monotonic() - start)
    logger.info("generator alone: %.0f samples/s", speed)
    return speed


def wait_for(device: torch.device) -> None:
    """Returns once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
