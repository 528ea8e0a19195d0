# SPDX-License-Identifier: Apache-2.0
"""The kernels that a GPU runs, run on a CPU: they compute what torch's operations do."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from posefit.displacement.correlation import (
    CorrelationPyramid,
    body_cells,
    gather_cells,
    scatter_cells,
)
from posefit.displacement.fused import fuse_layers
from posefit.displacement.layers import convex_upsample
from posefit.displacement.network import (
    SMALL_NETWORK,
    CorrespondenceNetwork,
    NetworkConfig,
)
from posefit.displacement.photometric import carry_back
from posefit.gpu import rotations
from posefit.gpu.choice import takes_kernels
from posefit.gpu.copies import Packed, copy_all
from posefit.gpu.matching import carried_cells, upsampled, windows_of_body
from posefit.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posefit.solver.kinematics import bind_points, pose_points
from posefit.solver.rotation_vectors import inverse_left_jacobian
from posefit.solver.self_contact import body_capsules, self_penetration_term
from posefit.solver.skeleton import SkeletonModel, State, pose_skeleton
from posefit.solver.terms import pixel_term

BATCH, ROWS, COLUMNS = 2, 12, 16


@pytest.fixture(autouse=True)
def _no_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def some_rotations():
    small = [torch.randn(200, 3) * scale for scale in (1e-9, 1e-4, 1e-2, 0.1, 0.14, 1.0)]
    axes = functional.normalize(torch.randn(100, 3), dim=1)
    return torch.cat([*small, axes * (torch.pi - 1e-4), axes * torch.pi, torch.zeros(1, 3)])


def test_rotations_are_those_of_torch():
    vectors = some_rotations()
    exact = axis_angle_to_matrix(vectors.double())
    matrices = rotations.vectors_to_matrices(vectors)
    torch.testing.assert_close(matrices.double(), exact, atol=2e-6, rtol=0)
    # Half a turn has two vectors: what they turn to is compared.
    again = axis_angle_to_matrix(rotations.matrices_to_vectors(exact.float()).double())
    torch.testing.assert_close(again, exact, atol=2e-6, rtol=0)
    ours = rotations.matrices_to_vectors(exact.float()[:1200])
    torch.testing.assert_close(ours, matrix_to_axis_angle(exact.float()[:1200]), atol=2e-6, rtol=0)


def test_the_left_jacobians_inverse_is_that_of_torch():
    vectors = some_rotations()
    exact = inverse_left_jacobian(vectors.double())
    found = rotations.inverse_left_jacobians(vectors)
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=0)


def test_batches_of_any_shape_keep_it():
    assert rotations.vectors_to_matrices(torch.zeros(2, 3, 4, 3)).shape == (2, 3, 4, 3, 3)
    assert rotations.matrices_to_vectors(torch.eye(3).expand(5, 3, 3)).shape == (5, 3)
    assert rotations.vectors_to_matrices(torch.zeros(0, 3)).shape == (0, 3, 3)


def test_a_cpu_and_whoever_wants_gradients_get_torch():
    assert not takes_kernels(torch.zeros(3))
    assert not takes_kernels(torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
def test_windows_are_those_that_pyramids_read(dtype, tolerance):
    mask = torch.rand(BATCH, ROWS, COLUMNS) > 0.3
    cells = body_cells(mask, 150)  # more than some samples have, fewer than others
    queries = torch.randn(BATCH, 150, 24).to(dtype)
    pyramids = [
        CorrelationPyramid(queries, torch.randn(BATCH, 24, ROWS, COLUMNS).to(dtype), levels, 3)
        for levels in (3, 2)
    ]
    flow = torch.randn(BATCH, 2, ROWS, COLUMNS) * 6
    flow[0, :, 0] = 1e9  # far outside
    grid = torch.stack([cells % COLUMNS, cells // COLUMNS], 2).float()
    centers = grid + gather_cells(flow, cells)
    taps = torch.cat([pyramid.at(centers) for pyramid in pyramids], 2)
    taps = taps * mask.flatten(1).gather(1, cells)[..., None]
    expected = scatter_cells(taps, cells, (ROWS, COLUMNS))
    levels = [pyramid.levels for pyramid in pyramids]
    found = windows_of_body(levels, cells, mask, flow, 3, 248)
    torch.testing.assert_close(found[:, :245].float(), expected.float(), atol=tolerance, rtol=0)
    assert not found[:, 245:].any()
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_carried_cells_are_the_pixels_that_torch_carries():
    image = torch.randn(BATCH, 3, 4 * ROWS, 4 * COLUMNS).contiguous(
        memory_format=torch.channels_last
    )
    texture = torch.randn(BATCH, 12, 4 * ROWS, 4 * COLUMNS)[:, :4]
    flow = torch.randn(BATCH, 2, ROWS, COLUMNS) * 3
    fine = functional.interpolate(flow * 4, scale_factor=4.0, mode="bilinear")
    known, carried = texture[:, 3:], carry_back(image, fine)
    pixels = torch.cat([carried * known, (carried - texture[:, :3]) * known, known], 1)
    expected = functional.pixel_unshuffle(pixels, 4)
    found = carried_cells(image, texture, flow, 4, torch.float32)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def test_upsampling_is_the_convex_one():
    values, weights = torch.randn(BATCH, 4, ROWS, COLUMNS), torch.randn(BATCH, 144, ROWS, COLUMNS)
    expected = convex_upsample(values, weights * 0.25)
    found = upsampled(values, weights.contiguous(memory_format=torch.channels_last), 4, 0.25)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [SMALL_NETWORK, NetworkConfig(global_blocks=1, updates=2)])
def test_a_network_as_a_gpu_runs_it_is_the_network(config, monkeypatch):
    """Fused, with aligned channels and by the kernels."""
    network = CorrespondenceNetwork(config).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0.0, 0.1)
            layer.running_var.uniform_(0.5, 2.0)
    for layer in (network.update.photometric.last, network.update.gates, network.update.candidate):
        torch.nn.init.normal_(layer.weight, std=0.02)
        torch.nn.init.normal_(layer.bias, std=0.1)
    render, image = torch.rand(BATCH, 12, 64, 96), torch.rand(BATCH, 3, 64, 96)
    render[:, 4] = 0.0
    render[:, 4, 8:60, 20:70] = 1.0
    expected = network(render, image)[-1]
    fuse_layers(network, align=True)
    torch.testing.assert_close(network(render, image)[-1], expected, atol=1e-3, rtol=1e-4)
    for module in ("network", "photometric"):
        monkeypatch.setattr(f"posefit.displacement.{module}.takes_kernels", lambda values: True)
    torch.testing.assert_close(network(render, image)[-1], expected, atol=1e-3, rtol=1e-4)


def test_packed_copies_are_copies_in_order():
    tensors = [
        torch.randn(3, 5), torch.arange(4), torch.randn(4, 6).t(), torch.tensor(True),
        torch.randn(0, 3), torch.randn(1 << 19), torch.tensor(2.5), torch.randn(7),
    ]  # fmt: skip
    packed = Packed(tensors)
    first = list(packed.copies())
    kept = [one.clone() for one in tensors]
    for one in tensors:
        one.zero_()
    for copy, before, one in zip(first, kept, tensors, strict=True):
        torch.testing.assert_close(copy, before, rtol=0, atol=0)
        assert copy.dtype == one.dtype
    assert not any(bool(copy.any()) for copy in packed.copies())


def test_many_are_copied_whatever_their_strides_and_types():
    sources = [torch.randn(3, 5), torch.randn(5, 3).t(), torch.arange(15).view(3, 5), torch.ones(0)]
    sources.append(torch.randn(1, 5).expand(3, 5))
    targets = [torch.zeros(one.shape, dtype=one.dtype) for one in sources]
    copy_all(targets, sources)
    for target, source in zip(targets, sources, strict=True):
        torch.testing.assert_close(target, source, rtol=0, atol=0)


def posed_points(free_body, betas):
    model = SkeletonModel.from_body(free_body, 10, torch.float32)
    state = State(
        axis_angle_to_matrix(torch.randn(BATCH, 24, 3) * 0.4),
        torch.randn(BATCH, 3) * 0.2 + torch.tensor([0.0, 0.0, 3.0]),
        torch.randn(BATCH, 10) * 0.5,
    )
    skeleton = pose_skeleton(model, state, with_shape=betas)
    chosen = torch.randint(0, free_body.num_vertices, (BATCH, 60))
    return skeleton, pose_points(bind_points(free_body, model, chosen), skeleton)


@pytest.mark.parametrize("betas", [False, True])
def test_pixel_rows_are_those_of_torch(free_body, betas, monkeypatch):
    _, points = posed_points(free_body, betas)
    points.positions[0, 2, :5] = -1.0  # behind the camera
    intrinsics = torch.tensor([[300.0, 0, 128], [0, 300, 128], [0, 0, 1]])
    projection = torch.cat([intrinsics, torch.tensor([[1.0], [2.0], [0.5]])], 1)[None]
    projection = projection.expand(BATCH, 3, 4)
    targets = torch.rand(BATCH, 2, 60) * 256
    targets[1, 0, 7] = torch.nan
    given = (
        points, projection, targets, torch.rand(BATCH, 60), torch.rand(BATCH, 60) * 20 + 1, 0.1,
    )  # fmt: skip
    expected = pixel_term(*given)
    monkeypatch.setattr("posefit.solver.terms.takes_kernels", lambda values: True)
    found = pixel_term(*given)
    for name in ("residual", "jacobian", "cost"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-4)


@pytest.mark.parametrize("betas", [False, True])
def test_contact_rows_are_those_of_torch(free_body, betas, monkeypatch):
    skeleton, _ = posed_points(free_body, betas)
    capsules = body_capsules(free_body)
    thick = dataclasses.replace(capsules, radii=capsules.radii + 0.2)  # many overlap
    allowed = torch.rand(BATCH, len(capsules.pairs)) * 0.02
    expected = self_penetration_term(skeleton, thick, allowed, 50.0)
    assert (expected.residual > 0).sum() > 10
    monkeypatch.setattr("posefit.solver.self_contact.takes_kernels", lambda values: True)
    found = self_penetration_term(skeleton, thick, allowed, 50.0)
    for name in ("residual", "jacobian", "cost"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
