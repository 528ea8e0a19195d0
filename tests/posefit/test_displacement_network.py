# SPDX-License-Identifier: Apache-2.0
"""The displacement network's parts, its loss, its weight files and the estimator around it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from posefit.displacement import DisplacementError
from posefit.displacement.correlation import (
    CorrelationPyramid,
    body_cells,
    gather_cells,
    scatter_cells,
    window_lookup,
)
from posefit.displacement.fused import fuse_layers
from posefit.displacement.inference import NetworkEstimator
from posefit.displacement.inputs import (
    MODALITY_CHANNELS,
    RENDER_CHANNELS,
    network_inputs,
    without_modalities,
)
from posefit.displacement.kinds import make_network
from posefit.displacement.layers import Residual, convex_upsample
from posefit.displacement.losses import displacement_loss
from posefit.displacement.network import (
    CorrespondenceNetwork,
    NetworkConfig,
)
from posefit.displacement.weights import Calibration, WeightsError, load_network, save_network
from posefit.modalities import Modalities

TINY = NetworkConfig(
    feature_channels=8,
    appearance_channels=8,
    encoder_channels=(8, 8, 8),
    context_channels=(8, 8, 8, 8, 8),
    hidden_channels=8,
    feature_levels=2,
    appearance_levels=1,
    radius=2,
    updates=2,
)


def disc_modalities(size: int = 64, batch: int = 2, depth: float = 3.0) -> Modalities:
    """Modalities of a disc in the middle, with noise for colours."""
    generator = torch.Generator().manual_seed(3)
    place = torch.arange(size) - size / 2 + 0.5
    mask = ((place[:, None] ** 2 + place**2) < (size / 4) ** 2).float().expand(batch, 1, -1, -1)
    noise = torch.rand(batch, 3, size, size, generator=generator)
    slope = torch.linspace(-0.2, 0.2, size).expand(batch, 1, size, size)
    return Modalities(noise * mask, mask, (depth + slope) * mask, noise * mask, noise * mask, mask)


def tiny_network() -> CorrespondenceNetwork:
    torch.manual_seed(0)
    return CorrespondenceNetwork(TINY)


def test_lookup_equals_grid_sample() -> None:
    torch.manual_seed(1)
    radius, height, width = 3, 12, 16
    volume = torch.randn(2, 5, height * width, dtype=torch.float64)
    centers = torch.rand(2, 5, 2, dtype=torch.float64) * 24 - 4
    found = window_lookup(volume, centers, radius, (height, width))
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    places = centers[:, :, None, None] + torch.stack([x, y], -1)
    grid = (places + 0.5) / torch.tensor([width, height]) * 2 - 1
    picture = volume.view(10, 1, height, width)
    expected = functional.grid_sample(picture, grid.flatten(0, 1), align_corners=False)
    assert torch.allclose(found, expected.view(2, 5, -1), atol=1e-12)


def test_gradient_of_all_lookups_together_equals_autograd() -> None:
    torch.manual_seed(2)
    queries = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    picture = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    centers = [torch.rand(2, 6, 2, dtype=torch.float64) * 10 - 1 for _ in range(3)]
    weights = [torch.randn(2, 6, 50, dtype=torch.float64) for _ in centers]
    pyramid = CorrelationPyramid(queries, picture, levels=2, radius=2)
    total = sum((pyramid.at(c) * w).sum() for c, w in zip(centers, weights, strict=True))
    found = torch.autograd.grad(total, (queries, picture))

    total = torch.zeros((), dtype=torch.float64)
    for c, w in zip(centers, weights, strict=True):
        for level, own in enumerate(w.split(25, dim=2)):
            coarse = functional.avg_pool2d(picture, 2) if level else picture
            volume = torch.bmm(queries * 0.5, coarse.flatten(2))
            at = (c + 0.5) / 2**level - 0.5
            total = total + (window_lookup(volume, at, 2, tuple(coarse.shape[2:])) * own).sum()
    expected = torch.autograd.grad(total, (queries, picture))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_a_feature_correlates_most_with_itself() -> None:
    torch.manual_seed(3)
    picture = functional.normalize(torch.randn(1, 64, 8, 8), dim=1)
    cells = torch.arange(64)[None]
    queries = gather_cells(picture, cells)
    grid = torch.stack([cells % 8, cells // 8], dim=2).float()
    taps = CorrelationPyramid(queries, picture, levels=1, radius=1).at(grid)
    assert (taps.argmax(2) == 4).all()


def test_body_cells_come_first_and_none_twice() -> None:
    mask = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.2
    cells = body_cells(mask)
    assert cells.shape[1] == 256
    for row, own in zip(cells, mask.flatten(1), strict=True):
        assert len(set(row.tolist())) == len(row)
        assert own[row[: int(own.sum())]].all()
    assert body_cells(mask, budget=10).shape == (3, 10)


def test_cells_go_back_where_they_came_from() -> None:
    values = torch.randn(2, 3, 4, 4)
    cells = torch.stack([torch.randperm(16)[:7] for _ in range(2)])
    picture = scatter_cells(gather_cells(values, cells), cells, (4, 4))
    queried = torch.zeros(2, 16, dtype=torch.bool).scatter(1, cells, True).view(2, 1, 4, 4)
    assert torch.equal(picture, values * queried)


def test_convex_upsampling_of_a_constant_is_constant() -> None:
    weights = torch.randn(2, 9 * 16, 5, 7)
    fine = convex_upsample(torch.full((2, 3, 5, 7), 2.5), weights)
    assert fine.shape == (2, 3, 20, 28)
    assert torch.allclose(fine, torch.full_like(fine, 2.5), atol=1e-5)


def test_convex_upsampling_that_trusts_the_middle_repeats_it() -> None:
    weights = torch.zeros(1, 9, 16, 3, 3)
    weights[:, 4] = 60.0
    values = torch.arange(9.0).view(1, 1, 3, 3)
    fine = convex_upsample(values, weights.flatten(1, 2))
    assert torch.allclose(fine, values.repeat_interleave(4, 2).repeat_interleave(4, 3), atol=1e-6)


def test_inputs_do_not_depend_on_distance_nor_on_what_is_off_the_body() -> None:
    near, far = disc_modalities(depth=2.0), disc_modalities(depth=6.0)
    images = torch.rand(2, 3, 64, 64)
    first, _ = network_inputs(images, near)
    second, _ = network_inputs(images, far)
    assert first.shape[1] == RENDER_CHANNELS
    assert torch.allclose(first, second, atol=1e-5)
    assert (first * (1 - near.mask) == 0).all()
    assert first.abs().max() <= 1.0


def test_hardly_known_texture_counts_as_unknown() -> None:
    modalities = disc_modalities()
    faint = dataclasses.replace(modalities, texture_valid=modalities.texture_valid * 0.1)
    render, _ = network_inputs(torch.rand(2, 3, 64, 64), faint)
    assert (render[:, MODALITY_CHANNELS["texture"]] == 0).all()


def test_dropped_modalities_are_zero_in_their_samples_only() -> None:
    render, _ = network_inputs(torch.rand(2, 3, 64, 64), disc_modalities())
    less = without_modalities(render, {"normals": torch.tensor([True, False])})
    assert (less[0, MODALITY_CHANNELS["normals"]] == 0).all()
    assert torch.equal(less[1], render[1])
    assert torch.equal(less[0, :5], render[0, :5])


def test_every_weight_gets_a_gradient_and_the_last_prediction_is_full_size() -> None:
    network = tiny_network()
    render, image = network_inputs(torch.rand(2, 3, 64, 64), disc_modalities())
    predictions = network(render, image, query_budget=128)
    assert [p.shape[-1] for p in predictions] == [16, 16, 64]
    mask = render[:, 4] > 0
    displacement = torch.ones(2, 2, 64, 64)
    report = displacement_loss(predictions, displacement, mask, mask)
    report.loss.backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert not without
    assert torch.isfinite(report.loss)


def test_loss_ignores_pixels_off_the_body() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:5, 2:5] = True
    truth = torch.randn(1, 2, 8, 8)
    wrong = truth + 100.0 * (~mask)[:, None]
    rest = torch.zeros(1, 2, 8, 8)
    a = displacement_loss([torch.cat([wrong, rest], 1)], truth, mask, mask)
    b = displacement_loss([torch.cat([truth, rest], 1)], truth, mask, mask)
    assert torch.equal(a.loss, b.loss)
    assert a.endpoint_error == 0


def test_likelihood_is_best_at_the_true_scale() -> None:
    torch.manual_seed(0)
    error = torch.distributions.Laplace(0.0, 2.0).sample((1, 2, 200, 200))
    mask = torch.ones(1, 200, 200, dtype=torch.bool)
    scales = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0])

    def loss(scale: torch.Tensor) -> float:
        rest = torch.stack([scale.log().expand(1, 200, 200), torch.zeros(1, 200, 200)], 1)
        prediction = torch.cat([error, rest], 1)
        return displacement_loss([prediction], torch.zeros_like(error), mask, mask).loss.item()

    assert min(scales, key=loss) == 2.0


def test_weights_survive_the_file(tmp_path: Path) -> None:
    network = tiny_network().eval()
    path = tmp_path / "network.safetensors"
    save_network(path, network, TINY, Calibration(1.5, 0.8), {"note": "test"})
    again, calibration = load_network(path)
    assert calibration == Calibration(1.5, 0.8)
    assert again.config == TINY
    render, image = network_inputs(torch.rand(2, 3, 64, 64), disc_modalities())
    with torch.no_grad():
        a, b = network(render, image)[-1], again(render, image)[-1]
    assert torch.allclose(a, b, atol=0.05)
    for (name, x), (_, y) in zip(
        network.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(x.half(), y.half()) or name.endswith("num_batches_tracked")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_network(path)
    with pytest.raises(WeightsError, match="no displacement weights"):
        load_network(tmp_path / "missing.safetensors")


def test_missing_weights_are_told_to_the_user(tmp_path: Path) -> None:
    with pytest.raises(DisplacementError, match="no displacement weights"):
        NetworkEstimator(torch.device("cpu"), tmp_path / "missing.safetensors")


def test_estimator_gives_calibrated_fields(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    network = tiny_network()
    images, modalities = torch.rand(2, 3, 64, 64), disc_modalities()
    save_network(path, network, TINY, Calibration())
    plain = NetworkEstimator(torch.device("cpu"), path).predict(images, modalities)
    save_network(path, network, TINY, Calibration(scale_factor=2.0))
    doubled = NetworkEstimator(torch.device("cpu"), path).predict(images, modalities)
    assert plain.displacement.shape == (2, 64, 64, 2)
    assert torch.allclose(doubled.scale, 2 * plain.scale)
    assert torch.equal(doubled.displacement, plain.displacement)
    assert (plain.scale > 0).all()
    assert ((plain.visibility >= 0) & (plain.visibility <= 1)).all()


def test_estimator_treats_each_crop_alone(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_network(path, tiny_network(), TINY, Calibration())
    estimator = NetworkEstimator(torch.device("cpu"), path)
    images, modalities = torch.rand(2, 3, 64, 64), disc_modalities()
    both = estimator.predict(images, modalities)
    fields = dataclasses.fields(modalities)
    second = Modalities(**{f.name: getattr(modalities, f.name)[1:] for f in fields})
    alone = estimator.predict(images[1:], second)
    assert torch.allclose(both.displacement[1:], alone.displacement, atol=1e-3)


def test_crops_of_odd_sides_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_network(path, tiny_network(), TINY, Calibration())
    estimator = NetworkEstimator(torch.device("cpu"), path)
    with pytest.raises(ValueError, match="multiples of 32"):
        estimator.predict(torch.rand(2, 3, 48, 48), disc_modalities(48))


@pytest.mark.parametrize("make", [tiny_network, lambda: make_network("unet")])
def test_fused_layers_say_the_same(make):
    torch.manual_seed(1)
    network = make().eval()
    for layer in network.modules():  # as if trained: statistics that change something
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2.0)
    fused = copy.deepcopy(network)
    fuse_layers(fused)
    kinds = {type(layer) for layer in fused.modules()}
    assert not kinds & {torch.nn.BatchNorm2d, torch.nn.ReLU, Residual}
    render, image = torch.randn(2, RENDER_CHANNELS, 64, 64), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = network(render, image)[-1], fused(render, image)[-1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
