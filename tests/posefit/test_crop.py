# SPDX-License-Identifier: Apache-2.0
"""Crops: a world point lands where the crop's pinhole camera says, whatever the lens did."""

import cv2
import numpy as np
import pytest
import torch

from posefit.crop import crop_frames, square_boxes
from posefit.crop.cv2_sampling import distorted_map
from posefit.crop.warp_sampling import sample_warp
from posefit_shared import frames
from posefit_shared.frames import Camera

DISTORTIONS = [np.zeros(5), np.array([-0.2, 0.06, 0.002, -0.001, 0.0])]


def picture_of_dots(camera: Camera, points: np.ndarray) -> np.ndarray:
    """A black picture with a soft white dot where each point projects."""
    width, height = camera.image_size
    pixels, _ = frames.project(camera, points)
    y, x = np.mgrid[:height, :width] + 0.5
    picture = np.zeros((height, width))
    for u, v in pixels:
        picture = np.maximum(picture, np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8.0))
    return np.repeat((picture * 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("distortion", DISTORTIONS)
@pytest.mark.parametrize("side", [60.0, 128.0, 210.0])
def test_a_dot_lies_where_the_pinhole_camera_of_the_crop_sees_the_point(distortion, side):
    k = np.array([[260.0, 0, 155], [0, 250, 118], [0, 0, 1]])
    camera = Camera(k, np.eye(4), (320, 240), distortion)
    point = np.array([[0.35, -0.22, 2.0]])
    ideal = k @ (point[0] / point[0, 2])
    box = np.array([[ideal[0] + 7.3, ideal[1] - 4.1, side]])
    crop = crop_frames([picture_of_dots(camera, point)], box, [camera], 128)
    seen = crop.intrinsics[0].numpy() @ (point[0] / point[0, 2])
    gray = crop.images[0, 0].double().numpy()
    weights = np.where(gray > 0.3, gray, 0.0)
    y, x = np.mgrid[:128, :128] + 0.5
    centre = [(weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()]
    np.testing.assert_allclose(centre, seen[:2], atol=0.25)


@pytest.mark.parametrize("fine", [1024, 400])
def test_samples_lie_where_the_lens_puts_them(fine):
    k = np.array([[1300.0, 0, 775], [0, 1250, 590], [0, 0, 1]])
    camera = Camera(k, np.eye(4), (1600, 1200), DISTORTIONS[1])
    box = np.array([812.3, 601.7, 1000.0])
    steps = (np.arange(fine) + 0.5) * (box[2] / fine)
    ideal = np.stack(np.meshgrid(steps, steps), -1) + (box[:2] - box[2] / 2)
    points = (ideal - k[:2, 2]) / [k[0, 0], k[1, 1]]
    bent = frames.distort_points(camera.distortion, points) * [k[0, 0], k[1, 1]] + k[:2, 2]
    np.testing.assert_allclose(distorted_map(fine, box, camera), bent - 0.5, atol=0.1)


def test_shrinking_keeps_the_mean_of_fine_detail():
    k = np.array([[300.0, 0, 256], [0, 300, 256], [0, 0, 1]])
    camera = Camera(k, np.eye(4), (512, 512))
    checks = ((np.indices((512, 512)).sum(0) % 2) * 255).astype(np.uint8)
    crop = crop_frames([np.repeat(checks[..., None], 3, 2)], [[256, 256, 512.0]], [camera], 64)
    inside = crop.images[0, :, 1:-1, 1:-1]
    assert float(inside.min()) > 0.45
    assert float(inside.max()) < 0.55


def test_what_lies_outside_the_picture_is_black():
    camera = Camera(np.diag([100.0, 100, 1]), np.eye(4), (64, 64))
    white = np.full((64, 64, 3), 255, np.uint8)
    crop = crop_frames([white], [[0.0, 0.0, 64.0]], [camera], 64)
    assert float(crop.images[0, :, :30, :30].max()) == 0
    assert float(crop.images[0, :, 34:, 34:].min()) == 1


def test_source_to_crop_leads_from_source_to_crop_pixels():
    k = np.array([[300.0, 0, 100], [0, 300, 80], [0, 0, 1]])
    camera = Camera(k, np.eye(4), (200, 160))
    crop = crop_frames([np.zeros((160, 200, 3), np.uint8)], [[120.0, 60.0, 50.0]], [camera], 100)
    np.testing.assert_allclose(crop.source_to_crop[0].numpy() @ [120.0, 60, 1],
                               [50, 50, 1], atol=1e-4)  # fmt: skip
    np.testing.assert_allclose(
        crop.intrinsics[0], crop.source_to_crop[0].double().numpy() @ k, rtol=1e-5
    )


def test_boxes_are_square_around_the_points_that_are_finite():
    points = np.array([[[0.0, 0], [10, 40], [np.nan, 5]], [[np.inf, 1]] * 3])
    boxes = square_boxes(points, margin=1.5)
    np.testing.assert_allclose(boxes[0], [5, 20, 60])
    assert np.isnan(boxes[1]).all()


def test_opencv_agrees_about_the_lens():
    camera = Camera(
        np.array([[260.0, 0, 155], [0, 250, 118], [0, 0, 1]]), np.eye(4), (320, 240), DISTORTIONS[1]
    )
    points = np.random.default_rng(0).uniform([-0.5, -0.4, 1], [0.5, 0.4, 2], (20, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.intrinsics,
                                    camera.distortion)  # fmt: skip
    np.testing.assert_allclose(frames.project(camera, points)[0], expected[:, 0], atol=1e-9)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_a_gpus_kernel_samples_as_opencv_does(distortion):
    """The kernel runs on the CPU here; whole, cut off, finer and coarser than the picture."""
    k = np.array([[260.0, 0, 155], [0, 250, 118], [0, 0, 1]])
    camera = Camera(k, np.eye(4), (320, 240), distortion)
    y, x = np.mgrid[:240, :320]
    waves = [120 + 100 * np.sin(x / 9 + c) * np.cos(y / 11 - c) for c in range(3)]
    picture = np.stack(waves, -1).astype(np.uint8)
    boxes = np.array([[160.0, 120, 48], [151.3, 117.2, 150], [20, 230, 260], [150, 100, 900]])
    expected = crop_frames([picture] * 4, boxes, [camera] * 4, 64)
    pictures = [picture, torch.from_numpy(picture), picture[::-1][::-1], picture]
    samples = np.array([1, 3, 5, 8])
    found = sample_warp(pictures, boxes, [camera] * 4, samples, 64, torch.device("cpu"))
    difference = (found - expected.images).abs() * 255
    assert (difference > 1).float().mean() < (0.02 if distortion.any() else 1e-6)
    assert difference.max() < 8
