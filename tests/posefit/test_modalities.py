# SPDX-License-Identifier: Apache-2.0
"""Modalities: what is rendered of the body is what the body is."""

import pytest
import torch

from posefit.body import PoseParameters, pose_body
from posefit.modalities import render_modalities, sample_texture

SIZE = 128


@pytest.fixture(scope="module")
def rendered(free_body):
    rest = PoseParameters.rest(free_body, 2)
    vertices = pose_body(free_body, rest).vertices
    # The rest pose looks along +z with y up: a camera 4 m before it that looks back.
    world_to_camera = torch.tensor(
        [[1.0, 0, 0, 0], [0, -1, 0, -0.2], [0, 0, -1, 4], [0, 0, 0, 1]]
    ).repeat(2, 1, 1)
    intrinsics = torch.tensor([[200.0, 0, 64], [0, 200, 64], [0, 0, 1]]).repeat(2, 1, 1)
    intrinsics[1, 0, 2] += 10
    texture = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    texture[:, 3] = (texture[:, 3] > 0.5).float()
    modalities, fragments = render_modalities(
        free_body, vertices, world_to_camera, intrinsics, (SIZE, SIZE), texture=texture
    )
    return modalities, fragments, vertices, world_to_camera, intrinsics


def test_everything_is_zero_off_the_body(rendered):
    modalities = rendered[0]
    outside = modalities.mask[:, 0] == 0
    assert 0.03 < float(modalities.mask.mean()) < 0.3
    for name in ("rgb", "texture_valid", "depth", "normals", "vertex_colors"):
        image = getattr(modalities, name)
        assert float(image.permute(0, 2, 3, 1)[outside].abs().max()) == 0, name


def test_each_pixel_shows_the_surface_point_that_projects_into_it(rendered, free_body):
    _, fragments, vertices, world_to_camera, intrinsics = rendered
    image, row, column = (fragments.pix_to_face >= 0).nonzero(as_tuple=True)
    corners = free_body.faces[fragments.pix_to_face[image, row, column].long()]
    bary = fragments.bary_coords[image, row, column]
    points = (vertices[image[:, None], corners] * bary[..., None]).sum(1)
    camera = (world_to_camera[image, :3, :3] @ points[..., None])[..., 0]
    camera = camera + world_to_camera[image, :3, 3]
    seen = (intrinsics[image] @ camera[..., None])[..., 0]
    pixels = seen[:, :2] / seen[:, 2:]
    centres = torch.stack([column + 0.5, row + 0.5], -1)
    assert float((pixels - centres).abs().max()) < 1e-2
    torch.testing.assert_close(camera[:, 2], fragments.zbuf[image, row, column], rtol=1e-4, atol=0)


def test_visible_normals_look_at_the_camera(rendered):
    modalities = rendered[0]
    on = modalities.mask[:, 0] > 0
    normals = modalities.normals.permute(0, 2, 3, 1)[on]
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(len(normals)), rtol=0, atol=1e-4)
    assert float((normals[:, 2] < 0.2).float().mean()) > 0.97


def test_depth_is_the_distance_along_the_axis(rendered):
    depth = rendered[0].depth[rendered[0].mask > 0]
    assert 3.5 < float(depth.min()) < float(depth.max()) < 4.4


def test_a_shifted_principal_point_shifts_the_picture(rendered):
    colors = rendered[0].vertex_colors
    torch.testing.assert_close(colors[0, :, :, :-10], colors[1, :, :, 10:], atol=0.05, rtol=0)


def test_unknown_texels_are_grey_and_say_so(rendered):
    modalities = rendered[0]
    unknown = (modalities.texture_valid == 0) & (modalities.mask > 0)
    assert bool(unknown.any())
    rgb = modalities.rgb.permute(0, 2, 3, 1)[unknown[:, 0]]
    torch.testing.assert_close(rgb, torch.full_like(rgb, 0.5))


def test_the_first_row_of_a_texture_is_at_the_top_of_v():
    texture = torch.zeros(1, 1, 4, 4)
    texture[0, 0, 0, 3] = 1.0
    uv = torch.tensor([[[[0.875, 0.875], [0.875, 0.125]]]])
    assert sample_texture(texture, uv).flatten().tolist() == [1.0, 0.0]
