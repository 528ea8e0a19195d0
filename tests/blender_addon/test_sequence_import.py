# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes in with a sequence, and files that cannot come in."""

import numpy as np
import pytest
from scene_makers import (
    camera_fields,
    evaluated_vertices,
    random_sequence,
    skin,
    write_footage,
    write_movie,
)

from posefit_shared import frames
from posefit_shared.sequence import write_sequence

pytestmark = pytest.mark.bpy


def import_file(path, **options):
    import bpy

    return bpy.ops.posefit.import_sequence(filepath=str(path), **options)


def test_scene_gets_the_footages_rate_size_and_range(context, rng, tmp_path):
    motion = random_sequence(
        rng, count=5, frame_indices=np.arange(3, 8), mocap_framerate=50.0, **camera_fields(rng)
    )
    write_sequence(tmp_path / "a.npz", motion)
    movie = write_movie(tmp_path / "clip.mp4", 8, (320, 240))
    assert import_file(tmp_path / "a.npz", footage=str(movie)) == {"FINISHED"}
    scene = context.scene
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (4, 8, 4)
    assert (scene.render.resolution_x, scene.render.resolution_y) == (320, 240)
    assert scene.render.fps / scene.render.fps_base == pytest.approx(scene.active_clip.fps)
    background = scene.camera.data.background_images[0]
    assert background.clip == scene.active_clip
    assert scene.camera.data.show_background_images


def test_a_lens_distortion_is_kept_on_the_camera(context, rng):
    from blender_addon.scenes import scene_camera
    from blender_addon.sequences import sequence_import

    distortion = np.array([0.1, -0.02, 0.001, 0.002, 0.003])
    motion = random_sequence(rng, count=1, distortion=distortion, **camera_fields(rng))
    imported = sequence_import.import_sequence(
        context, motion, sequence_import.ImportOptions("Shot")
    )
    assert scene_camera.read_distortion(imported.camera) == pytest.approx(distortion)


def test_zooming_lenses_are_keyed(context, rng):
    from blender_addon.sequences import sequence_import

    fields = camera_fields(rng, 3)
    zoom = np.stack([fields["intrinsics"] * (f, f, 1) for f in (1.0, 1.2, 1.5)])
    zoom[:, :2, 2] = fields["intrinsics"][:2, 2]
    motion = random_sequence(rng, count=3, **(fields | {"intrinsics": zoom}))
    imported = sequence_import.import_sequence(
        context, motion, sequence_import.ImportOptions("Shot")
    )
    lenses = []
    for frame in (1, 2, 3):
        context.scene.frame_set(frame)
        lenses.append(imported.camera.data.lens)
    assert np.array(lenses) / lenses[0] == pytest.approx([1.0, 1.2, 1.5], rel=1e-5)


def test_a_world_without_up_is_stood_upright_and_looks_the_same(context, rng, body):
    from blender_addon.rigs import body_builder
    from blender_addon.sequences import sequence_import

    fields = camera_fields(rng) | {"world_to_camera": np.eye(4)}
    motion = random_sequence(rng, count=1, world="camera", **fields)
    motion = motion.replace(trans=np.array([[0.1, 0.2, 4.0]], np.float32))
    imported = sequence_import.import_sequence(
        context, motion, sequence_import.ImportOptions("Shot")
    )
    assert any("up" in note for note in imported.notes)
    matrix = np.array(imported.camera.matrix_world)
    assert matrix[:3, 1] == pytest.approx((0, 0, 1), abs=1e-6)  # the camera's up is the world's
    shown = evaluated_vertices(body_builder.mesh_of(imported.armature))
    seen = frames.apply(frames.blender_to_opencv_camera(matrix), shown)
    expected = skin(body, motion.betas, motion.poses[0], motion.trans[0])
    assert np.abs(seen - expected).max() < 2e-4


def _other_size(folder, rng):
    write_sequence(folder / "a.npz", random_sequence(rng, count=1, **camera_fields(rng)))
    return {"footage": str(write_footage(folder / "small", 2, (64, 48)))}


def _no_footage(folder, rng):
    write_sequence(folder / "a.npz", random_sequence(rng, count=1, **camera_fields(rng)))
    return {"footage": str(folder / "nowhere.mp4")}


def _empty_folder(folder, rng):
    write_sequence(folder / "a.npz", random_sequence(rng, count=1, **camera_fields(rng)))
    (folder / "empty").mkdir()
    return {"footage": str(folder / "empty")}


def _broken_video(folder, rng):
    write_sequence(folder / "a.npz", random_sequence(rng, count=1, **camera_fields(rng)))
    (folder / "broken.mp4").write_bytes(b"no film")
    return {"footage": str(folder / "broken.mp4")}


def _other_model(folder, rng):
    write_sequence(folder / "a.npz", random_sequence(rng, count=1, joints=52))
    return {}


def _not_a_number(folder, rng):
    poses = np.zeros((2, 72), np.float32)
    poses[1, 3] = np.nan
    np.savez(folder / "a.npz", poses=poses, trans=np.zeros((2, 3), np.float32))
    return {}


def _newer(folder, rng):
    np.savez(folder / "a.npz", poses=np.zeros((2, 72)), trans=np.zeros((2, 3)), posefit_schema=9)
    return {}


def _no_body(folder, rng):
    write_sequence(folder / "a.npz", random_sequence(rng, count=1))
    return {"body_file": str(folder / "nobody.npz")}


def _nothing(folder, rng):
    return {}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (_other_size, "64 x 48 pixels, the sequence's camera is for 320 x 240"),
        (_no_footage, "is not there"),
        (_empty_folder, "holds no images"),
        (_broken_video, "cannot read the footage"),
        (_other_model, "poses 52 joints"),
        (_not_a_number, "NaN or infinity"),
        (_newer, "schema 9"),
        (_no_body, "nobody.npz"),
        (_nothing, "no sequence file"),
    ],
)
def test_a_file_that_cannot_come_in_says_why_and_leaves_nothing(
    context, rng, tmp_path, prepare, words
):
    import bpy

    options = prepare(tmp_path, rng)
    with pytest.raises(RuntimeError, match=words):
        import_file(tmp_path / "a.npz", **options)
    assert not list(bpy.data.objects)
    assert not list(bpy.data.actions)
