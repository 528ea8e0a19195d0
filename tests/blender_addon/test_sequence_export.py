# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes out comes in again as the same animation, and what cannot go out says why."""

import time

import numpy as np
import pytest
from scene_makers import camera_fields, random_sequence, write_footage

from posefit_shared import frames, rotations
from posefit_shared.sequence import read_sequence, write_sequence

pytestmark = pytest.mark.bpy


def export(path, **options):
    import bpy

    return bpy.ops.posefit.export_sequence(filepath=str(path), **options)


def make_shot(context, folder, count=6, moving=True, footage=True, **fields):
    """A motion, and the armature of it in the scene."""
    from blender_addon.sequences import sequence_import

    rng = np.random.default_rng(5)
    camera = camera_fields(rng, count, moving)
    motion = random_sequence(
        rng,
        count=count,
        betas=rng.normal(size=10).astype(np.float32),
        frame_indices=np.arange(2, 2 + count),
        mocap_framerate=29.97,
        gender="female",
        **(camera | fields),
    )
    shown = write_footage(folder / "footage", count + 2) if footage else None
    options = sequence_import.ImportOptions("Shot", footage=shown)
    return motion, sequence_import.import_sequence(context, motion, options).armature


def come_in_again(path, out, **options):
    """The same file after a way through an empty scene."""
    import bpy

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert bpy.ops.posefit.import_sequence(filepath=str(path), **options) == {"FINISHED"}
    assert export(out) == {"FINISHED"}
    return read_sequence(out)


def assert_same(found, expected):
    turns = rotations.rotvec_to_matrix(expected.poses).swapaxes(-1, -2)
    between = rotations.matrix_to_rotvec(turns @ rotations.rotvec_to_matrix(found.poses))
    assert np.linalg.norm(between, axis=-1).max() < 1e-4
    assert np.abs(found.trans - expected.trans).max() < 1e-5
    assert found.betas == pytest.approx(expected.betas, abs=1e-6)
    assert found.mocap_framerate == pytest.approx(expected.mocap_framerate, rel=1e-5)
    assert found.frame_indices.tolist() == expected.frame_indices.tolist()
    assert (found.gender, found.model_type) == (expected.gender, expected.model_type)
    assert found.has_camera == expected.has_camera
    for t in range(len(expected) if expected.has_camera else 0):
        one, other = found.camera(t), expected.camera(t)
        assert one.image_size == other.image_size
        assert np.abs(one.intrinsics - other.intrinsics).max() < 1e-3
        assert np.abs(one.world_to_camera - other.world_to_camera).max() < 1e-5
        assert one.distortion == pytest.approx(other.distortion)


@pytest.mark.parametrize("moving", [False, True])
def test_a_file_that_goes_out_comes_in_as_the_same_animation(context, tmp_path, moving):
    distortion = np.array([0.1, -0.02, 0.001, 0.002, 0.003])
    motion, _ = make_shot(context, tmp_path, moving=moving, distortion=distortion)
    assert export(tmp_path / "first.npz") == {"FINISHED"}
    first = read_sequence(tmp_path / "first.npz")
    assert_same(first, motion)
    assert first.body
    again = come_in_again(
        tmp_path / "first.npz", tmp_path / "second.npz", footage=str(tmp_path / "footage")
    )
    assert_same(again, first)


def test_constraints_go_out_as_they_act(context, tmp_path):
    motion, armature = make_shot(context, tmp_path)
    constraint = armature.pose.bones["L_Elbow"].constraints.new("LIMIT_ROTATION")
    constraint.owner_space = "LOCAL"
    constraint.use_limit_x = constraint.use_limit_y = constraint.use_limit_z = True
    export(tmp_path / "a.npz")
    found = read_sequence(tmp_path / "a.npz")
    assert np.abs(found.poses[:, 18]).max() < 1e-5
    assert found.poses[:, 19] == pytest.approx(motion.poses[:, 19], abs=1e-4)
    again = come_in_again(tmp_path / "a.npz", tmp_path / "b.npz", footage=str(tmp_path / "footage"))
    assert_same(again, found)


def test_a_scaled_and_turned_armature_goes_out_in_metres(context, tmp_path):
    _, armature = make_shot(context, tmp_path)
    armature.scale = (2.5,) * 3
    armature.location, armature.rotation_euler = (0.3, 1.0, -0.2), (0.3, 0.2, 1.4)
    context.view_layer.update()
    export(tmp_path / "a.npz")
    found = read_sequence(tmp_path / "a.npz")
    again = come_in_again(tmp_path / "a.npz", tmp_path / "b.npz", footage=str(tmp_path / "footage"))
    assert_same(again, found)


def test_a_range_of_its_own_and_a_name_without_an_ending(context, tmp_path):
    motion, _ = make_shot(context, tmp_path)
    export(tmp_path / "part", use_scene_range=False, frame_start=4, frame_end=5)
    assert_same(read_sequence(tmp_path / "part.npz"), motion.slice(1, 3))


def test_without_a_camera_the_body_goes_out_alone_and_that_is_said(context, tmp_path):
    from blender_addon.session import SESSION

    motion, _ = make_shot(context, tmp_path, footage=False)
    export(tmp_path / "wanted.npz", with_camera=False)
    assert SESSION.jobs[-1].words == "6 frames written to wanted.npz"
    context.scene.camera = None
    export(tmp_path / "lacking.npz")
    words = "6 frames written to lacking.npz; without a camera, as the scene has none"
    assert SESSION.jobs[-1].words == words
    for name in ("wanted.npz", "lacking.npz"):
        found = read_sequence(tmp_path / name)
        expected = motion.replace(world_to_camera=None, intrinsics=None, image_size=None)
        assert_same(found, expected)
        assert_same(come_in_again(tmp_path / name, tmp_path / "again.npz"), found)


def test_a_camera_without_footage_goes_out_in_pixels_of_the_render(context, tmp_path):
    from blender_addon.session import SESSION
    from bpy_extras.object_utils import world_to_camera_view
    from mathutils import Vector

    _, armature = make_shot(context, tmp_path, footage=False)
    render = context.scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 900, 700, 50
    render.pixel_aspect_x, render.pixel_aspect_y = 1.0, 1.25
    export(tmp_path / "a.npz", use_scene_range=False, frame_start=-1, frame_end=4)
    assert "the camera is that of the render" in SESSION.jobs[-1].words
    found = read_sequence(tmp_path / "a.npz")
    assert found.image_size == (450, 350)
    assert found.frame_indices.tolist() == [0, 1, 2, 3, 4, 5]
    context.scene.frame_set(3)
    point = Vector((0.4, 0.1, 0.3)) + armature.matrix_world.translation
    shown = world_to_camera_view(context.scene, context.scene.camera, point)
    camera = found.camera(4)
    seen = camera.intrinsics @ frames.apply(camera.world_to_camera, np.array(point)[None])[0]
    assert seen[:2] / seen[2] == pytest.approx((shown.x * 450, (1 - shown.y) * 350), abs=0.05)


def test_one_picture_behind_the_camera_leaves_every_frame_its_own_number(context, tmp_path):
    import bpy

    motion, _ = make_shot(context, tmp_path, moving=False, footage=False)
    still = sorted(write_footage(tmp_path / "still", 1).iterdir())[0]
    background = context.scene.camera.data.background_images.new()
    background.source, background.frame_method = "IMAGE", "STRETCH"
    background.image = bpy.data.images.load(str(still))
    export(tmp_path / "a.npz")
    assert_same(read_sequence(tmp_path / "a.npz"), motion)


def test_a_long_range_is_read_in_slices_and_can_be_stopped(context, tmp_path, monkeypatch):
    from blender_addon.jobs import job_runner
    from blender_addon.scenes import body_reading

    from blender_addon import session

    _, armature = make_shot(context, tmp_path)
    armature.pose.bones["L_Elbow"].constraints.new("LIMIT_SCALE")
    monkeypatch.setattr(body_reading, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(job_runner, "SLICE_SECONDS", 1e-4)
    one = session.SESSION.export(context, armature, range(3, 9), tmp_path / "one.npz")
    two = session.SESSION.export(context, armature, range(3, 9), tmp_path / "two.npz")
    steps = 0
    while one.is_reading:
        session.SESSION.step()
        steps += 1
        if steps == 2:
            two.end("cancelled, nothing was changed")
    assert steps > 3
    session.SESSION.disconnect()  # an export needs no backend
    session.SESSION.wait_for(one, 20)
    assert len(read_sequence(tmp_path / "one.npz")) == 6
    time.sleep(0.1)
    assert not (tmp_path / "two.npz").exists()


def test_an_export_that_is_stopped_while_it_is_worked_out_writes_nothing(
    context, tmp_path, monkeypatch
):
    from blender_addon.jobs import job_runner

    from blender_addon import session

    monkeypatch.setattr(job_runner, "SLICE_SECONDS", 0.0)
    _, armature = make_shot(context, tmp_path)
    job = session.SESSION.export(context, armature, range(3, 9), tmp_path / "a.npz")
    for _ in range(100):
        session.SESSION.step()
        if job.preparing is not None:
            break
    assert job.words == "writing the file"
    session.SESSION.cancel_all()
    session.SESSION.step()
    assert not job.is_open
    assert not (tmp_path / "a.npz").exists()


def _not_smpl(context, folder):
    import bpy

    other = bpy.data.objects.new("Other", bpy.data.armatures.new("Other"))
    context.collection.objects.link(other)
    context.view_layer.objects.active = other
    return {}


def _nothing_selected(context, folder):
    context.view_layer.objects.active = None
    return {}


def _empty_range(context, folder):
    return {"use_scene_range": False, "frame_start": 5, "frame_end": 4}


def _beyond_the_footage(context, folder):
    context.scene.frame_end = 9
    return {}


def _footage_gone(context, folder):
    for image in (folder / "footage").iterdir():
        image.unlink()
    return {}


def _no_folder(context, folder):
    (folder / "a file").write_text("")
    return {"filepath": str(folder / "a file" / "out.npz")}


def _no_name(context, folder):
    return {"filepath": str(folder)}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (_not_smpl, "the armature is no SMPL rig"),
        (_nothing_selected, "Select the armature|poll"),
        (_empty_range, "the frame range is empty"),
        (_beyond_the_footage, "frame 9 lies outside the footage"),
        (_footage_gone, "is not there"),
        (_no_folder, "could not write"),
        (_no_name, "the file has no name"),
    ],
)
def test_what_cannot_go_out_says_why_and_leaves_nothing(context, tmp_path, prepare, words):
    import bpy

    make_shot(context, tmp_path)
    options = {"filepath": str(tmp_path / "a.npz")} | prepare(context, tmp_path)
    before = sorted(tmp_path.rglob("*.npz*"))
    with pytest.raises(RuntimeError, match=words) as caught:
        bpy.ops.posefit.export_sequence(**options)
    assert "Traceback" not in str(caught.value)
    assert sorted(tmp_path.rglob("*.npz*")) == before


def test_a_file_that_is_there_is_replaced_whole(context, tmp_path, rng):
    write_sequence(tmp_path / "a.npz", random_sequence(rng, count=2))
    motion, _ = make_shot(context, tmp_path)
    export(tmp_path / "a.npz")
    assert_same(read_sequence(tmp_path / "a.npz"), motion)
