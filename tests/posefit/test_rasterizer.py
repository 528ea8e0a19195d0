# SPDX-License-Identifier: Apache-2.0
"""Fragments: by hand, against ray casting in float64, and against PyTorch3D."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from posefit.body import load_body
from posefit.rasterizer import Fragments, interpolate, rasterize

NEAR = 0.01


def camera(size: tuple[int, int], focal: float = 1.2) -> torch.Tensor:
    height, width = size
    f = focal * max(size)
    return torch.tensor([[[f, 0.0, width / 2], [0.0, f, height / 2], [0.0, 0.0, 1.0]]])


def triangle_soup(rng: np.random.Generator, count: int = 60, reach: float = 1.0) -> torch.Tensor:
    """(1, 3 count, 3) corners of triangles around (0, 0, 2), of all sizes and directions."""
    centres = rng.uniform([-reach, -reach, 1.0], [reach, reach, 3.0], (count, 1, 3))
    corners = centres + rng.normal(0, 1, (count, 3, 3)) * rng.uniform(0.02, 0.6, (count, 1, 1))
    return torch.tensor(corners.reshape(1, -1, 3), dtype=torch.float32)


def soup_faces(vertices: torch.Tensor) -> torch.Tensor:
    return torch.arange(vertices.shape[1]).reshape(-1, 3)


def cast_rays(vertices, faces, intrinsics, size):
    """Float64 ray–plane intersection of every pixel with every face: ids, bary, z (one image)."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics.double().numpy()).T
    corners = vertices.double().numpy()[faces.numpy()]
    ids = np.full(size, -1)
    nearest = np.full(size, np.inf)
    bary = np.full((*size, 3), -1.0)
    for face, (a, b, c) in enumerate(corners):
        e = np.stack([rays @ np.cross(b, c), rays @ np.cross(c, a), rays @ np.cross(a, b)], -1)
        with np.errstate(all="ignore"):
            weights = e / e.sum(-1, keepdims=True)
            z = weights @ np.array([a[2], b[2], c[2]])
        hit = (weights >= 0).all(-1) & (z >= NEAR) & (z < nearest)
        ids[hit], nearest[hit], bary[hit] = face, z[hit], weights[hit]
    return ids, bary, np.where(ids >= 0, nearest, -1.0)


def assert_same_surface(fragments: Fragments, image: int, expected, *, stray: float = 0.001):
    """Equal but for a share of pixels at edges, where float32 and float64 may fall apart."""
    ids, bary, z = expected
    same = fragments.pix_to_face[image].numpy() == ids
    assert (~same).mean() <= stray
    covered = same & (ids >= 0)
    assert covered.sum() > 50
    error = np.abs(fragments.bary_coords[image].numpy() - bary)[covered]
    assert error.max() < 2e-3  # slivers of a hundredth of a pixel
    assert np.median(error) < 1e-6
    found = fragments.zbuf[image].numpy()[covered]
    assert np.abs(found / z[covered] - 1).max() < 1e-4
    empty = same & (ids < 0)
    assert (fragments.zbuf[image].numpy()[empty] == -1).all()
    assert (fragments.bary_coords[image].numpy()[empty] == -1).all()


@pytest.mark.parametrize("size", [(40, 40), (24, 57), (61, 18)])
def test_fragments_are_those_of_exact_ray_casting(rng, size):
    vertices = torch.cat([triangle_soup(rng), triangle_soup(rng)])
    faces, intrinsics = soup_faces(vertices), camera(size).repeat(2, 1, 1)
    fragments = rasterize(vertices, faces, intrinsics, size)
    for image in range(2):
        expected = cast_rays(vertices[image], faces, intrinsics[image], size)
        assert_same_surface(fragments, image, expected)


def test_triangles_through_the_camera_plane_are_drawn_as_far_as_they_are_in_front(rng):
    size = (48, 64)
    vertices = triangle_soup(rng, 80)
    vertices[..., 2] -= 1.5  # many corners lie behind the camera now
    depth = vertices.reshape(-1, 3, 3)[..., 2]
    crossing = (depth.min(1)[0] < 0) & (depth.max(1)[0] > 0.2)
    assert crossing.sum() > 10
    faces, intrinsics = soup_faces(vertices), camera(size)
    fragments = rasterize(vertices, faces, intrinsics, size)
    expected = cast_rays(vertices[0], faces, intrinsics[0], size)
    assert crossing.numpy()[expected[0][expected[0] >= 0]].any()
    assert_same_surface(fragments, 0, expected, stray=0.002)


def test_a_floor_that_runs_under_the_camera_covers_exactly_the_lower_half():
    size = (32, 32)
    floor = torch.tensor([[[-1e3, 1.0, -50.0], [1e3, 1.0, -50.0], [0.0, 1.0, 1e5]]])
    fragments = rasterize(floor, torch.tensor([[0, 1, 2]]), camera(size), size)
    assert (fragments.pix_to_face[0, 16:] == 0).all()
    assert (fragments.pix_to_face[0, :15] == -1).all()
    rows = torch.arange(16, 32) + 0.5 - 16
    assert torch.allclose(fragments.zbuf[0, 16:, 7], 1.2 * 32 / rows, rtol=1e-4)


def test_a_triangle_worked_out_by_hand():
    # A right triangle over pixels (0..4, 0..4) at depth 2: 10 centres strictly inside, by counting.
    intrinsics = torch.tensor([[[2.0, 0, 0], [0, 2.0, 0], [0, 0, 1]]])
    vertices = torch.tensor([[[0.0, 0, 2], [4.4, 0, 2], [0, 4.4, 2]]])
    fragments = rasterize(vertices, torch.tensor([[0, 1, 2]]), intrinsics, (6, 6))
    assert int((fragments.pix_to_face >= 0).sum()) == 10
    bary = fragments.bary_coords[0, 1, 2]  # centre (2.5, 1.5)
    assert torch.allclose(bary, torch.tensor([0.4, 2.5, 1.5]) / 4.4, atol=1e-6)
    assert fragments.zbuf[0, 1, 2] == 2.0


def test_barycentrics_are_perspective_correct():
    size = (33, 65)
    vertices = torch.tensor([[[-1.0, -0.5, 1.0], [2.0, -0.5, 4.0], [0.5, 1.5, 2.0]]])
    faces = torch.tensor([[0, 1, 2]])
    intrinsics = camera(size, 0.5)
    fragments = rasterize(vertices, faces, intrinsics, size)
    points = interpolate(fragments, faces, vertices)[0]
    covered = fragments.pix_to_face[0] >= 0
    assert covered.sum() > 100
    projected = points[covered] @ intrinsics[0].T
    y, x = torch.nonzero(covered).T
    assert torch.allclose(projected[:, 0] / projected[:, 2], x + 0.5, atol=1e-3)
    assert torch.allclose(projected[:, 1] / projected[:, 2], y + 0.5, atol=1e-3)
    assert torch.allclose(points[covered][:, 2], fragments.zbuf[0][covered], rtol=1e-5)


def test_a_closed_surface_has_no_cracks(free_body):
    vertices = free_body.v_template * torch.tensor([1.0, -1.0, -1.0])
    vertices = vertices - vertices.mean(0) + torch.tensor([0.0, 0.0, 2.2])
    size = (160, 120)
    fragments = rasterize(vertices[None], free_body.faces, camera(size, 0.8), size)
    from scipy.ndimage import binary_fill_holes, label

    mask = fragments.pix_to_face[0].numpy() >= 0
    holes = label(binary_fill_holes(mask) & ~mask)[1]
    assert mask.sum() > 1500
    assert holes == 0
    # seen from outside, a closed surface shows only faces that are turned to the camera
    corners = vertices[free_body.faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = (normals * corners[:, 0]).sum(-1) < 0
    seen = fragments.pix_to_face[fragments.pix_to_face >= 0].long()
    assert facing[seen].float().mean() > 0.995


def test_equal_depths_go_to_the_lower_face_whatever_the_order():
    quad = torch.tensor([[[-1.0, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]]])
    face = torch.tensor([[0, 1, 2], [0, 2, 3]])
    repeated = face.repeat(3000, 1)  # enough for several threads with a buffer each
    fragments = rasterize(quad, repeated, camera((16, 16)), (16, 16))
    assert set(fragments.pix_to_face.unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_faces_with_unusable_vertices_are_skipped_and_nothing_else(rng, bad):
    vertices = triangle_soup(rng)
    faces = soup_faces(vertices)
    broken = vertices.clone()
    broken[0, ::30] = bad
    fragments = rasterize(broken, faces, camera((32, 32)), (32, 32))
    keep = torch.ones(len(faces), dtype=torch.bool)
    keep[::10] = False
    expected = rasterize(vertices, faces, camera((32, 32)), (32, 32), face_mask=keep)
    assert torch.equal(fragments.pix_to_face, expected.pix_to_face)
    assert torch.equal(fragments.bary_coords, expected.bary_coords)


def test_degenerate_and_distant_faces_draw_nothing_and_harm_nothing():
    vertices = torch.tensor(
        [[[0.0, 0, 2], [0, 0, 2], [0.1, 0, 2], [1e6, 0, 2], [1e6, 1, 2], [1e6, 0, 3],
          [0, 0, -1], [1, 0, -1], [0, 1, -1], [0.0, 0, 0], [1, 0, 0], [0, 1, 0]]]
    )  # fmt: skip
    faces = torch.tensor([[0, 1, 2], [0, 0, 0], [3, 4, 5], [6, 7, 8], [9, 10, 11]])
    fragments = rasterize(vertices, faces, camera((16, 16)), (16, 16))
    assert (fragments.pix_to_face == -1).all()


def test_a_face_mask_leaves_faces_out_of_one_image_or_of_all(rng):
    vertices = triangle_soup(rng).repeat(2, 1, 1)
    faces, intrinsics = soup_faces(vertices), camera((32, 32)).repeat(2, 1, 1)
    everything = rasterize(vertices, faces, intrinsics, (32, 32))
    seen = everything.pix_to_face[0].max()
    mask = torch.ones((2, len(faces)), dtype=torch.bool)
    mask[1, seen] = False
    masked = rasterize(vertices, faces, intrinsics, (32, 32), face_mask=mask)
    assert torch.equal(masked.pix_to_face[0], everything.pix_to_face[0])
    assert not (masked.pix_to_face[1] == seen).any()
    both = rasterize(vertices, faces, intrinsics, (32, 32), face_mask=mask[1])
    assert torch.equal(both.pix_to_face[0], masked.pix_to_face[1])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_is_its_images_one_by_one_for_any_number_of_threads(rng, batch):
    vertices = torch.cat([triangle_soup(rng, 3000) for _ in range(batch)])
    faces, intrinsics = soup_faces(vertices), camera((40, 30)).repeat(batch, 1, 1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [
            rasterize(v[None], faces, k[None], (40, 30))
            for v, k in zip(vertices, intrinsics, strict=True)
        ]
        torch.set_num_threads(3)
        together = rasterize(vertices, faces, intrinsics, (40, 30))
    finally:
        torch.set_num_threads(threads)
    for field in ("pix_to_face", "bary_coords", "zbuf"):
        parts = torch.cat([getattr(fragments, field) for fragments in alone])
        assert torch.equal(parts, getattr(together, field))


@pytest.mark.parametrize(
    ("batch", "faces", "size"), [(0, 4, (8, 8)), (2, 0, (8, 8)), (1, 4, (0, 8))]
)
def test_nothing_to_draw_gives_empty_fragments(rng, batch, faces, size):
    vertices = triangle_soup(rng, 4).repeat(batch, 1, 1)
    ids = soup_faces(triangle_soup(rng, 4))[:faces]
    fragments = rasterize(vertices, ids, camera((8, 8)).repeat(batch, 1, 1), size)
    assert fragments.pix_to_face.shape == (batch, *size)
    assert fragments.bary_coords.shape == (batch, *size, 3)
    if faces == 0:
        assert (fragments.pix_to_face == -1).all()
        assert (interpolate(fragments, ids, torch.ones(1, 12, 2)) == 0).all()


def test_non_contiguous_and_double_inputs_give_the_same_fragments(rng):
    vertices = triangle_soup(rng)
    faces, intrinsics = soup_faces(vertices), camera((32, 32))
    expected = rasterize(vertices, faces, intrinsics, (32, 32))
    strided = torch.stack([vertices, vertices], -1).double()[..., 0]
    transposed = intrinsics.transpose(1, 2).contiguous().transpose(1, 2)
    found = rasterize(strided, faces.int(), transposed, (32, 32))
    assert torch.equal(found.pix_to_face, expected.pix_to_face)
    assert torch.equal(found.zbuf, expected.zbuf)


def test_interpolation_blends_the_corners_that_its_own_faces_name(rng):
    vertices = triangle_soup(rng)
    faces = soup_faces(vertices)
    fragments = rasterize(vertices, faces, camera((32, 32)), (32, 32))
    other = torch.randint(0, 7, (len(faces), 3), generator=torch.Generator().manual_seed(1))
    attributes = torch.tensor(rng.normal(size=(1, 7, 5)), dtype=torch.float32)
    values = interpolate(fragments, other, attributes)
    covered = fragments.pix_to_face >= 0
    corners = attributes[0][other[fragments.pix_to_face[covered].long()]]
    expected = (corners * fragments.bary_coords[covered][..., None]).sum(1)
    assert torch.allclose(values[covered], expected, atol=1e-6)
    assert (values[~covered] == 0).all()


def test_pytorch3d_layout_packs_ids_over_the_batch(rng):
    vertices = triangle_soup(rng).repeat(2, 1, 1)
    faces = soup_faces(vertices)
    fragments = rasterize(vertices, faces, camera((32, 32)).repeat(2, 1, 1), (32, 32))
    packed = fragments.as_pytorch3d(len(faces))
    assert packed.pix_to_face.shape == (2, 32, 32, 1)
    assert packed.bary_coords.shape == (2, 32, 32, 1, 3)
    covered = packed.pix_to_face[1] >= 0
    assert (packed.pix_to_face[1][covered] - len(faces) == packed.pix_to_face[0][covered]).all()
    assert (packed.pix_to_face[1][~covered] == -1).all()


def test_an_unknown_backend_is_refused_in_words(rng):
    vertices = triangle_soup(rng)
    faces = soup_faces(vertices)
    with pytest.raises(ValueError, match="expected 'warp' or 'pytorch3d'"):
        rasterize(vertices, faces, camera((8, 8)), (8, 8), backend="opengl")


@pytest.mark.slow
def test_the_first_use_says_nothing_on_the_terminal():
    script = (
        "import torch; from posefit.rasterizer import rasterize;"
        "rasterize(torch.rand(1, 3, 3) + 1, torch.tensor([[0, 1, 2]]), torch.eye(3)[None], (4, 4))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout == ""
    assert found.stderr == ""


@pytest.mark.pytorch3d
@pytest.mark.parametrize("size", [(160, 160), (120, 200), (200, 120)])
def test_pytorch3d_gives_the_same_fragments_of_a_body(size):
    pytest.importorskip("pytorch3d")
    body = load_body("free")
    vertices = body.v_template * torch.tensor([1.0, -1.0, -1.0])
    vertices = vertices - vertices.mean(0) + torch.tensor([0.0, 0.0, 2.6])
    turned = vertices.clone()
    turned[:, 0], turned[:, 2] = vertices[:, 2] - 2.6, 2.6 - vertices[:, 0]
    batch, intrinsics = torch.stack([vertices, turned]), camera(size, 0.9).repeat(2, 1, 1)
    ours = rasterize(batch, body.faces, intrinsics, size)
    theirs = rasterize(batch, body.faces, intrinsics, size, backend="pytorch3d")
    covered, reference = ours.pix_to_face >= 0, theirs.pix_to_face >= 0
    assert reference.sum() > 500
    assert (covered != reference).sum() <= 2
    same = (ours.pix_to_face == theirs.pix_to_face) & covered
    assert (~same & covered).sum() <= 0.001 * covered.sum() + 2
    assert (ours.zbuf[same] / theirs.zbuf[same] - 1).abs().max() < 1e-5
    difference = (ours.bary_coords[same] - theirs.bary_coords[same]).abs().max(-1)[0]
    assert difference.quantile(0.99) < 1e-4
    assert difference.max() < 2e-3  # on faces of a few hundredths of a pixel


@pytest.mark.pytorch3d
def test_pytorch3d_gives_the_same_fragments_of_crossing_broken_and_masked_faces(rng):
    pytest.importorskip("pytorch3d")
    size = (48, 64)
    vertices = torch.cat([triangle_soup(rng, 40), triangle_soup(rng, 40)])
    vertices[1, :, 2] -= 1.5
    vertices[0, 4] = float("nan")
    faces, intrinsics = soup_faces(vertices), camera(size).repeat(2, 1, 1)
    mask = torch.tensor(rng.random((2, len(faces))) > 0.2)
    ours = rasterize(vertices, faces, intrinsics, size, face_mask=mask)
    theirs = rasterize(vertices, faces, intrinsics, size, face_mask=mask, backend="pytorch3d")
    same = ours.pix_to_face == theirs.pix_to_face
    assert (~same).float().mean() < 0.003
    covered = same & (ours.pix_to_face >= 0)
    assert (ours.zbuf[covered] / theirs.zbuf[covered] - 1).abs().max() < 1e-4


@pytest.mark.pytorch3d
def test_pytorch3ds_own_output_is_our_pytorch3d_layout(free_body):
    pytest.importorskip("pytorch3d")
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    from posefit.rasterizer.pytorch3d_backend import to_ndc

    size = (60, 90)
    vertices = free_body.v_template * torch.tensor([1.0, -1.0, -1.0]) + torch.tensor([0, 0, 2.6])
    batch, intrinsics = vertices.repeat(2, 1, 1), camera(size, 0.5).repeat(2, 1, 1)
    faces = free_body.faces.expand(2, -1, -1)
    theirs = rasterize_meshes(
        Meshes(verts=to_ndc(batch, intrinsics, size), faces=faces),
        image_size=size,
        faces_per_pixel=1,
        perspective_correct=True,
    )
    ours = rasterize(batch, free_body.faces, intrinsics, size).as_pytorch3d(faces.shape[1])
    for found, expected in zip(ours[:3], theirs[:3], strict=True):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
    assert (ours.pix_to_face != theirs[0]).sum() <= 4
    assert (ours.pix_to_face[1] >= faces.shape[1]).any()


@pytest.mark.gpu
def test_cuda_gives_the_fragments_of_the_cpu(rng):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    vertices = torch.cat([triangle_soup(rng, 400), triangle_soup(rng, 400)])
    vertices[1, :, 2] -= 1.5
    faces, intrinsics = soup_faces(vertices), camera((64, 80)).repeat(2, 1, 1)
    expected = rasterize(vertices, faces, intrinsics, (64, 80))
    found = rasterize(vertices.cuda(), faces.cuda(), intrinsics.cuda(), (64, 80))
    same = found.pix_to_face.cpu() == expected.pix_to_face
    assert (~same).float().mean() < 1e-3
    covered = same & (expected.pix_to_face >= 0)
    assert torch.allclose(
        found.bary_coords.cpu()[covered], expected.bary_coords[covered], atol=1e-4
    )
