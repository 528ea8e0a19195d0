# SPDX-License-Identifier: Apache-2.0
"""The network under training: its averaged copy, its optimiser, and one step of both."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..displacement.inputs import without_modalities
from ..displacement.kinds import DisplacementNetwork, make_network
from ..displacement.losses import LossReport, displacement_loss
from ..displacement.network import CorrespondenceNetwork
from .batch import TrainingBatch
from .checkpoint import Progress, read_checkpoint, read_moments
from .config import TrainingConfig
from .draws import Draws
from .muon import OptimizerPair, in_a_row, laid_out, make_optimizer
from .processes import Team

__all__ = ["Learner", "make_learner", "take_step"]

logger = logging.getLogger(__name__)

DROPPED_TOGETHER = {
    "texture": ("texture",),
    "shape": ("normals", "depth"),
    "vertex_colors": ("vertex_colors",),
}


@dataclass
class Learner:
    """The network under training with its averaged copy and optimiser."""

    network: DisplacementNetwork
    averaged: DisplacementNetwork
    optimizer: torch.optim.Optimizer | OptimizerPair
    progress: Progress
    averagings: int
    """How often `averaged` was moved."""
    is_warm: bool = False
    """Whether the optimiser has its moments from before."""

    def __post_init__(self) -> None:
        self.values = _floating(self.network)
        self.averaged_values = _floating(self.averaged)


def make_learner(config: TrainingConfig, team: Team) -> Learner:
    """A new network, or the one that the run goes on with.

    Args:
        config: the run.
        team: whose device it goes to.
    """
    progress = Progress()
    if config.resume is not None:
        network, averaged, progress = read_checkpoint(config.resume, team.device)
    else:
        network = make_network(config.network).to(team.device)
        averaged = copy.deepcopy(network).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore
    averaged = averaged.to(memory_format=torch.channels_last)  # pyright: ignore
    optimizer = make_optimizer(network, config.optimizer, config.learning_rate, config.weight_decay)
    is_warm = config.resume is not None and read_moments(config.resume, optimizer, progress)
    if team.leads:
        count = sum(p.numel() for p in network.parameters())
        moments = ", moments kept" if is_warm else ""
        logger.info("%.2f M parameters, %d steps so far%s", count / 1e6, progress.steps, moments)
    return Learner(network, averaged, optimizer, progress, progress.steps, is_warm)


def _floating(network: nn.Module) -> list[Tensor]:
    """Weights and running statistics, in place."""
    return [value for value in network.state_dict().values() if value.is_floating_point()]


def take_step(
    config: TrainingConfig,
    team: Team,
    learner: Learner,
    batches: Iterator[tuple[TrainingBatch, bool]],
    dropout: Draws,
    rate: float,
) -> tuple[LossReport, Tensor, bool]:
    """One optimiser step on the next batch.

    Args:
        config: the run.
        team: whose gradients are averaged; every process takes the step.
        learner: changed in place.
        batches: of `prefetch.training_batches`.
        dropout: draws of the modalities that are left out.
        rate: the learning rate.

    Returns:
        What the loss says, the gradients' norm before clipping, and whether the batch was new.
    """
    batch, is_new = next(batches)
    network = learner.network
    dropped = {}
    for names in DROPPED_TOGETHER.values():
        chosen = dropout.happens(config.modality_dropout, len(batch.image))
        dropped.update(dict.fromkeys(names, chosen))
    render = without_modalities(batch.render, dropped)
    predictions = _predict(config, network, render, batch.image)
    report = displacement_loss(predictions, batch.displacement, batch.mask, batch.visible)
    learner.optimizer.zero_grad(set_to_none=True)
    report.loss.backward()
    norm = _settle_gradients(network, team, config.clip_norm)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    learner.optimizer.step()
    _average(learner, config.ema_decay)
    return dataclasses.replace(report, loss=report.loss.detach()), norm, is_new


def _predict(
    config: TrainingConfig, network: DisplacementNetwork, render: Tensor, image: Tensor
) -> list[Tensor]:
    """All predictions, in bfloat16 on GPUs, with no more work than the run allows."""
    render, image = (x.contiguous(memory_format=torch.channels_last) for x in (render, image))
    with torch.autocast(render.device.type, torch.bfloat16, enabled=render.is_cuda):
        if isinstance(network, CorrespondenceNetwork):
            updates = min(config.updates, network.config.updates)
            return network(render, image, updates=updates, query_budget=config.query_budget)
        return network(render, image)


def _settle_gradients(network: nn.Module, team: Team, largest: float) -> Tensor:
    """Mean of all processes' gradients, without what isn't finite, clipped; returns the norm."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = in_a_row(gradients)
    team.mean_(flat)
    flat.nan_to_num_(0.0, 0.0, 0.0)
    norm = flat.norm()
    flat.mul_((largest / (norm + 1e-6)).clamp_max(1.0))
    torch._foreach_copy_(gradients, laid_out(flat, gradients))  # pyright: ignore
    return norm


@torch.no_grad()
def _average(learner: Learner, decay: float) -> None:
    """Moves the averaged weights towards the trained ones; faster at the start."""
    learner.averagings += 1
    steps = learner.averagings
    decay = min(decay, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(learner.averaged_values, learner.values, 1.0 - decay)  # pyright: ignore
