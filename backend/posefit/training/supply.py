# SPDX-License-Identifier: Apache-2.0
"""The generator of a run: made from its settings, and timed."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch

from ..body import load_body
from .checkpoint import Progress
from .config import TrainingConfig
from .drawing import load_drawing
from .generator import Generator, load_assets
from .processes import Team

__all__ = ["make_generator", "time_generator"]

logger = logging.getLogger(__name__)


def make_generator(
    config: TrainingConfig, team: Team, progress: Progress, *, validation: bool
) -> Generator:
    """The generator of one side of the split, with random numbers of its own in every process.

    Args:
        config: the run.
        team: the process.
        progress: how far the training is, which decides the seed.
        validation: the validation split, with the same seed always.
    """
    body = load_body(config.body, team.device)
    garments = config.garments or Path(__file__).parents[1] / "assets/training/free_garments.npz"
    assets = load_assets(config.assets, garments, body, validation=validation)
    seed = 99 if validation else config.seed * 7919 + progress.steps * 64 + team.rank + 1
    return Generator(assets, load_drawing(config.rasterizer), config.generator, seed)


def time_generator(generator: Generator) -> None:
    """Logs how fast the generator is on its own."""
    if generator.draws.device.type != "cuda":
        return
    for _ in range(2):
        generator.batch()
    torch.cuda.synchronize()
    start = time.monotonic()
    for _ in range(8):
        generator.batch()
    torch.cuda.synchronize()
    count = 8 * generator.config.people * generator.config.frames
    logger.info("generator alone: %.0f samples/s", count / (time.monotonic() - start))
