# SPDX-License-Identifier: Apache-2.0
"""Classical displacement, on pictures whose true displacement is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from posefit.displacement import load_estimator
from posefit.displacement.flow import FlowEstimator
from posefit.modalities import Modalities

SIZE = 128


def pattern(rng) -> torch.Tensor:
    picture = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    for cell in (4, 8, 16):
        coarse = rng.random((SIZE // cell, SIZE // cell, 3)).astype(np.float32)
        picture += 0.4 * (cv2.resize(coarse, (SIZE, SIZE), interpolation=2) - 0.5)
    return torch.from_numpy(np.clip(picture, 0, 1)).permute(2, 0, 1)[None]


def body_at(picture: torch.Tensor, x: int, y: int, side: int = 60) -> Modalities:
    """A square body cut out of a picture, at a place."""
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., y : y + side, x : x + side] = 1.0
    empty = torch.zeros(1, 3, SIZE, SIZE)
    return Modalities(
        rgb=picture * mask,
        texture_valid=mask,
        depth=2 * mask,
        normals=empty,
        vertex_colors=empty,
        mask=mask,
    )


@pytest.mark.parametrize(("dx", "dy"), [(5, 0), (-4, 3), (0, -7)])
def test_flow_points_from_the_rendering_to_the_picture(rng, dx, dy):
    surface = pattern(rng)
    image = torch.roll(surface, (dy, dx), dims=(2, 3))  # the person is further right and down
    field = FlowEstimator().predict(image, body_at(surface, 35, 30))
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[40:80, 45:85] = True
    error = (field.displacement[0][inside] - torch.tensor([float(dx), float(dy)])).norm(dim=-1)
    assert error.median() < 0.3
    assert field.visibility[0][inside].median() > 0.5
    assert field.scale[0][inside].median() < 3.0


def test_where_something_hides_the_body_it_is_not_visible_and_less_certain(rng):
    surface = pattern(rng)
    image = torch.roll(surface, (2, 3), dims=(2, 3))
    image[..., 50:90, 60:90] = torch.rand(1, 3, 1, 1)
    field = FlowEstimator().predict(image, body_at(surface, 35, 30))
    hidden, seen = field.visibility[0][58:80, 65:85], field.visibility[0][35:80, 38:55]
    assert hidden.median() < 0.3 * seen.median()
    assert field.scale[0][58:80, 65:85].median() > 2 * field.scale[0][35:80, 38:55].median()


def test_plain_surface_and_unknown_texture_claim_nothing(rng):
    surface = pattern(rng)
    plain = torch.full_like(surface, 0.6)
    field = FlowEstimator().predict(plain, body_at(plain, 35, 30))
    assert field.visibility[0, 40:80, 45:85].max() < 0.05
    modalities = body_at(surface, 35, 30)
    unknown = Modalities(**{**vars(modalities), "texture_valid": torch.zeros(1, 1, SIZE, SIZE)})
    field = FlowEstimator().predict(surface, unknown)
    assert (field.visibility == 0).all()
    assert (field.displacement == 0).all()
    assert (field.scale > 10).all()


def test_a_batch_is_its_frames_one_by_one_and_may_be_empty(rng):
    surface = pattern(rng)
    image = torch.roll(surface, (1, 4), dims=(2, 3))
    one = body_at(surface, 35, 30)
    two = Modalities(**{name: torch.cat([value, value]) for name, value in vars(one).items()})
    none = Modalities(**{name: value[:0] for name, value in vars(one).items()})
    estimator = load_estimator("flow")
    assert estimator.name == "flow"
    alone = estimator.predict(image, one)
    both = estimator.predict(torch.cat([image, image]), two)
    assert torch.equal(both.displacement[1], alone.displacement[0])
    assert estimator.predict(image[:0], none).displacement.shape == (0, SIZE, SIZE, 2)
