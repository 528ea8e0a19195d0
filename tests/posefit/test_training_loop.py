# SPDX-License-Identifier: Apache-2.0
"""The training loop learns, can be cut, and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from posefit.displacement.inputs import network_inputs
from posefit.displacement.losses import displacement_loss
from posefit.displacement.network import CorrespondenceNetwork
from posefit.displacement.weights import Calibration
from posefit.training.checkpoint import Progress, read_checkpoint, write_checkpoint
from posefit.training.loop import _rate_factor

from .test_displacement_network import TINY, disc_modalities, tiny_network


def test_checkpoints_go_on_where_they_stopped(tmp_path: Path) -> None:
    network, averaged = tiny_network(), tiny_network()
    with torch.no_grad():
        for value in averaged.parameters():
            value.mul_(0.5)
    progress = Progress(steps=7, samples=448, share=0.25, seconds=3.5)
    write_checkpoint(tmp_path, network, averaged, TINY, progress, Calibration(1.3, 0.9))
    again, averaged_again, found = read_checkpoint(tmp_path, "cpu")
    assert found == progress
    assert again.training
    assert all(p.requires_grad for p in again.parameters())
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(a.half(), b.half())
    for a, b in zip(averaged.parameters(), averaged_again.parameters(), strict=True):
        assert torch.equal(a.half(), b.half())
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) < 64 * 2**20


def test_the_learning_rate_rises_stays_and_falls_to_nearly_nothing() -> None:
    rates = [_rate_factor(share, 1000, 200) for share in (0.0, 0.3, 0.65, 1.0)]
    assert rates == pytest.approx([1.0, 1.0, 0.5, 0.003])
    assert _rate_factor(0.1, 0, 200) < 0.01


@pytest.mark.slow
def test_the_network_learns_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    network: CorrespondenceNetwork = tiny_network()
    modalities = disc_modalities()
    shift = torch.tensor([3.0, -2.0])
    # the picture is the rendering, moved
    images = torch.roll(modalities.rgb, (-2, 3), (2, 3)).clamp(0, 1)
    render, image = network_inputs(images, modalities)
    mask = modalities.mask[:, 0] > 0
    truth = shift.view(1, 2, 1, 1).expand(2, 2, 64, 64) * mask[:, None]
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    errors = []
    for step in range(40):
        # as a training does: at the full rate single steps jump, on each processor another one
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 40)
        report = displacement_loss(network(render, image, query_budget=128), truth, mask, mask)
        optimizer.zero_grad()
        report.loss.backward()
        optimizer.step()
        errors.append(report.endpoint_error.item())
    assert errors[-1] < 0.4 * errors[0]
    assert errors[-1] < 1.0
