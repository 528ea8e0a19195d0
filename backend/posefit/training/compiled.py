# SPDX-License-Identifier: Apache-2.0
"""Compiled code that travels with a checkpoint, so that the next run starts at once."""

from __future__ import annotations

import logging
import lzma

import torch

from .config import TrainingConfig

__all__ = ["load_compiled", "save_compiled"]

logger = logging.getLogger(__name__)

NAME = "compiled.xz"
LARGEST_BYTES = 15 * 2**20
"""A larger file isn't written: it couldn't travel."""


def load_compiled(config: TrainingConfig) -> None:
    """Makes the resumed run's compiled code known, if it came along."""
    if not config.compile or config.resume is None:
        return
    path = config.resume / NAME
    if path.is_file():
        torch.compiler.load_cache_artifacts(lzma.decompress(path.read_bytes()))
        logger.info("compiled code from %s", path)


def save_compiled(config: TrainingConfig) -> None:
    """Writes what this process has compiled beside the checkpoint."""
    if not config.compile or not torch.cuda.is_available():
        return
    artifacts = torch.compiler.save_cache_artifacts()
    if artifacts is None:
        return
    packed = lzma.compress(artifacts[0], preset=1)
    logger.info("compiled code: %.1f MiB", len(packed) / 2**20)
    if len(packed) <= LARGEST_BYTES:
        (config.output / NAME).write_bytes(packed)
