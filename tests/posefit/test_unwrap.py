# SPDX-License-Identifier: Apache-2.0
"""Texture coordinates of bodies whose file has none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from posefit.body import body_from_arrays
from posefit.rasterizer import rasterize
from posefit.texture import texel_grid, uv_hash
from posefit_shared.body_files import read_body


@pytest.fixture(scope="module")
def plain_body():
    """The free body as the official files are: without texture coordinates."""
    return body_from_arrays(dataclasses.replace(read_body("free"), vt=None, ft=None))


def areas(points: np.ndarray) -> np.ndarray:
    a, b = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    return 0.5 * np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def test_a_body_without_texture_coordinates_gets_some_inside_the_map(plain_body):
    assert plain_body.vt.min() >= 0
    assert plain_body.vt.max() <= 1
    assert plain_body.ft.shape == plain_body.faces.shape
    assert plain_body.ft.max() < len(plain_body.vt)


def test_they_use_the_map_well_and_share_little_of_it(plain_body):
    size = 512
    total = areas(plain_body.vt.numpy()[plain_body.ft.numpy()]).sum()
    flat = torch.cat([plain_body.vt * size, torch.ones(len(plain_body.vt), 1)], dim=1)
    fragments = rasterize(flat[None], plain_body.ft, torch.eye(3)[None], (size, size))
    covered = float((fragments.pix_to_face >= 0).float().mean())
    assert covered > 0.4
    assert covered > 0.85 * total  # what is shared is counted twice in the total


def test_parts_do_not_overlap_each_other(plain_body):
    part = plain_body.lbs_weights[plain_body.faces].sum(1).argmax(1)
    size = 256
    flat = torch.cat([plain_body.vt * size, torch.ones(len(plain_body.vt), 1)], dim=1)
    owner = torch.full((size, size), -1)
    for joint in part.unique():
        mine = (
            rasterize(
                flat[None], plain_body.ft[part == joint], torch.eye(3)[None], (size, size)
            ).pix_to_face[0]
            >= 0
        )
        assert (owner[mine] == -1).all()
        owner[mine] = joint


def test_neighbouring_faces_are_mostly_neighbours_in_the_map(plain_body):
    edges = np.sort(plain_body.faces.numpy()[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    own = np.sort(plain_body.ft.numpy()[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    seams = len(np.unique(own, axis=0)) - len(np.unique(edges, axis=0))
    assert seams < 0.06 * len(edges)


def test_the_same_file_always_gets_the_same_coordinates(plain_body):
    again = body_from_arrays(dataclasses.replace(read_body("free"), vt=None, ft=None))
    assert uv_hash(again) == uv_hash(plain_body)
    assert len(texel_grid(plain_body, 128)) > 0.4 * 128 * 128


def test_a_file_with_coordinates_keeps_them(free_body):
    arrays = read_body("free")
    assert np.array_equal(free_body.vt.numpy(), arrays.vt)
    assert np.array_equal(free_body.ft.numpy(), arrays.ft)
