# SPDX-License-Identifier: Apache-2.0
"""Cameras of the demo clip: from the calibration file that came with it, mended.

What had to be found out (docs/demo.md tells it with figures):

- cam01 and cam02 were not cropped from 1088 to 1080 pixels but *scaled* by 1080/1088, with black
  bars above and below. Matching their frames with the calibration stills says so.
- Through the calibration as it is, things that stand still miss by 7 pixels. Moving the cameras by
  1 to 2 cm and up to half a degree brings that to a third of a pixel, and triangulated landmarks of
  the person, which had no part in it, from 11 to 7 pixels.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from posefit_shared.frames import Camera, project, undistort_points
from posefit_shared.rotations import rotvec_to_matrix

CALIBRATED_SIZE = (1088, 1920)
ROTATION_SIGMA = np.radians(2.0)
"""How far a camera may be turned from the file's calibration."""
POSITION_SIGMA_M = 0.1
"""How far a camera may be moved from the file's calibration."""

Pixels = dict[str, dict[str, list[float]]]


def read_calibration(path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, Camera]:
    """The cameras of a Qualisys calibration file, for videos of these sizes.

    Args:
        path: the file; intrinsics in 1/64 pixel, centres at whole numbers, millimetres.
        sizes: (width, height) of each camera's video.
    """
    cameras = {}
    for entry in ElementTree.parse(path).getroot().iter("camera"):
        name = entry.attrib["serial"]
        transform = {k: float(v) for k, v in entry.find("transform").attrib.items()}
        lens = {k: float(v) for k, v in entry.find("intrinsic").attrib.items() if k != "focal"}
        cameras[name] = Camera(
            _intrinsics(lens, sizes[name]),
            _world_to_camera(transform),
            sizes[name],
            np.array(
                [
                    lens["radialDistortion1"],
                    lens["radialDistortion2"],
                    lens["tangentalDistortion1"],
                    lens["tangentalDistortion2"],
                    lens["radialDistortion3"],
                ]
            ),
        )
    return cameras


def _intrinsics(lens: dict[str, float], size: tuple[int, int]) -> np.ndarray:
    """Pixels of the video: the calibrated picture fitted to its width, centred in its height."""
    scale = size[0] / CALIBRATED_SIZE[0]
    bar = (size[1] - scale * CALIBRATED_SIZE[1]) / 2
    return np.array(
        [
            [lens["focalLengthU"] / 64 * scale, 0, (lens["centerPointU"] / 64 + 0.5) * scale],
            [0, lens["focalLengthV"] / 64 * scale, (lens["centerPointV"] / 64 + 0.5) * scale + bar],
            [0, 0, 1],
        ]
    )


def _world_to_camera(transform: dict[str, float]) -> np.ndarray:
    """The file's rows are the camera's axes in the world, y up and looking backwards."""
    axes = np.array([[transform[f"r{i}{j}"] for j in (1, 2, 3)] for i in (1, 2, 3)])
    position = np.array([transform[k] for k in "xyz"]) / 1000
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ axes
    matrix[:3, 3] = -matrix[:3, :3] @ position
    return matrix


def triangulate(cameras: dict[str, Camera], pixels: dict[str, list[float]]) -> np.ndarray:
    """(3,) the point that these cameras see at these pixels (linear least squares)."""
    rows = []
    for name, pixel in pixels.items():
        camera = cameras[name]
        u, v = undistort_points(camera, np.array(pixel))
        matrix = camera.intrinsics @ camera.world_to_camera[:3]
        rows += [(u * matrix[2] - matrix[0]) / 1000, (v * matrix[2] - matrix[1]) / 1000]
    point = np.linalg.svd(np.array(rows))[2][-1]
    return point[:3] / point[3]


def mend(
    cameras: dict[str, Camera], pixels: Pixels, sigma_px: dict[str, float]
) -> tuple[dict[str, Camera], float, float]:
    """Cameras turned and moved a little so that things that stand still agree.

    Args:
        cameras: as calibrated.
        pixels: for each camera the pixels of things by their names.
        sigma_px: how surely each thing was marked.

    Returns:
        The cameras, and the root mean square error of the marks before and after, pixels.
    """
    things = sorted(sigma_px)
    start = np.array([triangulate(cameras, _seen_by(pixels, thing)) for thing in things])

    def unpack(values: np.ndarray) -> tuple[dict[str, Camera], np.ndarray]:
        moves, points = values[: 6 * len(cameras)].reshape(-1, 6), values[6 * len(cameras) :]
        moved = {name: move(cameras[name], m) for name, m in zip(cameras, moves, strict=True)}
        return moved, points.reshape(-1, 3)

    def errors(moved: dict[str, Camera], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        error, sigma = [], []
        for name, marks in pixels.items():
            for thing, pixel in marks.items():
                error.append(project(moved[name], points[things.index(thing)])[0] - pixel)
                sigma.append(sigma_px[thing])
        return np.array(error), np.array(sigma)

    def residuals(values: np.ndarray) -> np.ndarray:
        error, sigma = errors(*unpack(values))
        moves = values[: 6 * len(cameras)].reshape(-1, 6)
        priors = moves / ([ROTATION_SIGMA] * 3 + [POSITION_SIGMA_M] * 3)
        return np.concatenate([(error / sigma[:, None]).ravel(), priors.ravel()])

    first = np.concatenate([np.zeros(6 * len(cameras)), start.ravel()])
    solved = least_squares(residuals, first, x_scale="jac").x
    before, after = (np.sqrt((errors(*unpack(v))[0] ** 2).mean()) for v in (first, solved))
    return unpack(solved)[0], float(before), float(after)


def move(camera: Camera, change: np.ndarray) -> Camera:
    """The camera turned by a rotation vector and moved by metres, (6,)."""
    rotation = rotvec_to_matrix(change[:3]) @ camera.world_to_camera[:3, :3]
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ (camera.position + change[3:])
    return Camera(camera.intrinsics, matrix, camera.image_size, camera.distortion)


def _seen_by(pixels: Pixels, thing: str) -> dict[str, list[float]]:
    return {name: marks[thing] for name, marks in pixels.items() if thing in marks}
