# SPDX-License-Identifier: Apache-2.0
"""The training loop: batches in, weights out; may be cut and gone on with at any step."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ..displacement.kinds import kind_of
from ..displacement.weights import Calibration
from ..whole_files import replace_file
from .board import open_board
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
from .stopping import StopRequest
from .supply import make_generator, time_generator
from .validation import validate
from .watch import Watch

__all__ = ["Outcome", "train"]

logger = logging.getLogger(__name__)

DECIDE_EVERY = 20
"""Steps between looks at the clock, which all processes share."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    figures: dict[str, float]
    """The validation's; empty in processes that don't lead, and if the run was told to stop."""
    signal_number: int | None = None
    """The signal that ended it, if one did."""


@dataclass
class _Run:
    """What the parts of a run share."""

    config: TrainingConfig
    team: Team
    learner: Learner
    log: TrainingLog
    watch: Watch
    stop: StopRequest
    is_stopped: bool = False
    """Whether any process was told to stop."""


def train(config: TrainingConfig, started: float | None = None) -> Outcome:
    """Trains for the time given, then validates and writes weights.

    Args:
        config: the run.
        started: `time.monotonic()` when the process began; the deadline counts from there.

    Returns:
        Figures, and whether a signal ended the run; its weights are saved in both cases.

    Raises:
        CheckpointError: there is nothing to go on from in `config.resume`.
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
    config.output.mkdir(parents=True, exist_ok=True)
    if team.leads:
        write_config(config)
    board = open_board(
        config.output / "tensorboard", learner.progress.steps,
        wanted=config.tensorboard and team.leads,
    )  # fmt: skip
    log, watch = TrainingLog(config, team, board), Watch(config, team, board)
    if team.device.type == "cuda":
        log.generator_speed = time_generator(generator)
    run = _Run(config, team, learner, log, watch, StopRequest())
    try:
        _steps(run, generator, started + 60.0 * config.minutes - config.closing_seconds)
        if team.leads:
            _save(run, learner.progress)
    finally:
        run.stop.forget()  # what takes long from here on may be cut: the weights are written
    figures = _close(run) if team.leads and not run.is_stopped else {}
    board.close()
    team.leave()
    return Outcome(figures, run.stop.signal_number)


def write_config(config: TrainingConfig) -> None:
    """Writes the settings beside the output; `--config` reads them.

    Args:
        config: the run.
    """
    page = json.dumps(dataclasses.asdict(config), indent=1, default=_as_text)
    replace_file(config.output / "config.json", lambda path: path.write_text(page))


def _as_text(value: object) -> str:
    assert isinstance(value, Path)
    return str(value)


def _steps(run: _Run, generator: Generator, deadline: float) -> None:
    """Steps until the deadline, the last step or a signal; moves the learner's progress."""
    config, team, learner = run.config, run.team, run.learner
    progress, first_share = learner.progress, learner.progress.share
    batches = training_batches(generator, config.reuse, config.seed + team.rank)
    dropout = Draws(config.seed + 31 * team.rank + progress.steps, team.device)
    loop_start = saved = time.monotonic()
    steps, made, share = 0, 0, first_share
    per_batch = generator.config.people * generator.config.frames * team.size
    head_start = config.warmup_steps if learner.is_warm else 0

    def now_at() -> Progress:
        return dataclasses.replace(
            progress, steps=progress.steps + steps, samples=progress.samples + made * per_batch,
            share=share, seconds=progress.seconds + time.monotonic() - loop_start,
        )  # fmt: skip

    while config.max_steps is None or steps < config.max_steps:
        if steps % DECIDE_EVERY == 0 or (team.size == 1 and run.stop.asked):
            done = (time.monotonic() - loop_start) / max(1.0, deadline - loop_start)
            if config.max_steps is not None:
                done = steps / config.max_steps
            done, asked = team.totals(min(1.0, done) if team.leads else 0.0, run.stop.asked)
            run.is_stopped = asked > 0
            share = first_share + (config.until - first_share) * done
            if done >= 1.0 or run.is_stopped:
                break
            if team.leads and time.monotonic() - saved > 60 * config.checkpoint_minutes:
                saved = time.monotonic()
                _save(run, now_at())
            if run.watch.due:
                run.watch.look(learner, now_at())
        rate = config.learning_rate * _rate_factor(share, head_start + steps, config.warmup_steps)
        report, norm, is_new = take_step(config, team, learner, batches, dropout, rate)
        steps += 1
        made += is_new
        run.log.add(report, norm, progress.steps + steps, rate)
        if steps == 1:
            run.stop.listen()  # before this there is nothing to save
    if config.max_steps is not None and steps == config.max_steps:
        share = config.until
    learner.progress = now_at()


def _rate_factor(share: float, steps: int, warmup_steps: int) -> float:
    """Learning rate against its highest: rising at a start, level, then falling to zero."""
    return min((1 + steps) / warmup_steps, 1.0) * max(0.003, min(1.0, (1.0 - share) / 0.7))


def _save(run: _Run, progress: Progress) -> None:
    """Writes the checkpoint, not calibrated."""
    learner = run.learner
    write_checkpoint(
        run.config.output, learner.network, learner.averaged, learner.network.config, progress,
        Calibration(), learner.optimizer if run.config.keep_moments else None,
    )  # fmt: skip


def _recipe(run: _Run) -> dict[str, object]:
    """What the weights were made with, for their model card."""
    config, device = run.config, run.team.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "network": kind_of(run.learner.network.config), "device": name, "processes": run.team.size,
        "torch": torch.__version__, "optimizer": config.optimizer, "reuse": config.reuse,
        "learning_rate": config.learning_rate, "seed": config.seed,
        "batch": config.generator.people * config.generator.frames, "size": config.generator.size,
    }  # fmt: skip


def _close(run: _Run) -> dict[str, float]:
    """Chooses the weights to ship, measures them, and writes them again, calibrated."""
    config, learner = run.config, run.learner
    best = run.watch.best_if_better(learner, learner.progress)
    progress = dataclasses.replace(
        learner.progress, shipped="last" if best is None else "best",
        shipped_epe=run.watch.best_epe,
    )  # fmt: skip
    logger.info("%s", json.dumps(dataclasses.asdict(progress)))
    calibration, figures = Calibration(), {}
    if config.validation_batches:
        generator = make_generator(config, run.team, progress, validation=True)
        shipped = learner.averaged.eval() if best is None else best
        result = validate(shipped, generator, config.validation_batches)
        calibration, figures = result.calibration, result.figures
        page = {
            "progress": dataclasses.asdict(progress),
            "recipe": _recipe(run),
            "calibration": dataclasses.asdict(calibration),
            "figures": figures,
        }
        (config.output / "validation.json").write_text(json.dumps(page, indent=1))
        logger.info("%s", json.dumps(page))
    write_checkpoint(
        config.output, learner.network, learner.averaged, learner.network.config, progress,
        calibration, best=best,
    )  # fmt: skip
    save_compiled(config)
    return figures
