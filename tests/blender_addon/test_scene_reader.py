# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from a scene is what was put in: poses, camera, frames of the footage."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scene_makers import camera_fields, evaluated_vertices, random_sequence, skin, write_footage

from posefit_shared import frames, rotations

pytestmark = pytest.mark.bpy


@pytest.fixture
def shot(context, tmp_path):
    """An imported sequence with a moving camera and twelve frames of footage."""
    return make_shot(context, tmp_path)


def make_shot(context, folder, moving=True, count=6, first=4):
    from blender_addon.sequences import sequence_import

    rng = np.random.default_rng(8)
    motion = random_sequence(
        rng,
        count=count,
        betas=rng.normal(size=10).astype(np.float32),
        frame_indices=np.arange(2, 2 + count),
        mocap_framerate=29.97,
        **camera_fields(rng, count, moving),
    )
    options = sequence_import.ImportOptions(
        "Shot", footage=write_footage(folder / "footage"), first_scene_frame=first
    )
    return motion, sequence_import.import_sequence(context, motion, options)


def assert_same_motion(found, expected):
    assert np.abs(
        rotations.rotvec_to_matrix(found.poses) - rotations.rotvec_to_matrix(expected.poses)
    ).max() == pytest.approx(0, abs=2e-5)
    assert found.trans == pytest.approx(expected.trans, abs=2e-5)


@pytest.mark.parametrize("moving", [False, True])
def test_a_sequence_comes_back_as_it_went_in(context, tmp_path, moving):
    from blender_addon.scenes import scene_reader

    motion, imported = make_shot(context, tmp_path, moving)
    request = scene_reader.read_now(context, imported.armature, range(6, 12))
    found = request.sequence
    assert_same_motion(found, motion)
    assert found.frame_indices.tolist() == [2, 3, 4, 5, 6, 7]
    assert found.betas == pytest.approx(motion.betas)
    assert found.mocap_framerate == pytest.approx(29.97, rel=1e-5)
    assert found.image_size == motion.image_size
    assert request.footage == tmp_path / "footage"
    for t in range(len(motion)):
        one, other = found.camera(t), motion.camera(t)
        assert one.intrinsics == pytest.approx(other.intrinsics, abs=2e-3)
        assert one.world_to_camera == pytest.approx(other.world_to_camera, abs=2e-5)


def test_reading_curves_equals_reading_frame_by_frame(context, shot):
    from blender_addon.scenes import scene_reader

    _, imported = shot
    sampled = scene_reader.read_now(context, imported.armature, range(6, 12)).sequence
    # A constraint that does nothing still makes the reader ask Blender.
    constraint = imported.armature.pose.bones["L_Elbow"].constraints.new("LIMIT_SCALE")
    evaluated = scene_reader.read_now(context, imported.armature, range(6, 12)).sequence
    assert constraint.influence == 1
    assert_same_motion(evaluated, sampled)
    assert evaluated.world_to_camera == pytest.approx(sampled.world_to_camera, abs=1e-5)


def test_constraints_are_read_as_they_act(context, shot):
    from blender_addon.scenes import scene_reader

    motion, imported = shot
    constraint = imported.armature.pose.bones["L_Elbow"].constraints.new("LIMIT_ROTATION")
    constraint.owner_space = "LOCAL"
    constraint.use_limit_x = constraint.use_limit_y = constraint.use_limit_z = True
    found = scene_reader.read_now(context, imported.armature, range(6, 9)).sequence
    assert np.abs(found.poses[:, 18]).max() < 1e-5
    assert found.poses[:, 19] == pytest.approx(motion.poses[:3, 19], abs=1e-4)


def test_the_frame_is_restored_also_after_an_error(context, shot):
    from blender_addon.rigs import rig
    from blender_addon.scenes import frame_stepping, scene_reader

    _, imported = shot
    imported.armature.pose.bones["L_Elbow"].constraints.new("LIMIT_SCALE")
    context.scene.frame_set(8, subframe=0.25)
    scene_reader.read_now(context, imported.armature, range(6, 12))
    assert (context.scene.frame_current, context.scene.frame_subframe) == (8, 0.25)
    with pytest.raises(rig.SceneError), frame_stepping.at_frame(context.scene, 6):
        raise rig.SceneError("stop")
    assert (context.scene.frame_current, context.scene.frame_subframe) == (8, 0.25)


def test_a_posed_but_unkeyed_bone_is_read_at_the_current_frame(context, shot):
    from blender_addon.scenes import scene_reader

    _, imported = shot
    context.scene.frame_set(7)
    before = scene_reader.read_now(context, imported.armature, [7]).sequence
    imported.armature.pose.bones["Neck"].rotation_quaternion = (0.8, 0.6, 0, 0)
    context.view_layer.update()
    after = scene_reader.read_now(context, imported.armature, [7]).sequence
    changed = np.abs(after.poses - before.poses).max(axis=(0, 2)) > 1e-4
    assert [i for i in range(24) if changed[i]] == [12]


@pytest.mark.parametrize("mode", ["XYZ", "ZYX", "YXZ", "AXIS_ANGLE"])
def test_rotation_modes_mean_the_same(context, shot, mode):
    from blender_addon.keys import fcurves, transform_sampling
    from blender_addon.scenes import scene_reader

    _, imported = shot
    bone = imported.armature.pose.bones["L_Knee"]
    bone.rotation_mode = mode
    if mode == "AXIS_ANGLE":
        bone.rotation_axis_angle = (0.7, 0.2, -0.9, 0.4)
    else:
        bone.rotation_euler = (0.4, -1.1, 0.8)
    context.view_layer.update()
    prefix = transform_sampling.bone_prefix(bone.name)
    curves = fcurves.curves_of(imported.armature)
    found = transform_sampling.basis_matrices(bone, prefix, curves, [5])
    assert found[0] == pytest.approx(np.array(bone.matrix_basis), abs=1e-6)
    scene_reader.read_now(context, imported.armature, range(6, 9))


def test_a_scaled_turned_and_parented_armature_shows_the_same_person(context, shot):
    import bpy
    from blender_addon.scenes import scene_reader

    _, imported = shot
    holder = bpy.data.objects.new("Holder", None)
    context.collection.objects.link(holder)
    holder.scale = (2.5,) * 3
    holder.location, holder.rotation_euler = (3, 1, -2), (0.3, 0.2, 1.4)
    imported.armature.parent = holder
    imported.armature.location = (0.2, 0.4, 0.1)
    context.view_layer.update()
    from blender_addon.rigs import body_builder

    from posefit_shared import body_files

    request = scene_reader.read_now(context, imported.armature, range(6, 12))
    found = request.sequence
    assert request.frames.units_per_metre == pytest.approx(2.5, rel=1e-5)
    context.scene.frame_set(9)
    shown = evaluated_vertices(body_builder.mesh_of(imported.armature))
    body = body_files.read_body("free")
    rebuilt = skin(body, found.betas, found.poses[3], found.trans[3])
    pixels, depth = frames.project(found.camera(3), rebuilt)
    matrix = np.array(context.scene.camera.matrix_world)
    blender = frames.Camera(
        found.camera(3).intrinsics, frames.blender_to_opencv_camera(matrix), found.image_size
    )
    expected, expected_depth = frames.project(blender, shown)
    assert depth * 2.5 == pytest.approx(expected_depth, abs=1e-3)
    assert np.abs(pixels - expected)[depth > 1].max() < 0.02


def test_intrinsics_are_those_of_blenders_own_projection(context, shot):
    from blender_addon.scenes import scene_reader
    from bpy_extras.object_utils import world_to_camera_view
    from mathutils import Vector

    _, imported = shot
    context.scene.frame_set(8)
    camera = scene_reader.read_now(context, imported.armature, [8]).sequence.camera(0)
    inverse = frames.invert(camera.world_to_camera)
    for point_camera in ([0.3, -0.4, 4.0], [-1.0, 0.2, 3.0], [0.0, 0.0, 2.0]):
        point = frames.apply(inverse, point_camera)
        pixels, _ = frames.project(camera, point)
        shown = world_to_camera_view(context.scene, context.scene.camera, Vector(point))
        width, height = camera.image_size
        assert pixels == pytest.approx((shown.x * width, (1 - shown.y) * height), abs=1e-2)


@pytest.mark.parametrize("fit", ["FIT", "CROP", "STRETCH"])
def test_a_render_size_unlike_the_footage_keeps_its_middle_in_the_middle(fit):
    from blender_addon.scenes import scene_camera, scene_footage

    footage = scene_footage.SceneFootage(Path("a"), (320, 240), 1.0, 1, 0, 10)
    matrix = scene_camera.render_to_footage((1920, 1080), (1.0, 1.0), footage, fit)
    assert matrix @ (960, 540, 1) == pytest.approx((160, 120, 1))
    corner = matrix @ (0, 0, 1)
    expected = {"FIT": (160 - 960 / 4.5, 0), "CROP": (0, 120 - 540 / 6), "STRETCH": (0, 0)}[fit]
    assert corner[:2] == pytest.approx(expected)


def test_frames_of_an_image_sequence_follow_start_offset_and_file_numbers(context, tmp_path):
    import bpy
    from blender_addon.rigs import rig
    from blender_addon.scenes import scene_footage
    from blender_addon.sequences import sequence_import

    folder = write_footage(tmp_path / "numbered", count=8, first_number=37)
    clip = sequence_import.load_clip(folder)
    camera = bpy.data.objects.new("C", bpy.data.cameras.new("C"))
    sequence_import.show_footage(context.scene, camera, clip, 100)
    footage = scene_footage.read_footage(context.scene, camera)
    assert [footage.decoded_frame(f) for f in (100, 103, 107)] == [0, 3, 7]
    clip.frame_offset = 2
    footage = scene_footage.read_footage(context.scene, camera)
    assert footage.decoded_frame(100) == 2
    assert footage.scene_range == (98, 105)
    with pytest.raises(rig.SceneError, match="frame 106 lies outside the footage"):
        footage.decoded_frame(106)


def test_a_background_image_sequence_is_read_by_its_file_numbers(context, tmp_path):
    import bpy
    from blender_addon.scenes import scene_footage

    folder = write_footage(tmp_path / "seq", count=5, first_number=11)
    image = bpy.data.images.load(str(folder / "frame_0011.png"))
    image.source = "SEQUENCE"
    camera = bpy.data.objects.new("C", bpy.data.cameras.new("C"))
    background = camera.data.background_images.new()
    background.image = image
    background.image_user.frame_start = 50
    background.image_user.frame_offset = 10
    background.image_user.frame_duration = 5
    footage = scene_footage.read_footage(context.scene, camera)
    assert footage.image_size == (320, 240)
    assert [footage.decoded_frame(f) for f in (50, 52)] == [0, 2]


def _no_camera(context, imported):
    context.scene.camera = None


def _no_footage(context, imported):
    context.scene.active_clip = None
    context.scene.camera.data.background_images.clear()


def _missing_footage(context, imported):
    import bpy

    shutil.rmtree(Path(bpy.data.movieclips[0].filepath).parent)


def _broken_footage(context, imported):
    import bpy

    broken = Path(bpy.data.movieclips[0].filepath).with_name("broken.mp4")
    broken.write_bytes(b"no film")
    background = context.scene.camera.data.background_images[0]
    background.clip = bpy.data.movieclips.load(str(broken))


def _orthographic(context, imported):
    context.scene.camera.data.type = "ORTHO"


def _zero_scale(context, imported):
    imported.armature.scale = (0, 0, 0)


def _renamed_bone(context, imported):
    imported.armature.data.bones["L_Knee"].name = "Knie"


def _turned_background(context, imported):
    context.scene.camera.data.background_images[0].rotation = 0.2


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_no_camera, "no camera"),
        (_no_footage, "has no footage"),
        (_missing_footage, "is not there"),
        (_broken_footage, "cannot read the footage"),
        (_orthographic, "perspective"),
        (_zero_scale, "scale is zero"),
        (_renamed_bone, "no bones found for left_knee"),
        (_turned_background, "turned or flipped"),
    ],
)
def test_a_scene_that_cannot_be_read_says_why(context, shot, spoil, words):
    from blender_addon.rigs import rig
    from blender_addon.scenes import scene_reader

    _, imported = shot
    spoil(context, imported)
    context.view_layer.update()
    with pytest.raises(rig.SceneError, match=words):
        scene_reader.read_now(context, imported.armature, range(6, 8))


def test_frames_outside_the_footage_are_refused(context, shot):
    from blender_addon.rigs import rig
    from blender_addon.scenes import scene_reader

    _, imported = shot
    with pytest.raises(rig.SceneError, match="covers frames 4 to 15"):
        scene_reader.read_now(context, imported.armature, [15, 16])


def test_long_constrained_ranges_are_read_in_slices(context, shot):
    from blender_addon.scenes import scene_reader

    _, imported = shot
    imported.armature.pose.bones["L_Elbow"].constraints.new("LIMIT_SCALE")
    context.scene.frame_set(5)
    reading = scene_reader.read_range(context, imported.armature, [6, 7, 8] * 40)
    slices = 0
    for share in reading:
        slices += 1
        assert 0 <= share <= 1
        assert context.scene.frame_current == 5  # given back between slices
    assert slices >= 1


def frame_shown(grey, count=8):
    return grey * (count + 1) - 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["movie", "images"])
def test_a_movie_clips_decoded_frame_is_the_one_that_blender_shows(context, tmp_path, kind):
    import bpy
    from blender_addon.scenes import scene_footage
    from blender_addon.sequences import sequence_import
    from scene_makers import shown_grey, write_movie

    if kind == "movie":
        path = write_movie(tmp_path / "clip.mp4")
    else:
        path = write_footage(tmp_path / "images", 8, (64, 48), first_number=37)
    clip = sequence_import.load_clip(path)
    camera = bpy.data.objects.new("C", bpy.data.cameras.new("C"))
    sequence_import.show_footage(context.scene, camera, clip, 100)
    for offset, frame in ((0, 100), (0, 103), (2, 100), (2, 103)):
        clip.frame_offset = offset
        footage = scene_footage.read_footage(context.scene, camera)
        node = {"clip": clip}
        grey = shown_grey(context.scene, tmp_path, "CompositorNodeMovieClip", node, frame)
        assert frame_shown(grey) == pytest.approx(footage.decoded_frame(frame), abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["movie", "images"])
def test_a_background_images_decoded_frame_is_the_one_that_blender_shows(context, tmp_path, kind):
    import bpy
    from blender_addon.scenes import scene_footage
    from scene_makers import shown_grey, write_movie

    if kind == "movie":
        image = bpy.data.images.load(str(write_movie(tmp_path / "clip.mp4")))
        offsets = (0, 3)
    else:
        folder = write_footage(tmp_path / "images", 8, (64, 48), first_number=37)
        image = bpy.data.images.load(str(folder / "frame_0037.png"))
        image.source = "SEQUENCE"
        offsets = (36, 39)
    camera = bpy.data.objects.new("C", bpy.data.cameras.new("C"))
    background = camera.data.background_images.new()
    background.image = image
    for offset, frame in ((offsets[0], 50), (offsets[0], 52), (offsets[1], 51)):
        timing = {"frame_start": 50, "frame_offset": offset, "frame_duration": 8}
        for name, value in timing.items():
            setattr(background.image_user, name, value)
        footage = scene_footage.read_footage(context.scene, camera)
        node = {"image": image, **timing}
        grey = shown_grey(context.scene, tmp_path, "CompositorNodeImage", node, frame)
        assert frame_shown(grey) == pytest.approx(footage.decoded_frame(frame), abs=0.2)
