# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backend sees of a body comes back as images of the file."""

import numpy as np
import pytest
from scene_makers import evaluated_vertices
from scripted_backend import ScriptedBackend
from session_makers import add_shot
from test_session import connect, finished, session, step_until

from posefit_shared import frames
from posefit_shared.messages import Failure
from posefit_shared.payloads import PreviewResult

__all__ = ["session"]

pytestmark = pytest.mark.bpy

SHIFTS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


@pytest.fixture
def shot(context, tmp_path):
    armature = add_shot(tmp_path)
    context.scene.frame_set(5)
    return armature


def backend(answer):
    return ScriptedBackend(answer=answer, kinds=("refine", "preview"))


def painted(request):
    """Pictures whose first row, and whose first column, are told from the others."""
    width, height = request.image_size
    images = np.zeros((len(request.modalities), height, width, 4), np.uint8)
    images[:, 0, :, 0] = 255
    images[:, :, 0, 1] = 255
    images[..., 2] = (np.arange(len(images)) * 50)[:, None, None]
    images[..., 3] = 255
    return PreviewResult(request.modalities, images)


def add_filmed_body(context):
    """A posed body before a camera without footage; gives back its armature."""
    import bpy

    bpy.ops.posefit.add_body()
    armature = context.object
    armature.pose.bones["L_Shoulder"].rotation_quaternion = (0.8, 0.0, 0.0, 0.6)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    context.collection.objects.link(camera)
    camera.location, camera.rotation_euler = (0.3, -4.0, 1.2), (1.5, 0.05, 0.1)
    context.scene.camera = camera
    context.scene.render.resolution_x, context.scene.render.resolution_y = 320, 240
    context.view_layer.update()
    return armature


def pixels(image):
    values = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(values)
    return values.reshape(image.size[1], image.size[0], 4)


def test_each_picture_becomes_an_image_the_right_way_up(context, shot, session):
    import bpy

    with backend(painted) as there:
        connect(session, there)
        assert bpy.ops.posefit.show_renderings() == {"FINISHED"}
        job = finished(session)
    assert not job.is_problem
    assert job.words.startswith("frame 5 is rendered, see the image editor: posefit rgb, ")
    for number, name in enumerate(("rgb", "depth", "normals", "vertex colors", "mask")):
        image = bpy.data.images[f"posefit {name}"]
        assert tuple(image.size) == (320, 240)
        found = pixels(image)
        assert (found[-1, :, 0] == 1).all()  # Blender's last row is the upper one
        assert (found[:-1, :, 0] == 0).all()
        assert (found[:, 0, 1] == 1).all()
        assert found[5, 5, 2] == pytest.approx(number * 50 / 255, abs=1e-3)
        assert image.packed_file is not None


def test_the_backend_is_asked_for_the_frame_as_it_is_shown(context, shot, session):
    import bpy
    from bpy_extras.object_utils import world_to_camera_view

    shot.pose.bones["L_Elbow"].rotation_quaternion = (0.8, 0.6, 0.0, 0.0)  # not keyed
    context.view_layer.update()
    with backend(painted) as there:
        connect(session, there)
        bpy.ops.posefit.show_renderings(modalities={"normals"}, wait=True)
    (request,) = there.requests
    assert request.modalities == ("normals",)
    assert len(request.sequence) == 1
    # Where the camera of the request sees a point of the body is where Blender's own sees it.
    camera = frames.Camera(request.intrinsics, request.world_to_camera, request.image_size)
    hand = shot.matrix_world @ shot.pose.bones["L_Hand"].head
    seen, _ = frames.project(camera, np.array([hand]))
    share = world_to_camera_view(context.scene, context.scene.camera, hand)
    wanted = share.x * 320, (1 - share.y) * 240
    assert seen[0] == pytest.approx(wanted, abs=0.05)
    assert request.body == "free"


def test_pictures_are_made_smaller_with_their_camera(context, shot, session):
    import bpy

    with backend(painted) as there:
        connect(session, there)
        bpy.ops.posefit.show_renderings(longest_side=80, wait=True)
        small = there.requests[0]
        bpy.ops.posefit.show_renderings(wait=True)
        whole = there.requests[1]
    assert small.image_size == (80, 60)
    assert small.intrinsics[:2] == pytest.approx(whole.intrinsics[:2] / 4)
    image = bpy.data.images["posefit rgb"]
    assert tuple(image.size) == (320, 240)
    assert len([i for i in bpy.data.images if i.name.startswith("posefit")]) == 5


def test_a_body_without_footage_is_rendered_too(context, session):
    import bpy

    add_filmed_body(context)
    with backend(painted) as there:
        connect(session, there)
        assert bpy.ops.posefit.show_renderings(wait=True) == {"FINISHED"}
    assert there.requests[0].image_size == (320, 240)


def test_what_is_missing_or_fails_is_said_in_words(context, shot, session):
    import bpy

    assert not bpy.ops.posefit.show_renderings.poll()
    with backend(lambda request: Failure("memory", "the device is full")) as there:
        connect(session, there)
        with pytest.raises(RuntimeError, match="the device is full"):
            bpy.ops.posefit.show_renderings(wait=True)
        with pytest.raises(RuntimeError, match="no picture is chosen"):
            bpy.ops.posefit.show_renderings(modalities=set())
        context.scene.camera = None
        with pytest.raises(RuntimeError, match="the scene has no camera"):
            bpy.ops.posefit.show_renderings()
    assert not any(image.name.startswith("posefit") for image in bpy.data.images)


def test_a_backend_that_cannot_render_is_not_asked(context, shot, session):
    import bpy

    with ScriptedBackend(answer=painted) as there:
        connect(session, there)
        assert not bpy.ops.posefit.show_renderings.poll()


@pytest.mark.slow
def test_the_real_engine_renders_the_body_where_blender_shows_it(
    context, session, backend_python, tmp_path
):
    import bpy
    import mathutils
    from bpy_extras.object_utils import world_to_camera_view

    armature = add_filmed_body(context)
    session.start_backend(backend_python, [tmp_path], tmp_path / "backend")
    step_until(session, lambda: session.knows("preview"), 120)
    assert bpy.ops.posefit.show_renderings(wait=True) == {"FINISHED"}
    mask = pixels(bpy.data.images["posefit mask"])[..., 0] > 0.5
    mesh = next(item for item in armature.children if item.type == "MESH")
    camera = context.scene.camera
    points = [mathutils.Vector(point) for point in evaluated_vertices(mesh)]
    seen = [world_to_camera_view(context.scene, camera, point) for point in points]
    places = np.array([(point.x * 320, point.y * 240) for point in seen])
    inside = ((places > 0) & (places < (320, 240))).all(-1)
    columns, rows = places[inside].astype(int).T
    assert inside.sum() > 1000
    # Vertices at the very outline miss it by half a pixel; moved by a whole one, far more do.
    hit = {shift: np.roll(mask, shift, (0, 1))[rows, columns].mean() for shift in SHIFTS}
    assert max(hit, key=hit.get) == (0, 0)
    assert hit[0, 0] > 0.9
    assert np.abs(np.flatnonzero(mask.any(0))[[0, -1]] - [columns.min(), columns.max()]).max() <= 2
    assert np.abs(np.flatnonzero(mask.any(1))[[0, -1]] - [rows.min(), rows.max()]).max() <= 2
    normals = pixels(bpy.data.images["posefit normals"])
    assert np.ptp(normals[mask][:, :3], axis=0).min() > 0.3
    assert (normals[~mask] == 0).all()
