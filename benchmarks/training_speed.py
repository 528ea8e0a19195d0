# SPDX-License-Identifier: Apache-2.0
"""Samples a second of training on this machine: the generator, a step, and both together.

    python benchmarks/training_speed.py --assets assets [--rasterizer cupy_rasterizer] \
        [--network small] [--steps 60] [--json benchmarks/results/training_speed.json]

Takes the settings of `posefit train`, so that it measures what a run with them would do; nothing
is saved. On a GPU the next batch is generated on a stream of its own while the network steps:
"one after the other" is what the two would make without that.
"""

from __future__ import annotations

import itertools
import json
import logging
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from posefit.training.batch import TrainingBatch
from posefit.training.config import TrainingConfig
from posefit.training.draws import Draws
from posefit.training.generator import Generator
from posefit.training.learner import Learner, make_learner, take_step
from posefit.training.prefetch import training_batches
from posefit.training.processes import Team, join_team
from posefit.training.supply import make_generator, time_generator, wait_for


@dataclass(frozen=True)
class Speed:
    """What to time."""

    training: Annotated[TrainingConfig, tyro.conf.arg(name="")]
    """Settings of the run."""
    steps: int = 60
    """Steps, and batches, that are timed."""
    warm: int = 15
    """Steps before that; the first ones compile."""
    json: Path | None = None
    """File for the figures."""


def measure(speed: Speed) -> dict[str, object]:
    """The figures of one process.

    Args:
        speed: what to time.
    """
    config = speed.training
    team = join_team(config.device)
    torch.manual_seed(config.seed)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = True
    learner = make_learner(config, team)
    generator = make_generator(config, team, learner.progress, validation=False)
    if config.compile:
        generator.compile()
        learner.network.compile_regions()
    alone = time_generator(generator, speed.warm, speed.steps)
    kept = generator.batch()
    same = itertools.repeat((kept, True))
    step = time_steps(speed, team, learner, generator, same)
    batches = training_batches(generator, config.reuse, config.seed)
    together = time_steps(speed, team, learner, generator, batches)
    # each generated batch is trained on `reuse` times
    in_turn = 1.0 / (1.0 / step + 1.0 / (alone * config.reuse))
    figures = {
        "generator_alone": alone, "step_alone": step, "training": together,
        "one_after_the_other": in_turn,
    }  # fmt: skip
    return {
        "device": device_name(team), "torch": torch.__version__, "network": str(config.network),
        "compiled": config.compile, "reuse": config.reuse, "rasterizer": config.rasterizer,
        "people": config.generator.people, "frames": config.generator.frames,
        "size": config.generator.size, "steps": speed.steps,
        "samples_per_s": {name: round(value, 2) for name, value in figures.items()},
        "most_memory_gib": most_memory(team),
    }  # fmt: skip


def time_steps(
    speed: Speed,
    team: Team,
    learner: Learner,
    generator: Generator,
    batches: Iterator[tuple[TrainingBatch, bool]],
) -> float:
    """Samples a second of steps on given batches."""
    config, dropout = speed.training, Draws(0, team.device)
    for _ in range(speed.warm):
        take_step(config, team, learner, batches, dropout, 1e-6)
    wait_for(team.device)
    began = time.monotonic()
    for _ in range(speed.steps):
        take_step(config, team, learner, batches, dropout, 1e-6)
    wait_for(team.device)
    samples = speed.steps * generator.config.people * generator.config.frames
    return samples / (time.monotonic() - began)


def device_name(team: Team) -> str:
    """The GPU, or the processor and its threads."""
    if team.device.type == "cuda":
        return torch.cuda.get_device_name(team.device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def most_memory(team: Team) -> float | None:
    """The most GPU memory that was in use, GiB."""
    if team.device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(team.device) / 2**30, 1)


def main() -> None:
    """Times, prints a table and writes the figures."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    speed = tyro.cli(Speed, description=__doc__)
    page = measure(speed)
    print(f"\n{page['device']}, torch {page['torch']}, network {page['network']}")
    print("| | samples/s |\n|---|---|")
    for name, value in page["samples_per_s"].items():  # pyright: ignore
        print(f"| {name.replace('_', ' ')} | {value:,.1f} |")
    if speed.json:
        speed.json.parent.mkdir(parents=True, exist_ok=True)
        speed.json.write_text(json.dumps(page, indent=1) + "\n")


if __name__ == "__main__":
    main()
