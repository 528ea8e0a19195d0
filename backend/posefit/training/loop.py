# SPDX-License-Identifier: Apache-2.0
"""The training loop: batches in, weights out; may be cut and gone on with at any step."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..body import load_body
from ..displacement.inputs import without_modalities
from ..displacement.losses import LossReport, displacement_loss
from ..displacement.network import SMALL_NETWORK, CorrespondenceNetwork, NetworkConfig
from ..displacement.weights import Calibration
from .batch import TrainingBatch
from .check import check_generator
from .checkpoint import Progress, read_checkpoint, write_checkpoint
from .compiled import load_compiled, save_compiled
from .config import TrainingConfig
from .drawing import load_drawing
from .draws import Draws
from .generator import Generator, load_assets
from .muon import OptimizerPair, make_optimizer
from .prefetch import training_batches
from .processes import Team, join_team
from .validation import validate

__all__ = ["train"]

logger = logging.getLogger(__name__)

DECIDE_EVERY = 20
"""Steps between looks at the clock, which all processes share."""

DROPPED_TOGETHER = {
    "texture": ("texture",),
    "shape": ("normals", "depth"),
    "vertex_colors": ("vertex_colors",),
}


@dataclass
class _Learner:
    """The network under training with its averaged copy and optimiser."""

    network: CorrespondenceNetwork
    averaged: CorrespondenceNetwork
    optimizer: torch.optim.Optimizer | OptimizerPair
    progress: Progress
    averagings: int
    """How often `averaged` was moved."""

    def __post_init__(self) -> None:
        self.values = _floating(self.network)
        self.averaged_values = _floating(self.averaged)


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
    learner = _learner(config, team)
    generator = _generator(config, team, learner.progress, validation=False)
    if config.check:
        check_generator(generator)
    if config.compile:
        generator.compile()
        learner.network.compile_regions()
    _time_generator(generator)
    deadline = started + 60.0 * config.minutes - config.closing_seconds
    learner.progress = _run(config, team, learner, generator, deadline)
    figures: dict[str, float] = {}
    if team.leads:
        figures = _close(config, team, learner)
        save_compiled(config)
    team.leave()
    return figures


def _learner(config: TrainingConfig, team: Team) -> _Learner:
    """A new network, or the one that the run goes on with."""
    progress = Progress()
    if config.resume is not None:
        network, averaged, progress = read_checkpoint(config.resume, team.device)
    else:
        sizes = SMALL_NETWORK if config.small else NetworkConfig()
        network = CorrespondenceNetwork(sizes).to(team.device)
        averaged = copy.deepcopy(network).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore
    averaged = averaged.to(memory_format=torch.channels_last)  # pyright: ignore
    optimizer = make_optimizer(network, config.optimizer, config.learning_rate, config.weight_decay)
    if team.leads:
        count = sum(p.numel() for p in network.parameters())
        logger.info("%.2f M parameters, %d steps so far", count / 1e6, progress.steps)
    return _Learner(network, averaged, optimizer, progress, progress.steps)


def _floating(network: nn.Module) -> list[Tensor]:
    """Weights and running statistics, in place."""
    return [value for value in network.state_dict().values() if value.is_floating_point()]


def _generator(
    config: TrainingConfig, team: Team, progress: Progress, *, validation: bool
) -> Generator:
    """The generator of one side of the split, with a stream of its own in every process."""
    body = load_body(config.body, team.device)
    garments = config.garments or Path(__file__).parents[1] / "assets/training/free_garments.npz"
    assets = load_assets(config.assets, garments, body, validation=validation)
    seed = 99 if validation else config.seed * 7919 + progress.steps * 64 + team.rank + 1
    return Generator(assets, load_drawing(config.rasterizer), config.generator, seed)


def _time_generator(generator: Generator) -> None:
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


def _run(
    config: TrainingConfig, team: Team, learner: _Learner, generator: Generator, deadline: float
) -> Progress:
    """Steps until the deadline or the last step; returns the progress."""
    progress, first_share = learner.progress, learner.progress.share
    batches = training_batches(generator, config.reuse, config.seed + team.rank)
    dropout = Draws(config.seed + 31 * team.rank + progress.steps, team.device)
    log = _Log(config, team)
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
        report, norm, is_new = _step(config, team, learner, batches, dropout, rate)
        steps += 1
        made += is_new
        log.add(report, norm, steps, rate)
    if config.max_steps is not None and steps == config.max_steps:
        share = config.until
    return now_at()


def _rate_factor(share: float, steps: int, warmup_steps: int) -> float:
    """Learning rate against its highest: rising at a start, level, then falling to zero."""
    return min((1 + steps) / warmup_steps, 1.0) * max(0.003, min(1.0, (1.0 - share) / 0.7))


def _step(
    config: TrainingConfig,
    team: Team,
    learner: _Learner,
    batches: Iterator[tuple[TrainingBatch, bool]],
    dropout: Draws,
    rate: float,
) -> tuple[LossReport, Tensor, bool]:
    """One optimiser step on the next batch."""
    batch, is_new = next(batches)
    network = learner.network
    dropped = {}
    for names in DROPPED_TOGETHER.values():
        chosen = dropout.happens(config.modality_dropout, len(batch.image))
        dropped.update(dict.fromkeys(names, chosen))
    render = without_modalities(batch.render, dropped)
    layout = torch.channels_last
    device = team.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        predictions = network(
            render.contiguous(memory_format=layout),
            batch.image.contiguous(memory_format=layout),
            updates=min(config.updates, network.config.updates),
            query_budget=config.query_budget,
        )
    report = displacement_loss(predictions, batch.displacement, batch.mask, batch.visible)
    learner.optimizer.zero_grad(set_to_none=True)
    report.loss.backward()
    norm = _settle_gradients(network, team, config.clip_norm)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    learner.optimizer.step()
    _average(learner, config.ema_decay)
    return dataclasses.replace(report, loss=report.loss.detach()), norm, is_new


def _settle_gradients(network: nn.Module, team: Team, largest: float) -> Tensor:
    """Mean of all processes' gradients, without what isn't finite, clipped; returns the norm."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    team.mean_(flat)
    flat.nan_to_num_(0.0, 0.0, 0.0)
    norm = flat.norm()
    flat.mul_((largest / (norm + 1e-6)).clamp_max(1.0))
    pieces = flat.split([g.numel() for g in gradients])
    torch._foreach_copy_(  # pyright: ignore
        gradients, [piece.view_as(g) for piece, g in zip(pieces, gradients, strict=True)]
    )
    return norm


@torch.no_grad()
def _average(learner: _Learner, decay: float) -> None:
    """Moves the averaged weights towards the trained ones; faster at the start."""
    learner.averagings += 1
    steps = learner.averagings
    decay = min(decay, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(learner.averaged_values, learner.values, 1.0 - decay)  # pyright: ignore


class _Log:
    """Gathers figures on the device and writes a line now and then."""

    def __init__(self, config: TrainingConfig, team: Team) -> None:
        self._config, self._team = config, team
        self._rows: list[Tensor] = []
        self._since = self._start = time.monotonic()
        config.output.mkdir(parents=True, exist_ok=True)

    def add(self, report: LossReport, norm: Tensor, steps: int, rate: float) -> None:
        """Takes one step's figures."""
        values = (report.loss, report.endpoint_error, report.visible_endpoint_error,
                  report.visibility_accuracy, norm)  # fmt: skip
        self._rows.append(torch.stack([v.float() for v in values]))
        if len(self._rows) < self._config.log_every:
            return
        loss, epe, visible, accuracy, size = torch.stack(self._rows).mean(0).tolist()
        now = time.monotonic()
        batch = self._config.generator.people * self._config.generator.frames
        speed = len(self._rows) * batch * self._team.size / (now - self._since)
        self._rows, self._since = [], now
        if self._team.leads:
            line = {
                "seconds": round(now - self._start, 1), "steps": steps, "loss": round(loss, 3),
                "epe": round(epe, 3), "epe_visible": round(visible, 3),
                "visibility": round(accuracy, 3), "norm": round(size, 2), "rate": round(rate, 6),
                "samples_per_s": round(speed),
            }  # fmt: skip
            logger.info("%s", json.dumps(line))
            with (self._config.output / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")


def _save(
    config: TrainingConfig, learner: _Learner, progress: Progress, calibration: Calibration
) -> None:
    """Writes the checkpoint."""
    write_checkpoint(
        config.output, learner.network, learner.averaged, learner.network.config, progress,
        calibration,
    )  # fmt: skip


def _close(config: TrainingConfig, team: Team, learner: _Learner) -> dict[str, float]:
    """Writes the checkpoint, measures the averaged network, and writes it again, calibrated."""
    progress = learner.progress
    _save(config, learner, progress, Calibration())
    logger.info("%s", json.dumps(dataclasses.asdict(progress)))
    if not config.validation_batches:
        return {}
    generator = _generator(config, team, progress, validation=True)
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
