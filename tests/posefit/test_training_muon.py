# SPDX-License-Identifier: Apache-2.0
"""Muon: orthogonal steps, padded together, of AdamW's size."""

from __future__ import annotations

import torch
from torch import nn

from posefit.training.muon import ADAM_STEP, Muon, is_inner_matrix, make_optimizer, orthogonal


def test_singular_values_of_a_step_are_about_one_and_zero_padding_stays_zero() -> None:
    torch.manual_seed(0)
    padded = torch.zeros(2, 64, 128)
    padded[:, :40, :100] = torch.randn(2, 40, 100) * torch.tensor([1e-4, 30.0])[:, None, None]
    found = orthogonal(padded)
    values = torch.linalg.svdvals(found[:, :40, :100])
    assert values.min() > 0.5
    assert values.max() < 1.3
    assert not found[:, 40:].any()
    assert not found[:, :, 100:].any()


def test_kernels_in_one_bucket_move_as_each_would_alone() -> None:
    torch.manual_seed(1)
    shapes = [(24, 16, 3, 3), (48, 40, 1, 1), (64, 20, 3, 3), (96, 32)]
    together = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    together[0].data = together[0].data.contiguous(memory_format=torch.channels_last)
    alone = [nn.Parameter(p.detach().clone()) for p in together]
    optimizers = [Muon(together, 0.1, 0.9, 0.01), *(Muon([p], 0.1, 0.9, 0.01) for p in alone)]
    for _ in range(2):
        for a, b in zip(together, alone, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_step_is_as_long_as_one_of_adamw() -> None:
    torch.manual_seed(2)
    kernel = nn.Parameter(torch.zeros(64, 32, 3, 3))
    kernel.grad = torch.randn_like(kernel)
    Muon([kernel], lr=1.0, momentum=0.95, weight_decay=0.0).step()
    assert abs(kernel.square().mean().sqrt() / ADAM_STEP - 1.0) < 0.25


def test_stems_outputs_and_biases_are_left_to_adamw() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 32, 7), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 4, 3))
    chosen = [name for name, p in layers.named_parameters() if is_inner_matrix(p)]
    assert chosen == ["1.weight"]
    pair = make_optimizer(layers, "muon", 1e-3, 0.0)
    assert sum(len(group["params"]) for group in pair.param_groups) == 6


def test_gradients_laid_out_otherwise_than_their_kernel_move_it_alike() -> None:
    torch.manual_seed(3)
    kernels = [
        nn.Parameter(torch.ones(32, 16, 3, 3).contiguous(memory_format=torch.channels_last))
        for _ in range(2)
    ]
    gradient = torch.randn(32, 16, 3, 3)
    kernels[0].grad = gradient
    kernels[1].grad = gradient.contiguous(memory_format=torch.channels_last)
    for kernel in kernels:
        Muon([kernel], 0.1, 0.9, 0.0).step()
    assert torch.equal(kernels[0], kernels[1])
