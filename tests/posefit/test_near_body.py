# SPDX-License-Identifier: Apache-2.0
"""The large network on a CPU: near the body alone, and in bfloat16, beside all of it in float32."""

from __future__ import annotations

import pytest
import synthetic_clip as made
import torch

from posefit.displacement.inference import NetworkEstimator, fast_precision
from posefit.displacement.inputs import MODALITY_CHANNELS, RENDER_CHANNELS, network_inputs
from posefit.displacement.kinds import make_network
from posefit.displacement.layers import STRIDE
from posefit.displacement.near_body import MARGIN, NOTHING, body_window, predict_near_body
from posefit.displacement.network import (
    SMALL_NETWORK,
    CorrespondenceNetwork,
    cells_of_mask,
)
from posefit.displacement.photometric import PhotometricEvidence
from posefit.displacement.weights import load_network, shipped_weights
from posefit.modalities import Modalities
from posefit.pipeline import Clip, refine
from posefit_shared.settings import RefineSettings


def two_bodies() -> torch.Tensor:
    """Cells of a tall body at the right edge and of a small one in the middle."""
    mask = torch.zeros(2, 40, 40, dtype=torch.bool)
    mask[0, 8:34, 36:40] = True
    mask[1, 18:22, 17:23] = True
    return mask


@pytest.fixture
def look(free_body, monkeypatch) -> tuple[torch.Tensor, Modalities]:
    """Crops and renderings of a made-up clip's first look."""
    seen = []

    def predict(self, images, modalities):
        seen.append((images, modalities))
        return plain(self, images, modalities)

    plain = made.ColorMatcher.predict
    monkeypatch.setattr(made.ColorMatcher, "predict", predict)
    start, view = made.filmed_clip(free_body, 0, 2)
    settings = RefineSettings(crop_size=256, rounds=1, solver_iterations=1)
    refine(Clip(start, [view]), body=free_body, estimator=made.ColorMatcher(), settings=settings)
    return seen[0]


def on_the_body(field, modalities: Modalities, name: str) -> torch.Tensor:
    return getattr(field, name)[modalities.mask[:, 0] > 0]


def test_windows_of_one_size_hold_each_body_and_what_is_around_it() -> None:
    mask = two_bodies()
    window = body_window(mask, 3)
    assert window.size == (32, 12)  # 26 and 6 cells, 3 on both sides, rounded up
    assert window.corners == ((5, 28), (4, 14))
    assert (window.cut_mask(mask).flatten(1).sum(1) == mask.flatten(1).sum(1)).all()


def test_without_a_body_the_middle_is_looked_at() -> None:
    window = body_window(torch.zeros(1, 40, 40, dtype=torch.bool), 3)
    assert window.size == (8, 8)
    assert window.corners == ((16, 16),)


def test_what_is_cut_out_goes_back_to_its_place() -> None:
    window, values = body_window(two_bodies(), 3), torch.randn(2, 3, 80, 80)
    pasted = window.paste(window.cut(values, 2), (7.0, 8.0, 9.0), 2)
    untouched = torch.tensor([7.0, 8.0, 9.0])[:, None, None].expand(3, 80, 80)
    inside = torch.zeros(2, 1, 80, 80, dtype=torch.bool)
    for k, (row, column) in enumerate(window.corners):
        inside[k, :, 2 * row : 2 * row + 64, 2 * column : 2 * column + 24] = True
    assert torch.equal(pasted, torch.where(inside, values, untouched))


def test_a_window_as_large_as_the_crop_is_the_crop() -> None:
    window, values = body_window(two_bodies(), 40), torch.randn(2, 3, 40, 40)
    assert window.cut(values) is values
    assert window.paste(values, (0.0, 0.0, 0.0)) is values


def test_evidence_of_a_window_is_that_of_the_crop() -> None:
    """Where its flow points is counted from the crop's corner, also out of the window."""
    torch.manual_seed(0)
    evidence = PhotometricEvidence(4, 3, STRIDE)
    torch.nn.init.normal_(evidence.last.weight)
    window = body_window(two_bodies(), 3)
    image, texture = torch.randn(2, 3, 160, 160), torch.randn(2, 4, 160, 160)
    flow = 6 * torch.randn(2, 2, 40, 40)
    expected = window.cut(evidence(image, texture, flow))
    moved = window.cut(flow) + window.corner(image)[:, :, None, None]
    found = evidence(image, window.cut(texture, STRIDE), moved)
    # At the window's edge the layers lack their neighbours.
    inner = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(found[inner], expected[inner], rtol=1e-4, atol=1e-4)


def test_features_of_a_bodys_cells_need_no_more_than_the_margin() -> None:
    torch.manual_seed(0)
    network = CorrespondenceNetwork(SMALL_NETWORK).eval()
    render = torch.randn(2, RENDER_CHANNELS, 160, 160)
    mask = two_bodies()
    window = body_window(mask, MARGIN)
    with torch.no_grad():
        expected = window.cut(network.render_encoder(render))
        found = network.render_encoder(window.cut(render, STRIDE))
    shown = window.cut_mask(mask)[:, None].expand_as(found)
    torch.testing.assert_close(found[shown], expected[shown], rtol=1e-4, atol=1e-4)


def test_on_the_body_the_network_says_what_it_says_of_the_whole_crop(look) -> None:
    images, modalities = look
    network, _ = load_network(shipped_weights("large"))
    assert isinstance(network, CorrespondenceNetwork)
    render, image = network_inputs(images, modalities)
    mask = render[:, MODALITY_CHANNELS["mask"]]
    window = body_window(cells_of_mask(mask), MARGIN)
    assert window.size[1] < 64
    with torch.no_grad():
        whole, near = network(render, image)[-1], predict_near_body(network, render, image)
    shown = mask[:, 0] > 0.5
    off = (near - whole)[:, :2].norm(dim=1)[shown]
    assert off.mean() < 0.01
    assert off.quantile(0.99) < 0.05
    assert (near - whole)[:, 2].abs()[shown].mean() < 0.01
    nothing = torch.tensor(NOTHING)[None, :, None, None].expand_as(near)
    assert torch.equal(window.paste(window.cut(near, STRIDE), NOTHING, STRIDE), near)
    assert (near == nothing).all(1).sum() > 2 * 256 * 32


def test_bfloat16_says_what_float32_says(look) -> None:
    """Also on CPUs that have to emulate it; to a small part of what the network is sure of."""
    images, modalities = look
    exact, reduced = (
        NetworkEstimator(torch.device("cpu"), shipped_weights("large"), precision=precision)
        for precision in (torch.float32, torch.bfloat16)
    )
    expected, found = (one.predict(images, modalities) for one in (exact, reduced))
    off = on_the_body(found, modalities, "displacement") - on_the_body(
        expected, modalities, "displacement"
    )
    scale = on_the_body(expected, modalities, "scale")
    assert not torch.equal(found.displacement, expected.displacement)
    assert (off.norm(dim=1) / scale).mean() < 0.05
    ratio = on_the_body(found, modalities, "scale") / scale
    assert (ratio.log().abs()).mean() < 0.02


def test_crops_do_not_depend_on_how_many_are_predicted_at_once(look, monkeypatch) -> None:
    images, modalities = look
    estimator = NetworkEstimator(torch.device("cpu"), shipped_weights("large"))
    together = estimator.predict(images, modalities)
    monkeypatch.setattr("posefit.displacement.inference._CPU_CROPS", 1)
    alone = estimator.predict(images, modalities)
    off = on_the_body(together, modalities, "displacement") - on_the_body(
        alone, modalities, "displacement"
    )
    assert off.norm(dim=1).mean() < 0.05


def test_bfloat16_is_for_devices_that_compute_it(monkeypatch) -> None:
    large, fast = make_network("small"), make_network("unet")
    # an older processor, or ONEDNN_MAX_CPU_ISA, would say no whatever torch says of the first
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    for is_native in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda n=is_native: n)
        with_mkldnn = is_native and torch.backends.mkldnn.is_available()
        expected = torch.bfloat16 if with_mkldnn else torch.float32
        assert fast_precision(torch.device("cpu"), large) == expected
        assert fast_precision(torch.device("cpu"), fast) == torch.float32
        assert fast_precision(torch.device("cuda"), large) == torch.bfloat16
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert fast_precision(torch.device("cpu"), large) == torch.float32
