# SPDX-License-Identifier: Apache-2.0
"""Frames: each conversion against a point worked out by hand, and against its inverse."""

import numpy as np
import pytest

from posefit_shared import frames, rotations
from posefit_shared.frames import Camera


def turned_camera(distortion=(0, 0, 0, 0, 0)) -> Camera:
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = rotations.rotvec_to_matrix([0.3, -0.8, 0.2])
    world_to_camera[:3, 3] = [0.1, -0.2, 4.0]
    k = np.array([[900.0, 0, 500], [0, 950, 260], [0, 0, 1]])
    return Camera(k, world_to_camera, (960, 540), np.array(distortion, float))


def test_a_point_right_of_and_below_the_axis_lands_right_and_below_the_centre():
    camera = Camera(np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]]), np.eye(4), (64, 48))
    pixels, depth = frames.project(camera, [0.2, 0.1, 2.0])
    np.testing.assert_allclose(pixels, [42, 29])
    assert depth == 2.0


def test_blender_camera_at_rest_looks_down():
    # Blender's camera without rotation looks along −z with y up.
    world_to_camera = frames.blender_to_opencv_camera(np.eye(4))
    np.testing.assert_allclose(frames.apply(world_to_camera, [0, 0, -5]), [0, 0, 5])
    np.testing.assert_allclose(frames.apply(world_to_camera, [0, 1, -5]), [0, -1, 5])


def test_blender_camera_conversion_undoes_itself_and_drops_scale():
    matrix = frames.invert(turned_camera().world_to_camera)
    again = frames.opencv_to_blender_camera(frames.blender_to_opencv_camera(matrix))
    np.testing.assert_allclose(again, matrix, atol=1e-12)
    scaled = matrix @ np.diag([2.0, 3.0, 0.5, 1.0])
    np.testing.assert_allclose(
        frames.blender_to_opencv_camera(scaled), frames.blender_to_opencv_camera(matrix)
    )


def test_smpl_up_becomes_world_up():
    np.testing.assert_allclose(frames.apply(frames.YUP_TO_ZUP, [0, 1, 0]), [0, 0, 1])
    np.testing.assert_allclose(frames.apply(frames.YUP_TO_ZUP, [0, 0, 1]), [0, -1, 0])


def test_a_point_left_in_the_picture_has_positive_x_in_pytorch3d():
    point = frames.apply(frames.OPENCV_TO_PYTORCH3D_CAMERA, [-1.0, -2.0, 3.0])
    np.testing.assert_allclose(point, [1.0, 2.0, 3.0])


def test_invert_undoes_a_stack_of_transforms():
    transforms = np.stack([turned_camera().world_to_camera, np.eye(4)])
    np.testing.assert_allclose(
        frames.invert(transforms) @ transforms, np.stack([np.eye(4)] * 2), atol=1e-12
    )


def test_undistortion_undoes_the_lens():
    camera = turned_camera((-0.12, 0.05, 0.001, -0.002, 0.01))
    ideal = Camera(camera.intrinsics, camera.world_to_camera, camera.image_size)
    points = np.random.default_rng(1).uniform(-0.8, 0.8, (50, 3))
    distorted, _ = frames.project(camera, points)
    expected, _ = frames.project(ideal, points)
    assert np.abs(distorted - expected).max() > 1.0
    np.testing.assert_allclose(frames.undistort_points(camera, distorted), expected, atol=1e-6)


def test_unproject_undoes_project():
    camera = turned_camera((-0.1, 0.02, 0, 0, 0))
    points = np.random.default_rng(2).uniform(-0.8, 0.8, (50, 3))
    pixels, depth = frames.project(camera, points)
    np.testing.assert_allclose(frames.unproject(camera, pixels, depth), points, atol=1e-6)


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (640, 640)])
@pytest.mark.parametrize("aspect", [1.0, 1.5, 0.8])
def test_lens_and_intrinsics_undo_each_other(size, aspect):
    k = np.array([[1200.0, 0, size[0] / 2 + 17], [0, 1200.0 * aspect, size[1] / 2 - 9], [0, 0, 1]])
    lens = frames.lens_from_intrinsics(k, size)
    again = frames.intrinsics_from_blender(
        lens_mm=lens["lens_mm"], sensor_width_mm=lens["sensor_width_mm"], sensor_height_mm=24.0,
        sensor_fit="HORIZONTAL", shift_x=lens["shift_x"], shift_y=lens["shift_y"],
        image_size=size, pixel_aspect=(lens["pixel_aspect_x"], lens["pixel_aspect_y"]),
    )  # fmt: skip
    np.testing.assert_allclose(again, k, rtol=1e-9)


def test_a_50_mm_lens_on_36_mm_film_by_hand():
    k = frames.intrinsics_from_blender(
        lens_mm=50, sensor_width_mm=36, sensor_height_mm=24, sensor_fit="AUTO",
        shift_x=0.1, shift_y=0.05, image_size=(1920, 1080),
    )  # fmt: skip
    focal = 50 / 36 * 1920
    np.testing.assert_allclose(k, [[focal, 0, 960 - 192], [0, focal, 540 + 96], [0, 0, 1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"intrinsics": np.eye(4)}, r"intrinsics has shape \(4, 4\)"),
        ({"intrinsics": np.diag([-1.0, 1, 1])}, "expected positive"),
        ({"distortion": np.array([np.nan, 0, 0, 0, 0])}, "NaN"),
        ({"image_size": (0, 5)}, "image_size"),
    ],
)
def test_a_wrong_camera_is_refused_in_words(change, words):
    good = {"intrinsics": np.eye(3), "world_to_camera": np.eye(4), "image_size": (4, 4)}
    with pytest.raises(ValueError, match=words):
        Camera(**{**good, **change})


def test_a_part_of_a_picture_has_the_camera_that_it_would_be_given():
    k = np.array([[500.0, 0, 320], [0, 510.0, 240], [0, 0, 1]])
    whole = Camera(k, np.eye(4), (640, 480), np.array([0.1, 0, 0, 0, 0]))
    part = whole.cut(100, 50, (200, 100))
    moved = k.copy()
    moved[:2, 2] -= (100, 50)
    given = Camera(moved, np.eye(4), (200, 100), whole.distortion)
    for name in ("intrinsics", "world_to_camera", "distortion"):
        assert (getattr(part, name) == getattr(given, name)).all()
    assert part.image_size == given.image_size
    assert whole.intrinsics[0, 2] == 320
    with pytest.raises(ValueError, match="read-only"):
        part.intrinsics[0, 0] = 1.0
