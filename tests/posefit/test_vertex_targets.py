# SPDX-License-Identifier: Apache-2.0
"""Displacement fields to vertex targets, against a loop over pixels and by hand."""

import math

import pytest
import torch

from posefit.displacement import DisplacementField
from posefit.rasterizer import Fragments, accumulate
from posefit.rasterizer.warp_backend import accumulate_warp
from posefit.vertex_targets import (
    SCALE_FLOOR_PX,
    aggregate,
    confidence,
    select_points,
    surface_points,
)

FACES = torch.tensor([[0, 1, 2], [2, 1, 3], [3, 4, 5]])
VERTICES = 7


def random_view(batch=2, height=9, width=8, seed=0):
    """Random fragments over three faces, a third of the pixels empty, and a random field."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    face = torch.randint(-1, 2, (batch, height, width), generator=generator, dtype=torch.int32)
    bary = torch.nn.functional.normalize(uniform(batch, height, width, 3), p=1, dim=-1)
    empty = (face < 0)[..., None]
    fragments = Fragments(face, torch.where(empty, -1.0, bary), torch.where(face < 0, -1.0, 2.0))
    field = DisplacementField(
        displacement=10 * uniform(batch, height, width, 2) - 5,
        scale=3 * uniform(batch, height, width),
        visibility=uniform(batch, height, width),
    )
    return fragments, field


def one_pixel(displacement=(3.0, -1.0), scale=1.0, visibility=1.0, bary=(0.5, 0.3, 0.2)):
    """One image of one pixel that shows face 0."""
    fragments = Fragments(
        torch.zeros(1, 1, 1, dtype=torch.int32),
        torch.tensor(bary).view(1, 1, 1, 3),
        torch.ones(1, 1, 1),
    )
    field = DisplacementField(
        torch.tensor(displacement).view(1, 1, 1, 2),
        torch.full((1, 1, 1), scale),
        torch.full((1, 1, 1), visibility),
    )
    return fragments, field


def test_means_are_those_of_a_loop_over_pixels():
    fragments, field = random_view()
    targets = aggregate(fragments, FACES, VERTICES, field)
    certainty = confidence(field.scale, field.visibility)
    for image in range(2):
        sums = torch.zeros(VERTICES, 5, dtype=torch.float64)
        for row in range(9):
            for column in range(8):
                pixel = (image, row, column)
                if fragments.pix_to_face[pixel] < 0:
                    continue
                for corner in range(3):
                    vertex = FACES[fragments.pix_to_face[pixel], corner]
                    b, c = float(fragments.bary_coords[pixel][corner]), float(certainty[pixel])
                    values = (*field.displacement[pixel], field.scale[pixel], 1.0)
                    sums[vertex, :4] += b * c * torch.tensor([float(v) for v in values])
                    sums[vertex, 4] += b * float(field.visibility[pixel])
        mean = sums[:4, :3] / sums[:4, 3:4]
        torch.testing.assert_close(targets.displacement[image, :4], mean[:, :2].float())
        torch.testing.assert_close(targets.scale[image, :4], mean[:, 2].float())
        torch.testing.assert_close(targets.weight[image, :4], (1 - torch.exp(-sums[:4, 4])).float())


def test_unseen_vertices_have_no_weight_and_no_displacement():
    targets = aggregate(*random_view()[:1], FACES, VERTICES, random_view()[1])
    assert (targets.weight[:, 4:] == 0).all()
    assert (targets.displacement[:, 4:] == 0).all()
    assert (targets.weight[:, :4] > 0).all()


def test_one_pixel_is_one_pixel_of_evidence():
    fragments, field = one_pixel()
    targets = aggregate(fragments, FACES, VERTICES, field)
    torch.testing.assert_close(targets.displacement[0, :3], torch.tensor([[3.0, -1.0]] * 3))
    expected = 1 - torch.exp(-torch.tensor([0.5, 0.3, 0.2]))
    torch.testing.assert_close(targets.weight[0, :3], expected)
    assert float(targets.weight.sum()) < 1.0


def test_the_more_certain_pixel_decides():
    fragments, field = random_view(batch=1, height=1, width=2)
    fragments = Fragments(
        torch.zeros(1, 1, 2, dtype=torch.int32),
        torch.full((1, 1, 2, 3), 1 / 3),
        torch.ones(1, 1, 2),
    )
    field = DisplacementField(
        torch.tensor([[[[8.0, 0.0], [0.0, 0.0]]]]),
        torch.tensor([[[0.1, 10.0]]]),
        torch.ones(1, 1, 2),
    )
    targets = aggregate(fragments, FACES, VERTICES, field)
    assert (targets.displacement[0, :3, 0] > 7.5).all()
    assert (targets.scale[0, :3] < 0.3).all()


def test_invisible_and_broken_pixels_do_not_count():
    for changes in (
        {"visibility": 0.0},
        {"visibility": math.nan},
        {"scale": math.nan},
        {"scale": math.inf},
        {"displacement": (math.nan, 0.0)},
        {"displacement": (math.inf, 0.0)},
    ):
        targets = aggregate(*one_pixel(**changes)[:1], FACES, VERTICES, one_pixel(**changes)[1])
        assert (targets.weight == 0).all()
        assert targets.displacement.isfinite().all()
        assert targets.scale.isfinite().all()


def test_confidence_falls_with_scale_and_rises_with_visibility():
    scale = torch.linspace(0, 10, 20)
    falling = confidence(scale, torch.ones(20))
    assert (falling.diff() < 0).all()
    assert float(falling[0]) == pytest.approx(1.0)
    at_floor = confidence(torch.tensor([SCALE_FLOOR_PX]), torch.tensor([0.5]))
    assert float(at_floor) == pytest.approx(0.25)


def test_many_pixels_keep_their_mean_in_float32():
    count = 400 * 400
    fragments = Fragments(
        torch.zeros(1, 400, 400, dtype=torch.int32),
        torch.full((1, 400, 400, 3), 1 / 3),
        torch.ones(1, 400, 400),
    )
    generator = torch.Generator().manual_seed(0)
    displacement = 100 + torch.randn(1, 400, 400, 2, generator=generator)
    field = DisplacementField(displacement, torch.ones(1, 400, 400), torch.ones(1, 400, 400))
    targets = aggregate(fragments, FACES, VERTICES, field)
    expected = displacement.double().sum((1, 2)) / count
    torch.testing.assert_close(targets.displacement[0, 0].double(), expected[0], atol=2e-3, rtol=0)


def test_points_are_drawn_in_proportion_to_their_weight():
    weight = torch.tensor([[0.0, 1.0, 0.0, 3.0, 0.5, 0.5]])
    indices, share = select_points(weight, 1000)
    counts = torch.bincount(indices[0], minlength=6)
    assert counts.tolist() == [0, 200, 0, 600, 100, 100]
    assert float(share.sum()) == pytest.approx(5.0)


def test_a_frame_without_weight_gives_points_without_weight():
    indices, share = select_points(torch.zeros(2, 6), 10)
    assert (share == 0).all()
    assert ((indices >= 0) & (indices < 6)).all()


def test_surface_points_sit_where_the_vertex_should_go():
    fragments, field = random_view()
    targets = aggregate(fragments, FACES, VERTICES, field)
    projected = torch.rand(2, VERTICES, 2) * 100
    points = surface_points(
        targets,
        projected,
        torch.eye(3).expand(2, 3, 3),
        torch.eye(4).expand(2, 4, 4),
        max_points=64,
    )
    expected = projected + targets.displacement
    rows = torch.arange(2)[:, None]
    torch.testing.assert_close(points.targets, expected[rows, points.vertex_indices])
    torch.testing.assert_close(points.scales, targets.scale[rows, points.vertex_indices])
    assert (targets.weight[rows, points.vertex_indices] > 0).all()


def test_a_kernel_and_torch_give_the_same_sums():
    """The kernel is a GPU's; Warp runs it here on the CPU."""
    fragments, field = random_view()
    values = torch.cat([field.displacement, field.scale[..., None]], -1)
    counts = field.visibility > 0.3
    own = accumulate_warp(fragments, FACES, VERTICES, values, counts)
    torch.testing.assert_close(accumulate(fragments, FACES, VERTICES, values, counts), own)
