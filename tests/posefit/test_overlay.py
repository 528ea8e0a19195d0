# SPDX-License-Identifier: Apache-2.0
"""Overlays: the body lies where the camera sees it, and the rest of the frame is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posefit.overlay import render_overlay, shade
from posefit_shared.frames import Camera, project

SIZE = (200, 160)


def standing(body, x: float = 0.0, y: float = 0.0) -> torch.Tensor:
    """(1, V, 3) the body upright in a z-up world."""
    v = body.v_template - body.v_template.mean(0)
    return torch.stack([v[:, 0] + x, -v[:, 2] + y, v[:, 1]], -1)[None]


def camera(distortion=(0.0, 0, 0, 0, 0), distance: float = 3.0) -> Camera:
    intrinsics = np.array([[180.0, 0, 100], [0, 180, 80], [0, 0, 1]])
    look_along_y = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, distance], [0, 0, 0, 1]])
    return Camera(intrinsics, look_along_y, SIZE, np.array(distortion))


def grey_frame() -> np.ndarray:
    return np.full((SIZE[1], SIZE[0], 3), 100, np.uint8)


@pytest.mark.parametrize("distortion", [(0.0, 0, 0, 0, 0), (-0.3, 0.1, 0.01, -0.01, 0)])
def test_the_overlay_covers_the_vertices_as_the_camera_sees_them(free_body, distortion):
    view = camera(distortion)
    vertices = standing(free_body, x=0.5)
    drawn = render_overlay(
        grey_frame(), vertices, view, free_body, color=(1.0, 0.0, 0.0), alpha=1.0
    )
    changed = (drawn.astype(int) - 100).any(-1)
    pixels, _ = project(view, vertices[0].numpy())
    inside = ((pixels >= 0) & (pixels < SIZE)).all(-1)
    columns, rows = pixels[inside].astype(int).T
    assert changed[rows, columns].mean() > 0.96  # outline vertices share pixels with the ground
    y, x = np.nonzero(changed)
    assert x.min() >= pixels[:, 0].min() - 2
    assert x.max() <= pixels[:, 0].max() + 2
    assert y.min() >= pixels[:, 1].min() - 2


def test_alpha_blends_and_the_background_stays_what_it_was(free_body):
    frame = grey_frame()
    half = render_overlay(frame, standing(free_body), camera(), free_body, alpha=0.5)
    full = render_overlay(frame, standing(free_body), camera(), free_body, alpha=1.0)
    assert np.abs(half.astype(float) - (full / 2.0 + 50.0)).max() <= 1.0
    assert (half[:, :20] == 100).all()
    assert (frame == 100).all()


def test_nearer_people_cover_those_behind(free_body):
    both = torch.cat([standing(free_body, y=0.0), standing(free_body, x=0.1, y=-1.0)])
    near = render_overlay(grey_frame(), both[1:], camera(), free_body, alpha=1.0)
    drawn = render_overlay(grey_frame(), both, camera(), free_body, alpha=1.0)
    body = (near.astype(int) - 100).any(-1)
    y, x = np.nonzero(body)
    middle = (slice(int(y.mean()) - 3, int(y.mean()) + 3), slice(int(x.mean()) - 2, int(x.mean())))
    assert np.abs(drawn[middle].astype(int) - near[middle].astype(int)).max() <= 2


@pytest.mark.parametrize("distance", [-5.0, 0.0, 0.3])
def test_bodies_behind_or_around_the_camera_do_no_harm(free_body, distance):
    drawn = render_overlay(
        grey_frame(), standing(free_body), camera(distance=distance), free_body, alpha=1.0
    )
    assert drawn.shape == grey_frame().shape
    if distance < 0:
        assert (drawn == 100).all()


def test_nobody_leaves_the_frame_as_it_is(free_body):
    nobody = standing(free_body)[:0]
    assert np.array_equal(render_overlay(grey_frame(), nobody, camera(), free_body), grey_frame())


def test_surface_turned_to_the_key_light_is_brighter():
    points = torch.tensor([0.0, 0.0, 2.0]).expand(1, 1, 2, 3)
    towards = torch.tensor([[-0.4, -0.6, -0.7], [0.6, 0.5, -0.6]])
    normals = torch.nn.functional.normalize(towards, dim=-1)[None, None]
    shaded = shade(normals, points)
    assert (shaded[0, 0, 0] > 1.5 * shaded[0, 0, 1]).all()
    assert shaded.min() >= 0
    assert shaded.max() <= 1
