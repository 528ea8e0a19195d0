# SPDX-License-Identifier: Apache-2.0
"""The training loop: batches in, weights out; may be cut and gone on with at any step."""

from __future__ import annotations

import dataclasses
import json
import logging
import time

import torch

from ..displacement.weights import Calibration
from .check import check_generator
from .checkpoint import Progress, write_checkpoint
from .compiled import load_compiled, save_compiled
from .config import TrainingConfig
from .draws import Draws
from .generator import Generator
from .learner import Learner, make_learner, take_step
from .log import TrainingLog
from .prefetch import training_batches
from .processes import Team, join_team
from .supply import make_generator, time_generator
from .validation import validate

__all__ = ["train"]

logger = logging.getLogger(__name__)

DECIDE_EVERY = 20
"""Steps between looks at the clock, which all processes share."""


def train(config: TrainingConfig, started: float | None = None) -> dict[str, float]:
    """Trains for the time given, then validates and writes weights.

    Args:
        config: the run.
        started: `time.monotonic()` when the process began; the deadline counts from there.

    Returns:
        The validation's figures; empty in processes that don't lead.
    """
    started = time.monotonic() if started is None else started
    team = join_team(config.device)
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = True
    # the generator skins in full float32: in TF32 surfaces would tremble by millimetres
    torch.set_float32_matmul_precision("highest")
    load_compiled(config)
    learner = make_learner(config, team)
    generator = make_generator(config, team, learner.progress, validation=False)
    if config.check:
        check_generator(generator)
    if config.compile:
        generator.compile()
        learner.network.compile_regions()
    time_generator(generator)
    deadline = started + 60.0 * config.minutes - config.closing_seconds
    learner.progress = _run(config, team, learner, generator, deadline)
    figures: dict[str, float] = {}
    if team.leads:
        figures = _close(config, team, learner)
        save_compiled(config)
    team.leave()
    return figures


def _run(
    config: TrainingConfig, team: Team, learner: Learner, generator: Generator, deadline: float
) -> Progress:
    """Steps until the deadline or the last step; returns the progress."""
    progress, first_share = learner.progress, learner.progress.share
    batches = training_batches(generator, config.reuse, config.seed + team.rank)
    dropout = Draws(config.seed + 31 * team.rank + progress.steps, team.device)
    log = TrainingLog(config, team)
    loop_start, steps = time.monotonic(), 0
    made, saved = 0, time.monotonic()
    share = first_share
    per_batch = generator.config.people * generator.config.frames * team.size

    def now_at() -> Progress:
        return Progress(
            progress.steps + steps, progress.samples + made * per_batch, share,
            progress.seconds + time.monotonic() - loop_start,
        )  # fmt: skip

    while config.max_steps is None or steps < config.max_steps:
        if steps % DECIDE_EVERY == 0:
            now = time.monotonic()
            done = min(1.0, (now - loop_start) / max(1.0, deadline - loop_start))
            if config.max_steps is not None:
                done = steps / config.max_steps
            (done,) = team.from_leader(done)
            share = first_share + (config.until - first_share) * done
            if done >= 1.0:
                break
            if team.leads and time.monotonic() - saved > 60 * config.checkpoint_minutes:
                saved = time.monotonic()
                _save(config, learner, now_at(), Calibration())
        rate = config.learning_rate * _rate_factor(share, steps, config.warmup_steps)
        report, norm, is_new = take_step(config, team, learner, batches, dropout, rate)
        steps += 1
        made += is_new
        log.add(report, norm, steps, rate)
    if config.max_steps is not None and steps == config.max_steps:
        share = config.until
    return now_at()


def _rate_factor(share: float, steps: int, warmup_steps: int) -> float:
    """Learning rate against its highest: rising at a start, level, then falling to zero."""
    return min((1 + steps) / warmup_steps, 1.0) * max(0.003, min(1.0, (1.0 - share) / 0.7))


def _save(
    config: TrainingConfig, learner: Learner, progress: Progress, calibration: Calibration
) -> None:
    """Writes the checkpoint."""
    write_checkpoint(
        config.output, learner.network, learner.averaged, learner.network.config, progress,
        calibration,
    )  # fmt: skip


def _close(config: TrainingConfig, team: Team, learner: Learner) -> dict[str, float]:
    """Writes the checkpoint, measures the averaged network, and writes it again, calibrated."""
    progress = learner.progress
    _save(config, learner, progress, Calibration())
    logger.info("%s", json.dumps(dataclasses.asdict(progress)))
    if not config.validation_batches:
        return {}
    generator = make_generator(config, team, progress, validation=True)
    result = validate(learner.averaged.eval(), generator, config.validation_batches)
    _save(config, learner, progress, result.calibration)
    page = {
        "progress": dataclasses.asdict(progress),
        "calibration": dataclasses.asdict(result.calibration),
        "figures": result.figures,
    }
    (config.output / "validation.json").write_text(json.dumps(page, indent=1))
    logger.info("%s", json.dumps(page))
    return result.figures
