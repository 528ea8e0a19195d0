# SPDX-License-Identifier: Apache-2.0
"""Personal texture: painting, merging, files, and the trap of painting from the frame itself."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from posefit.body import (
    PoseParameters,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    pose_body,
)
from posefit.displacement.flow import FlowEstimator
from posefit.modalities import render_modalities
from posefit.rasterizer import interpolate, rasterize
from posefit.texture import (
    SurfaceColors,
    Texture,
    TextureError,
    TexturePainter,
    load_png,
    observe_surface,
    save_png,
    texel_grid,
    uv_hash,
)
from posefit.texture.observation import _distance_from_outlines, _distances_on_gpu

SIZE = 192
FRAMES = 10
TEXELS = 128


def patterned_map(rng, size=TEXELS) -> torch.Tensor:
    """(1, 4, size, size) cloth with structure at several scales, known everywhere."""
    pattern = np.full((size, size, 3), 0.5, np.float32)
    for cell, strength in ((3, 0.5), (6, 0.4), (12, 0.3)):
        coarse = rng.random((size // cell + 1, size // cell + 1, 3)).astype(np.float32)
        pattern += strength * (cv2.resize(coarse, (size, size), interpolation=2) - 0.5)
    rgb = torch.from_numpy(np.clip(pattern, 0, 1)).permute(2, 0, 1)
    return torch.cat([rgb, torch.ones(1, size, size)])[None]


@dataclasses.dataclass(frozen=True)
class Clip:
    """A person who turns and leans before a still camera."""

    parameters: PoseParameters
    world_to_camera: torch.Tensor
    intrinsics: torch.Tensor
    images: torch.Tensor
    masks: torch.Tensor


def film(body, rng, texture, *, turn=1.2, lean=1.2) -> Clip:
    phase = torch.linspace(0, 2 * math.pi, FRAMES)
    pose = torch.zeros(FRAMES, 23, 3)
    pose[:, 15, 2] = -0.9 + 0.5 * torch.sin(phase)
    pose[:, 16, 2] = 0.9 + 0.4 * torch.cos(1.3 * phase)
    pose[:, 0, 0] = -0.4 * torch.sin(phase)
    nothing = torch.zeros(FRAMES)
    turned = axis_angle_to_matrix(torch.stack([nothing, nothing, turn * torch.sin(phase)], -1))
    leant = axis_angle_to_matrix(
        torch.stack([nothing, lean * torch.sin(1.7 * phase + 0.3), nothing], -1)
    )
    upright = axis_angle_to_matrix(torch.tensor([[math.pi / 2, 0.0, 0.0]]))
    parameters = PoseParameters(
        torch.zeros(FRAMES, 10),
        matrix_to_axis_angle(leant @ turned @ upright),
        pose,
        torch.zeros(FRAMES, 3),
    )
    camera = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -0.1], [0, 1, 0, 3.2], [0, 0, 0, 1]])
    f = 1.45 * SIZE
    intrinsics = torch.tensor([[f, 0, SIZE / 2], [0, f, SIZE / 2], [0, 0, 1.0]])
    world_to_camera = camera.expand(FRAMES, 4, 4).contiguous()
    intrinsics = intrinsics.expand(FRAMES, 3, 3).contiguous()
    vertices = pose_body(body, parameters).vertices
    shown, _ = render_modalities(
        body, vertices, world_to_camera, intrinsics, (SIZE, SIZE), texture=texture
    )
    ground = cv2.resize(rng.random((16, 16, 3)).astype(np.float32), (SIZE, SIZE), interpolation=2)
    ground = torch.from_numpy(np.clip(ground, 0, 1)).permute(2, 0, 1)
    images = shown.rgb * shown.mask + ground * (1 - shown.mask)
    return Clip(parameters, world_to_camera, intrinsics, images, shown.mask[:, 0])


def look(body, clip, parameters, *, frames=slice(None), with_mask=True) -> SurfaceColors:
    return observe_surface(
        texel_grid(body, TEXELS),
        body,
        pose_body(body, parameters).vertices[frames],
        clip.images[frames],
        clip.world_to_camera[frames],
        clip.intrinsics[frames],
        clip.masks[frames] if with_mask else None,
    )


def true_displacement(body, clip, estimate, frame, texture):
    """Rendering of an estimate, displacement to the truth, and flow's answer, for one frame."""
    one = slice(frame, frame + 1)
    w2c, intrinsics = clip.world_to_camera[one], clip.intrinsics[one]
    vertices = pose_body(body, estimate[one]).vertices
    modalities, fragments = render_modalities(
        body, vertices, w2c, intrinsics, (SIZE, SIZE), texture=texture
    )
    truth = pose_body(body, clip.parameters[one]).vertices
    points = interpolate(fragments, body.faces, truth) @ w2c[0, :3, :3].T + w2c[0, :3, 3]
    pixels = points @ intrinsics[0].T
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    displacement = pixels[..., :2] / pixels[..., 2:] - torch.stack([x, y], -1)
    field = FlowEstimator().predict(clip.images[one], modalities)
    covered = fragments.pix_to_face >= 0
    return displacement[covered], field.displacement[covered], field.visibility[covered]


def share_of_truth(body, clip, estimate, painter, source_weights) -> float:
    """1 where flow to the frame finds the whole error of the estimate, 0 where it finds none."""
    found = true = 0.0
    for frame in range(0, FRAMES, 3):
        texture = painter.paint(source_weights(frame))[None]
        displacement, flow, trust = true_displacement(body, clip, estimate, frame, texture)
        found += float((trust[:, None] * flow * displacement).sum())
        true += float((trust * displacement.square().sum(-1)).sum())
    return found / true


def others(frame: int, window: int = 2) -> torch.Tensor:
    return ((torch.arange(FRAMES) - frame).abs() >= window).float()


def itself(frame: int) -> torch.Tensor:
    return (torch.arange(FRAMES) == frame).float()


@pytest.fixture(scope="module")
def scene(free_body):
    rng = np.random.default_rng(5)
    texture = patterned_map(rng)
    return texture, film(free_body, rng, texture)


def test_an_error_constant_over_the_clip_survives_only_in_a_map_painted_by_other_frames(
    free_body, scene
):
    _, clip = scene
    moved = clip.parameters.transl + torch.tensor([0.03, 0.0, 0.02])
    estimate = dataclasses.replace(clip.parameters, transl=moved)
    painter = TexturePainter(texel_grid(free_body, TEXELS), look(free_body, clip, estimate))
    trap = share_of_truth(free_body, clip, estimate, painter, itself)
    escape = share_of_truth(free_body, clip, estimate, painter, others)
    assert abs(trap) < 0.1
    assert escape > 0.3
    assert escape > 4 * abs(trap)


def test_under_true_poses_the_painted_map_is_the_persons_texture(free_body, scene):
    texture, clip = scene
    grid = texel_grid(free_body, TEXELS)
    painted = TexturePainter(grid, look(free_body, clip, clip.parameters)).paint(torch.ones(FRAMES))
    known = painted[3] > 0.6
    assert known.float().mean() > 0.15
    error = (painted[:3] - texture[0, :3]).abs().mean(0)
    assert error[known].mean() < 0.06
    # and what is well known is better known than the rest
    assert error[known].mean() < error[(painted[3] > 0) & (painted[3] < 0.3)].mean()


def test_background_and_occluders_do_not_paint_the_body(free_body, scene):
    texture, clip = scene
    green = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
    hidden = torch.zeros(SIZE, SIZE)
    hidden[: SIZE // 2, SIZE // 3 : SIZE // 2] = 1
    images = clip.images * (1 - hidden) + green * hidden
    covered = dataclasses.replace(clip, images=images, masks=clip.masks * (1 - hidden))
    seen = look(free_body, covered, clip.parameters)
    is_green = (seen.rgb[..., 1] > 0.97) & (seen.rgb[..., [0, 2]] < 0.03).all(-1)
    assert is_green.sum() > 100
    assert seen.weights[is_green].max() < 0.05


def test_without_a_mask_outlines_paint_less_than_the_middle(free_body, scene):
    _, clip = scene
    shifted = dataclasses.replace(
        clip.parameters, transl=clip.parameters.transl + torch.tensor([0.015, 0.0, 0.0])
    )
    wide = clip.masks[:, None].expand(-1, 3, -1, -1)
    flat = dataclasses.replace(clip, images=wide.contiguous())  # white person on black ground
    seen = look(free_body, flat, shifted, with_mask=False)
    is_background = seen.rgb[..., 0] < 0.5
    assert (seen.weights[is_background].sum() / seen.weights.sum()) < 0.01


def test_outlines_reach_as_far_on_a_gpu_as_on_a_cpu(free_body, scene):
    """What runs on a GPU runs on the CPU here."""
    _, clip = scene
    vertices = pose_body(free_body, clip.parameters).vertices[:2]
    in_camera = vertices @ clip.world_to_camera[:2, :3, :3].mT
    in_camera = in_camera + clip.world_to_camera[:2, None, :3, 3]
    depth = rasterize(in_camera, free_body.faces, clip.intrinsics[:2], (SIZE, SIZE)).zbuf
    expected = np.stack([_distance_from_outlines(one) for one in depth.numpy()])
    assert expected.max() > 5
    found = _distances_on_gpu(depth, 5.0).numpy()
    np.testing.assert_allclose(found.clip(0, 5), expected.clip(0, 5), atol=1e-3)


def test_surface_that_is_hidden_or_turned_away_is_not_painted(free_body, scene):
    _, clip = scene
    seen = look(free_body, clip, clip.parameters, frames=slice(0, 1))
    grid = texel_grid(free_body, TEXELS)
    vertices = pose_body(free_body, clip.parameters).vertices[:1]
    points = grid.on_surface(vertices)[0]
    # the camera looks along +y: what lies deep behind the front of the same column is hidden
    painted = seen.weights[0] > 0
    back = points[:, 1] > points[:, 1].median() + 0.1
    assert painted[~back].float().mean() > 0.2
    assert painted[back].float().mean() < 0.05


def test_a_source_of_weight_zero_leaves_no_trace(free_body, scene):
    _, clip = scene
    grid = texel_grid(free_body, TEXELS)
    colors = look(free_body, clip, clip.parameters)
    weights = torch.ones(FRAMES)
    weights[3] = 0.0
    painted = TexturePainter(grid, colors).paint(weights)
    spoilt = colors.rgb.clone()
    spoilt[3] = torch.rand(spoilt[3].shape)
    again = TexturePainter(grid, SurfaceColors(spoilt, colors.weights)).paint(weights)
    assert torch.allclose(painted, again, atol=1e-6)


def test_outliers_are_outvoted_and_disagreement_lowers_coverage(free_body):
    grid = texel_grid(free_body, 32)
    count = len(grid)
    rgb = torch.full((5, count, 3), 0.4)
    rgb[4] = 1.0
    weights = torch.ones(5, count)
    painted = TexturePainter(grid, SurfaceColors(rgb, weights)).paint(torch.ones(5))
    inside = grid.is_painted
    assert torch.allclose(painted[:3, inside], torch.tensor(0.4), atol=1e-6)
    rgb[4] = 0.4
    agreed = TexturePainter(grid, SurfaceColors(rgb, weights)).paint(torch.ones(5))
    assert (agreed[3, inside] > painted[3, inside]).all()
    nobody = TexturePainter(grid, SurfaceColors(rgb, weights)).paint(torch.zeros(5))
    assert (nobody[3] == 0).all()
    assert torch.isfinite(nobody).all()


def test_unknown_texels_continue_their_neighbours_so_that_lookups_do_not_fade(free_body):
    grid = texel_grid(free_body, 64)
    coverage = (torch.arange(len(grid)) % 2).float()
    rgb = torch.full((len(grid), 3), 0.8) * coverage[:, None]
    image = grid.as_image(rgb, coverage)
    assert (image[:3] == 0.8).all()
    assert (image[3][~grid.is_painted] == 0).all()


def test_a_texture_survives_its_png(free_body, tmp_path, rng):
    rgb = torch.from_numpy(rng.random((40, 40, 3)).astype(np.float32))
    coverage = torch.from_numpy(rng.random((40, 40)).astype(np.float32))
    texture = Texture(rgb, coverage, uv_hash(free_body))
    save_png(texture, tmp_path / "a person.png")
    loaded = load_png(tmp_path / "a person.png", free_body)
    assert loaded.uv_hash == texture.uv_hash
    assert torch.allclose(loaded.rgb, rgb, atol=0.5 / 255 + 1e-6)
    assert torch.allclose(loaded.coverage, coverage, atol=0.5 / 255 + 1e-6)
    assert loaded.maps(free_body)([3, 4]).shape == (1, 4, 40, 40)


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "P", "L", "LA", "I;16"])
def test_what_an_image_editor_saves_can_be_worn(free_body, tmp_path, mode):
    painted = Image.new("RGBA", (60, 30), (128, 128, 128, 255))
    if mode == "I;16":
        painted = Image.fromarray(np.full((30, 60), 32896, np.uint16))
    else:
        painted = painted.convert(mode)
    painted.save(tmp_path / "painted.png")  # without posefit's text
    texture = load_png(tmp_path / "painted.png", free_body)
    assert texture.rgb.shape == (30, 60, 3)
    assert torch.allclose(texture.rgb, torch.tensor(128 / 255), atol=0.01)
    assert (texture.coverage == 1).all()


def test_painting_over_a_texture_keeps_its_body(free_body, tmp_path):
    grid = texel_grid(free_body, 32)
    colors = SurfaceColors(torch.full((1, len(grid), 3), 0.5), torch.ones(1, len(grid)))
    save_png(TexturePainter(grid, colors).texture(), tmp_path / "own.png")
    with Image.open(tmp_path / "own.png") as picture:
        picture.load()
        picture.putpixel((5, 5), (255, 0, 0, 255))
        picture.save(tmp_path / "edited.png")  # Pillow, too, drops the text
    edited = load_png(tmp_path / "edited.png", free_body)
    assert edited.rgb[5, 5].tolist() == [1.0, 0.0, 0.0]
    assert edited.coverage[5, 5] == 1
    edited.maps(free_body)


def test_a_texture_for_other_texture_coordinates_is_refused_in_words(free_body, tmp_path):
    save_png(
        Texture(torch.zeros(8, 8, 3), torch.ones(8, 8), uv_hash(free_body)), tmp_path / "t.png"
    )
    other = dataclasses.replace(free_body, vt=free_body.vt * 0.5)
    with pytest.raises(TextureError, match="use the body it was made with"):
        load_png(tmp_path / "t.png", other)
    with pytest.raises(TextureError, match="use the body it was made with"):
        load_png(tmp_path / "t.png").maps(other)
    with pytest.raises(TextureError, match="no texture coordinates"):
        load_png(tmp_path / "t.png").maps(dataclasses.replace(free_body, vt=None, ft=None))


def test_what_is_no_picture_is_refused_in_words(tmp_path):
    (tmp_path / "no.png").write_bytes(b"not a picture")
    with pytest.raises(TextureError, match="cannot be read as a texture"):
        load_png(tmp_path / "no.png")
    with pytest.raises(TextureError, match="cannot be read as a texture"):
        load_png(tmp_path / "absent.png")
