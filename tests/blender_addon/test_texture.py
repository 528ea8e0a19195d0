# SPDX-License-Identifier: GPL-3.0-or-later
"""The person's texture is an image of the file; refining uses it as it is painted now."""

import hashlib

import numpy as np
import pytest
from scripted_backend import ScriptedBackend, turned_result
from session_makers import add_shot, connect, finished
from test_session import session

from posefit_shared.payloads import PreviewResult, RefineRequest, TextureRequest, TextureResult
from posefit_shared.slices import to_end

__all__ = ["session"]

pytestmark = pytest.mark.bpy

SIDE = 8


@pytest.fixture
def shot(context, tmp_path):
    return add_shot(tmp_path)


def painted():
    """A map whose rows and columns can be told apart, half of it seen."""
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    rgb[..., 0] = np.arange(SIDE)[:, None] * 20
    rgb[..., 1] = np.arange(SIDE) * 20
    coverage = np.zeros((SIDE, SIDE), np.float32)
    coverage[: SIDE // 2] = 1.0
    return TextureResult(rgb, coverage, "ab" * 16)


def answer(request):
    if isinstance(request, TextureRequest):
        return painted()
    if isinstance(request, RefineRequest):
        return turned_result(request)
    width, height = request.image_size
    images = np.full((len(request.modalities), height, width, 4), 255, np.uint8)
    return PreviewResult(request.modalities, images)


@pytest.fixture
def backend(session):
    with ScriptedBackend(answer=answer, kinds=("refine", "texture", "preview")) as there:
        connect(session, there)
        yield there
        session.disconnect()


def build(shot, session, frames="4, 6-7"):
    import bpy

    shot.posefit_texture_frames = frames
    assert bpy.ops.posefit.build_texture(resolution=64) == {"FINISHED"}
    return finished(session)


def test_the_texture_becomes_an_image_and_the_mesh_is_not_touched(shot, session, backend):
    from blender_addon.rigs import body_builder
    from blender_addon.scenes import texture_image

    job = build(shot, session)
    assert job.words == "texture Shot.texture is painted, 50% of it was seen in the footage"
    assert backend.requests[0].sequence.frame_indices.tolist() == [1, 3, 4]
    image = shot.posefit_texture
    assert image.name == "Shot.texture"
    assert image.alpha_mode == "CHANNEL_PACKED"  # colours beyond what was seen stay
    assert image.packed_file is not None
    found = texture_image.read_texture(shot)
    assert np.array_equal(found.rgba[..., :3], painted().rgb)
    assert np.array_equal(found.rgba[..., 3] == 255, painted().coverage == 1)
    assert found.uv_hash == painted().uv_hash
    assert not body_builder.mesh_of(shot).data.materials


def test_what_is_painted_over_is_what_refining_and_renderings_use(shot, session, backend):
    import bpy
    from blender_addon.scenes import texture_image

    build(shot, session)
    pixels = np.array(shot.posefit_texture.pixels[:]).reshape(SIDE, SIDE, 4)
    pixels[0, 0] = (0.0, 0.0, 1.0, 1.0)  # Blender's first row is the lowest
    shot.posefit_texture.pixels.foreach_set(pixels.astype(np.float32).ravel())
    assert bpy.ops.posefit.refine_frame() == {"FINISHED"}
    assert not finished(session).is_problem
    now = texture_image.read_texture(shot)
    assert now.rgba[-1, 0].tolist() == [0, 0, 255, 255]
    wanted = hashlib.sha256(to_end(now.png_slices())).hexdigest()
    assert backend.requests[1].texture == wanted
    assert bpy.ops.posefit.show_renderings() == {"FINISHED"}
    finished(session)
    assert backend.requests[2].texture == wanted
    shot.posefit_texture = None
    assert bpy.ops.posefit.refine_frame() == {"FINISHED"}
    finished(session)
    assert backend.requests[3].texture is None


def test_a_texture_that_is_built_anew_replaces_what_was_painted(shot, session, backend):
    build(shot, session)
    image = shot.posefit_texture
    before = np.array(image.pixels[:])
    image.scale(2 * SIDE, SIDE)
    image.pixels.foreach_set(np.full(4 * 2 * SIDE * SIDE, 0.5, np.float32))
    build(shot, session)
    assert shot.posefit_texture == image
    assert tuple(image.size) == (SIDE, SIDE)
    assert np.array(image.pixels[:]) == pytest.approx(before)
    assert image.packed_file is not None
    assert not image.is_dirty


def test_the_png_is_one_that_others_read(context, tmp_path):
    import bpy
    from blender_addon.scenes.texture_image import TexturePicture

    rgba = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    data = to_end(TexturePicture(rgba, "12ab").png_slices())
    assert b"posefit uv hash\x0012ab" in data
    path = tmp_path / "texture.png"
    path.write_bytes(data)
    image = bpy.data.images.load(str(path))
    image.alpha_mode = "CHANNEL_PACKED"
    found = np.array(image.pixels[:]).reshape(5, 7, 4)[::-1]
    assert np.array_equal(np.round(found * 255), rgba)


def test_painting_over_adds_nothing_to_the_mesh(context, shot, session, backend):
    import bpy
    from blender_addon.rigs import body_builder

    assert not bpy.ops.posefit.paint_texture.poll()
    build(shot, session)
    assert bpy.ops.posefit.paint_texture() == {"FINISHED"}
    mesh = body_builder.mesh_of(shot)
    assert (mesh.mode, context.object) == ("TEXTURE_PAINT", mesh)
    assert context.scene.tool_settings.image_paint.canvas == shot.posefit_texture
    assert not mesh.data.materials
    bpy.ops.object.mode_set(mode="OBJECT")


def test_the_body_wears_it_in_the_viewport(context, shot, session, backend):
    from blender_addon.overlays import overlay, overlay_shapes
    from blender_addon.overlays.mesh_skin import SkinCache
    from blender_addon.rigs import body_builder

    build(shot, session)
    settings = context.scene.posefit_review
    settings.use_texture = True
    assert overlay.is_wanted(settings)
    assert overlay.has_something(shot)
    graph = context.evaluated_depsgraph_get()
    (shape,) = overlay_shapes.shapes_of(context, graph, shot, SkinCache())
    mesh = body_builder.mesh_of(shot).data
    assert shape.points.shape == (3 * len(mesh.polygons), 3)
    corner = mesh.loops[5]  # triangles: loops are corners, in order
    assert shape.coordinates[5] == pytest.approx(mesh.uv_layers[0].data[corner.index].uv)


def test_a_texture_that_cannot_be_used_is_refused_in_words(context, shot, session, backend):
    import bpy

    shot.posefit_texture = bpy.data.images.new("wide", 5000, 4)
    assert bpy.ops.posefit.refine_frame() == {"FINISHED"}
    assert "wide, the texture of Shot, is 5000 x 4" in finished(session).words
