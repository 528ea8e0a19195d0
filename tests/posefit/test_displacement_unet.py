# SPDX-License-Identifier: Apache-2.0
"""The U-Net, its weight files, its exported graph, and which network an estimator takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from posefit.displacement import DisplacementError, load_estimator, weights
from posefit.displacement.inference import NetworkEstimator
from posefit.displacement.inputs import MODALITY_CHANNELS, network_inputs
from posefit.displacement.kinds import make_network
from posefit.displacement.losses import displacement_loss
from posefit.displacement.network import SMALL_NETWORK, CorrespondenceNetwork
from posefit.displacement.runtime import GraphNetwork, graph_of, open_graph
from posefit.displacement.unet import UNet, UNetConfig, local_correlation
from posefit.displacement.weights import (
    Calibration,
    WeightsError,
    load_network,
    save_network,
    shipped_weights,
)
from posefit.modalities import Modalities

from .test_displacement_network import TINY, disc_modalities, tiny_network

TINY_UNET = UNetConfig(
    channels=(16, 16, 32),
    appearance_channels=8,
    coarse_radius=2,
    fine_radius=1,
    photometric_channels=8,
    global_blocks=1,
)
SIDE = 64
TOLERANCE_PX = 1e-3


def lively_unet() -> UNet:
    """A tiny U-Net none of whose parts is silent, as a trained one's aren't."""
    torch.manual_seed(4)
    network = UNet(TINY_UNET)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            elif name.endswith("running_mean") or (value.is_floating_point() and not value.any()):
                value.normal_(0.0, 0.1)
        network.coarse_head.weight *= 5.0
    return network.eval()


def inputs(batch: int = 2) -> tuple[Tensor, Tensor]:
    return network_inputs(torch.rand(batch, 3, SIDE, SIDE), disc_modalities(SIDE, batch))


@pytest.fixture
def weight_file(tmp_path: Path) -> Path:
    path = tmp_path / "cpu.safetensors"
    save_network(path, lively_unet(), TINY_UNET, Calibration(1.5, 0.8))
    return path


def exported(weight_file: Path, *, batch: int = 1) -> Path:
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    from posefit.displacement.export import export_graph

    return export_graph(weight_file, batch=batch, side=SIDE)


@pytest.mark.parametrize("radius", [1, 3])
def test_local_correlation_is_the_inner_product_with_each_neighbour(radius: int) -> None:
    torch.manual_seed(0)
    queries, picture = torch.randn(2, 2, 5, 6, 7, dtype=torch.float64)
    around = functional.pad(picture, (radius,) * 4)
    expected = [
        (queries * around[:, :, y : y + 6, x : x + 7]).sum(1) / 5**0.5
        for y in range(2 * radius + 1)
        for x in range(2 * radius + 1)
    ]
    found = local_correlation(queries, picture, radius)
    assert torch.allclose(found, torch.stack(expected, dim=1), atol=1e-12)


def test_predictions_are_coarse_then_full_size_and_train() -> None:
    render, image = inputs()
    coarse, fine = UNet(TINY_UNET)(render, image)
    assert coarse.shape == (2, 4, SIDE // 8, SIDE // 8)
    assert fine.shape == (2, 4, SIDE, SIDE)
    truth, mask = torch.ones(2, 2, SIDE, SIDE), render[:, 4] > 0
    network = lively_unet().train()
    displacement_loss(network(render, image), truth, mask, mask).loss.backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_texture_changes_what_the_unet_says() -> None:
    network = lively_unet()
    render, image = inputs()
    other = render.clone()
    other[:, MODALITY_CHANNELS["texture"]][:, :3] *= -1.0
    with torch.no_grad():
        assert not torch.allclose(network(render, image)[-1], network(other, image)[-1], atol=1e-3)


@pytest.mark.slow
def test_the_unet_learns_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    network = UNet(TINY_UNET)
    modalities = disc_modalities(SIDE)
    images = torch.roll(modalities.rgb, (-2, 3), (2, 3)).clamp(0, 1)
    render, image = network_inputs(images, modalities)
    mask = modalities.mask[:, 0] > 0
    truth = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(2, 2, SIDE, SIDE) * mask[:, None]
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    errors = []
    for _ in range(30):
        report = displacement_loss(network(render, image), truth, mask, mask)
        optimizer.zero_grad()
        report.loss.backward()
        optimizer.step()
        errors.append(report.endpoint_error.item())
    assert errors[-1] < 0.3 * errors[0]


def test_weight_files_say_which_network_they_hold(weight_file: Path, tmp_path: Path) -> None:
    network, calibration = load_network(weight_file)
    assert isinstance(network, UNet)
    assert network.config == TINY_UNET
    assert calibration == Calibration(1.5, 0.8)
    other = tmp_path / "large.safetensors"
    save_network(other, tiny_network(), TINY, Calibration())
    assert isinstance(load_network(other)[0], CorrespondenceNetwork)


def rewrite(path: Path, **changes: str | None) -> None:
    """The weight file with another header; None takes an entry out."""
    with safe_open(path, framework="pt") as data:
        header = {**data.metadata(), **changes}
    save_file(load_file(path), path, {k: v for k, v in header.items() if v is not None})


def test_files_from_before_there_were_kinds_hold_the_correspondence_network(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_network(path, tiny_network(), TINY, Calibration())
    rewrite(path, kind=None)
    network, _ = load_network(path)
    assert isinstance(network, CorrespondenceNetwork)
    assert network.config == TINY


@pytest.mark.parametrize(
    "changes", [{"kind": "transformer"}, {"config": json.dumps({"number_of_heads": 3})}]
)
def test_networks_of_a_later_version_are_refused(weight_file: Path, changes: dict) -> None:
    rewrite(weight_file, **changes)
    with pytest.raises(WeightsError, match="it needs another posefit"):
        load_network(weight_file)


def test_training_makes_the_network_that_was_named() -> None:
    assert make_network("small").config == SMALL_NETWORK
    assert isinstance(make_network("unet"), UNet)


def test_the_graph_computes_what_torch_does(weight_file: Path) -> None:
    graph = GraphNetwork(exported(weight_file))
    network, _ = load_network(weight_file)
    render, image = inputs(batch=3)
    with torch.no_grad():
        expected = network(render, image)[-1]
    assert expected[:, :2].std() > 0.1
    assert torch.allclose(graph(render, image), expected, atol=TOLERANCE_PX)


def test_the_graph_has_no_weights_of_its_own(weight_file: Path) -> None:
    graph = exported(weight_file)
    biggest = max(value.numel() for value in load_network(weight_file)[0].parameters())
    data = weight_file.read_bytes()
    weight_file.write_bytes(data[: -2 * biggest])
    with pytest.raises(RuntimeError):
        GraphNetwork(graph)


def test_a_graph_of_other_weights_is_left_alone(
    weight_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exported(weight_file)
    assert open_graph(weight_file) is not None
    with torch.no_grad():
        network = lively_unet()
        network.coarse_head.weight += 1.0
    save_network(weight_file, network, TINY_UNET, Calibration())
    assert open_graph(weight_file) is None
    assert "other weights" in caplog.text


def test_weights_without_a_graph_run_in_torch(weight_file: Path) -> None:
    assert not graph_of(weight_file).is_file()
    assert open_graph(weight_file) is None


def test_only_the_unet_has_a_graph(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from posefit.displacement.export import export_graph

    path = tmp_path / "network.safetensors"
    save_network(path, tiny_network(), TINY, Calibration())
    with pytest.raises(WeightsError, match="expected a U-Net"):
        export_graph(path)


def test_estimates_are_the_same_through_the_graph(weight_file: Path) -> None:
    cpu, images, modalities = torch.device("cpu"), torch.rand(3, 3, SIDE, SIDE), disc_modalities()
    fields = dataclasses.fields(modalities)
    one = torch.tensor([0, 1, 1])
    modalities = Modalities(**{f.name: getattr(modalities, f.name)[one] for f in fields})
    plain = NetworkEstimator(cpu, weight_file).predict(images, modalities)
    exported(weight_file)
    estimator = NetworkEstimator(cpu, weight_file)
    assert estimator._graph is not None
    fast = estimator.predict(images, modalities)
    for field in dataclasses.fields(plain):
        a, b = getattr(plain, field.name), getattr(fast, field.name)
        assert torch.allclose(a, b, atol=TOLERANCE_PX), field.name


def test_crops_of_another_size_than_the_graphs_run_in_torch(weight_file: Path) -> None:
    exported(weight_file)
    estimator = NetworkEstimator(torch.device("cpu"), weight_file)
    found = estimator.predict(torch.rand(2, 3, 96, 96), disc_modalities(96))
    assert found.displacement.shape == (2, 96, 96, 2)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *forms: str) -> None:
    """Pretends that posefit ships tiny weights of these forms."""
    for form in forms:
        network, sizes = (lively_unet(), TINY_UNET) if form == "fast" else (tiny_network(), TINY)
        save_network(folder / f"{form}.safetensors", network, sizes, Calibration())
    monkeypatch.setattr(
        weights,
        "_SHIPPED",
        {form: str(folder / f"{form}.safetensors") for form in ("large", "fast")},
    )


@pytest.mark.parametrize(
    ("installed", "name", "expected"),
    [
        (("large", "fast"), "net", CorrespondenceNetwork),
        (("large", "fast"), "auto", CorrespondenceNetwork),
        (("large", "fast"), "net-large", CorrespondenceNetwork),
        (("large", "fast"), "net-fast", UNet),
        (("large",), "net", CorrespondenceNetwork),
        (("fast",), "auto", UNet),
    ],
)
def test_the_large_network_is_taken_unless_asked_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed, name: str, expected: type
) -> None:
    install(tmp_path, monkeypatch, *installed)
    estimator = load_estimator(name, "cpu")
    assert isinstance(estimator, NetworkEstimator)
    assert isinstance(estimator._network, expected)


def test_without_weights_auto_is_flow_and_net_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    assert load_estimator("auto").name == "flow"
    for name in ("net", "net-fast", "net-large"):
        with pytest.raises(DisplacementError, match="no displacement weights"):
            load_estimator(name)


def test_weights_for_cpus_ship_with_their_own_graph() -> None:
    path = shipped_weights("fast")
    assert path.is_file() == graph_of(path).is_file()
    if not path.is_file():
        return
    graph = open_graph(path)
    assert graph is not None
    network, _ = load_network(path)
    render, image = network_inputs(torch.rand(1, 3, 256, 256), disc_modalities(256, 1))
    with torch.no_grad():
        assert torch.allclose(graph(render, image), network(render, image)[-1], atol=TOLERANCE_PX)
