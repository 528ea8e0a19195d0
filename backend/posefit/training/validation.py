# SPDX-License-Identifier: Apache-2.0
"""Figures of a network on the generator's validation split: errors, calibration, what texture pays.

Motion clips, patterns and photographs of this split are never trained on; body, garments and
renderer are the same. Another renderer's set is measured elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from ..displacement.inputs import without_modalities
from ..displacement.kinds import DisplacementNetwork
from ..displacement.losses import LOG_SCALE_RANGE
from ..displacement.weights import Calibration
from .batch import TrainingBatch
from .estimate_errors import TWIST_JOINTS, no_errors
from .generator import Generator

__all__ = ["Validation", "predict", "validate", "validate_batches"]

ABLATIONS: dict[str, tuple[str, ...]] = {
    "texture": ("texture",),
    "normals_depth": ("normals", "depth"),
    "vertex_colors": ("vertex_colors",),
    "texture_normals_depth": ("texture", "normals", "depth"),
}

ASKED_FRAMES = 2
"""Frames of each person that are wrong where the texture's questions are asked."""


@dataclass
class _Means:
    """Weighted means that grow batch by batch, kept on the device."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, values: Tensor, weight: Tensor) -> None:
        weight = weight.float()
        zero = values.new_zeros(())
        self.sums[name] = self.sums.get(name, zero) + (values * weight).sum()
        self.weights[name] = self.weights.get(name, zero) + weight.sum()

    def result(self) -> dict[str, float]:
        return {
            name: round((total / self.weights[name].clamp_min(1e-6)).item(), 4)
            for name, total in self.sums.items()
        }


@dataclass(frozen=True)
class Validation:
    """Figures and the calibration that they ask for."""

    figures: dict[str, float]
    """By name; errors in pixels of the crop."""
    calibration: Calibration
    """Of scale and visibility."""


def predict(network: DisplacementNetwork, render: Tensor, image: Tensor) -> Tensor:
    """The last prediction, in bfloat16 on GPUs."""
    layout = torch.channels_last
    with torch.no_grad(), torch.autocast(render.device.type, torch.bfloat16, render.is_cuda):
        return network(
            render.contiguous(memory_format=layout), image.contiguous(memory_format=layout)
        )[-1].float()


@dataclass
class _Tally:
    """Answers to some batches, gathered."""

    means: _Means = field(default_factory=_Means)
    logits: list[Tensor] = field(default_factory=list)
    seen: list[Tensor] = field(default_factory=list)

    def add(self, network: DisplacementNetwork, batch: TrainingBatch) -> Tensor:
        """Takes the network's answer to a batch, which it returns."""
        prediction = predict(network, batch.render, batch.image)
        _add_errors(self.means, prediction, batch)
        self.logits.append(prediction[:, 3][batch.mask][::37])
        self.seen.append(batch.visible[batch.mask][::37])
        return prediction

    def result(self) -> Validation:
        """Figures, and the calibration that the answers ask for."""
        figures = self.means.result()
        temperature = _temperature(torch.cat(self.logits), torch.cat(self.seen).float())
        scale_factor = figures["error_over_scale"] / 2.0
        return Validation(figures, Calibration(round(scale_factor, 4), temperature))


def validate(network: DisplacementNetwork, generator: Generator, batches: int) -> Validation:
    """Measures a network.

    Args:
        network: in evaluation mode, on the generator's device.
        generator: of the validation split; its seed decides the samples.
        batches: how many batches of each kind.
    """
    tally = _Tally()
    for _ in range(batches):
        batch = generator.batch()
        tally.add(network, batch)
        for name, dropped in ABLATIONS.items():
            everyone = torch.ones(len(batch.image), dtype=torch.bool, device=batch.image.device)
            render = without_modalities(batch.render, dict.fromkeys(dropped, everyone))
            error = _lengths(predict(network, render, batch.image), batch)
            tally.means.add(f"epe_without_{name}", error, batch.mask)
    _texture_questions(tally.means, network, generator, max(1, batches // 3))
    return tally.result()


def validate_batches(network: DisplacementNetwork, batches: Iterable[TrainingBatch]) -> Validation:
    """Measures a network on given batches, with all modalities.

    Args:
        network: in evaluation mode.
        batches: on the network's device.
    """
    tally = _Tally()
    for batch in batches:
        tally.add(network, batch)
    return tally.result()


def _lengths(prediction: Tensor, batch: TrainingBatch) -> Tensor:
    return (prediction[:, :2] - batch.displacement).norm(dim=1)


def _add_errors(means: _Means, prediction: Tensor, batch: TrainingBatch) -> None:
    """End-point errors of all kinds, and how honest the scale is."""
    error, start = _lengths(prediction, batch), batch.displacement.norm(dim=1)
    hidden = batch.mask & ~batch.visible
    for name, where in (
        ("", batch.mask),
        ("_visible", batch.mask & batch.visible),
        ("_hidden", hidden),
    ):
        means.add(f"epe{name}", error, where)
        means.add(f"epe_start{name}", start, where)
    log_scale = prediction[:, 2].clamp(*LOG_SCALE_RANGE)
    middle = log_scale[batch.mask].median()
    means.add("epe_certain_half", error, batch.mask & (log_scale <= middle))
    means.add("within_3px", (error < 3).float(), batch.mask)
    means.add("within_3px_start", (start < 3).float(), batch.mask)
    absolute = (prediction[:, :2] - batch.displacement).abs().sum(1)
    means.add("error_over_scale", absolute * torch.exp(-log_scale), batch.mask)
    right = (prediction[:, 3] > 0) == batch.visible
    means.add("visibility_accuracy", right.float(), batch.mask)
    means.add("visible_share", batch.visible.float(), batch.mask)
    small = start < 2
    means.add("epe_where_start_below_2px", error, batch.mask & small)
    textured = batch.render[:, 3] > 0.5
    means.add("textured_share", textured.float(), batch.mask)


def _texture_questions(
    means: _Means, network: DisplacementNetwork, generator: Generator, batches: int
) -> None:
    """Estimates that are wrong only where texture tells: twisted segments, exchanged legs.

    Two frames of each person are wrong and counted; the others are right, so that their texture is
    sharp. `…_recovered` is the share of the true displacement that the prediction has along it
    (1 is all), over visible, textured points that move by more than a pixel.
    """
    size = generator.config.people * generator.config.frames
    device = generator.draws.device
    asked = torch.arange(size, device=device) % generator.config.frames < ASKED_FRAMES
    for _ in range(batches):
        draws = generator.draws
        angles = draws.uniform(size, len(TWIST_JOINTS), low=0.4, high=1.0)
        angles = angles * torch.where(draws.happens(0.5, *angles.shape), 1.0, -1.0)
        twists = angles * draws.happens(0.5, *angles.shape) * asked[:, None]
        right = no_errors(size, device)
        swapped = dataclasses.replace(right, leg_swap=asked)
        still = torch.zeros_like(twists)
        for name, errors, turned in (("twist", right, twists), ("leg_swap", swapped, still)):
            batch, _ = generator.batch_with_truth(errors=errors, twists=turned)
            _compare_texture(means, network, batch, asked, name)


def _compare_texture(
    means: _Means,
    network: DisplacementNetwork,
    batch: TrainingBatch,
    asked: Tensor,
    name: str,
) -> None:
    start = batch.displacement.norm(dim=1)
    where = batch.mask & batch.visible & (start > 1) & (batch.render[:, 3] > 0.5)
    where = where & asked[:, None, None]
    means.add(f"{name}_epe_start", start, where)
    everyone = torch.ones(len(batch.image), dtype=torch.bool, device=batch.image.device)
    without = without_modalities(batch.render, {"texture": everyone})
    for label, render in (("with", batch.render), ("without", without)):
        prediction = predict(network, render, batch.image)
        means.add(f"{name}_epe_{label}_texture", _lengths(prediction, batch), where)
        along = (prediction[:, :2] * batch.displacement).sum(1)
        means.add(f"{name}_recovered_{label}_texture", along / start.square().clamp_min(1e-3),
                  where.float() * start.square())  # fmt: skip


def _temperature(logits: Tensor, seen: Tensor) -> float:
    """What visibility logits must be divided by to be honest."""
    options = torch.linspace(0.4, 3.0, 27, device=logits.device)
    losses = torch.stack(
        [functional.binary_cross_entropy_with_logits(logits / value, seen) for value in options]
    )
    return round(options[losses.argmin()].item(), 2)
