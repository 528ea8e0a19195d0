# SPDX-License-Identifier: Apache-2.0
"""Batches made ahead on a stream of their own, and used again in the mirror."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch

from .batch import TrainingBatch, mirrored
from .generator import Generator

__all__ = ["training_batches"]

POOL = 12
"""Batches kept for a second use."""


def training_batches(
    generator: Generator, reuse: int, seed: int
) -> Iterator[tuple[TrainingBatch, bool]]:
    """An endless row of batches, and whether each is new.

    Args:
        generator: where they come from.
        reuse: how often each is used; again, it is mirrored and one of the last few, not the last.
        seed: of the choice among them.
    """
    chooser = random.Random(seed)
    pool: list[TrainingBatch] = []
    for batch in _ahead(generator):
        yield batch, True
        if reuse > 1:
            pool = [*pool[-(POOL - 1) :], batch]
        for _ in range(reuse - 1):
            yield mirrored(pool[chooser.randrange(len(pool))]), False


def _ahead(generator: Generator) -> Iterator[TrainingBatch]:
    """Batches; on a GPU the next one is made while the last is trained on."""
    if generator.draws.device.type != "cuda":
        while True:
            yield generator.batch()
    stream = torch.cuda.Stream()
    current = torch.cuda.current_stream()

    def start() -> tuple[TrainingBatch, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            made = generator.batch()
            return made, stream.record_event()  # pyright: ignore

    batch, ready = start()
    while True:
        current.wait_event(ready)
        for tensor in batch.tensors():
            tensor.record_stream(current)
        following = start()
        yield batch
        batch, ready = following
