# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's camera → OpenCV cameras in the footage's own pixels, over frames."""

from __future__ import annotations

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import frames

from ..keys.fcurves import curves_of, sample
from ..rigs.rig import SceneError
from .scene_footage import SceneFootage, frame_fit

Array = npt.NDArray[np.float64]

DISTORTION_KEY = "posefit_distortion"
"""Custom property of imported cameras: OpenCV's k1 k2 p1 p2 k3, which Blender's cameras lack."""

_LENS = ("lens", "sensor_width", "sensor_height", "shift_x", "shift_y")


def scene_camera(scene: bpy.types.Scene) -> bpy.types.Object:
    """The scene's camera.

    Raises:
        SceneError: there is none, or it is no perspective camera.
    """
    camera = scene.camera
    if camera is None or camera.type != "CAMERA":
        raise SceneError("the scene has no camera: add the one that filmed the footage")
    if camera.data.type != "PERSP":
        raise SceneError(
            f"camera {camera.name} is of type {camera.data.type.lower()}: expected a perspective "
            "camera"
        )
    return camera


def read_intrinsics(
    scene: bpy.types.Scene,
    camera: bpy.types.Object,
    footage: SceneFootage,
    scene_frames: npt.ArrayLike,
) -> Array:
    """Intrinsics (T, 3, 3) in the footage's pixels over frames.

    The render size need not be the footage's: the picture lies in the camera's frame as the
    background image's Stretch, Fit or Crop says.
    """
    render = scene.render
    scale = render.resolution_percentage / 100
    size = int(render.resolution_x * scale), int(render.resolution_y * scale)
    aspect = render.pixel_aspect_x, render.pixel_aspect_y
    values = _lens_values(camera.data, scene_frames)
    to_footage = render_to_footage(size, aspect, footage, frame_fit(camera))
    lenses, which = np.unique(values, axis=0, return_inverse=True)  # most cameras have one
    result = np.empty((len(lenses), 3, 3))
    for row, (lens, width, height, shift_x, shift_y) in enumerate(lenses.tolist()):
        result[row] = to_footage @ frames.intrinsics_from_blender(
            lens_mm=lens,
            sensor_width_mm=width,
            sensor_height_mm=height,
            sensor_fit=camera.data.sensor_fit,
            shift_x=shift_x,
            shift_y=shift_y,
            image_size=size,
            pixel_aspect=aspect,
        )
    return result[which.reshape(-1)]


def render_to_footage(
    render_size: tuple[int, int],
    pixel_aspect: tuple[float, float],
    footage: SceneFootage,
    fit: str,
) -> Array:
    """(3, 3) from pixels of the rendered picture to pixels of the footage behind it.

    Args:
        render_size: width and height that Blender renders.
        pixel_aspect: aspect of its pixels, x and y.
        footage: the picture behind the camera.
        fit: how it lies in the camera's frame: `STRETCH`, `FIT` or `CROP`.
    """
    frame = render_size[0] * pixel_aspect[0], render_size[1] * pixel_aspect[1]
    picture = footage.image_size[0] * footage.display_aspect, float(footage.image_size[1])
    ratios = frame[0] / picture[0], frame[1] / picture[1]
    if fit == "FIT":
        ratios = (min(ratios),) * 2
    elif fit == "CROP":
        ratios = (max(ratios),) * 2
    # Footage pixel → shown length → render pixel, about the centres of both.
    size_x = footage.display_aspect * ratios[0] / pixel_aspect[0]
    size_y = ratios[1] / pixel_aspect[1]
    width, height = footage.image_size
    return np.array(
        [
            [1 / size_x, 0.0, width / 2 - render_size[0] / 2 / size_x],
            [0.0, 1 / size_y, height / 2 - render_size[1] / 2 / size_y],
            [0.0, 0.0, 1.0],
        ]
    )


def world_to_cameras(matrices_world: npt.ArrayLike, units_per_metre: float) -> Array:
    """`world_to_camera` (T, 4, 4) in metres of a camera's `matrix_world` (T, 4, 4).

    Args:
        matrices_world: the camera object over frames, Blender units.
        units_per_metre: Blender units in one metre of the body; the picture does not change when
            camera and body shrink together.
    """
    result = frames.blender_to_opencv_camera(matrices_world)
    result[:, :3, 3] /= units_per_metre
    return result


def read_distortion(camera: bpy.types.Object) -> Array:
    """(5,) lens distortion that an imported camera carries; zeros for others."""
    values = camera.get(DISTORTION_KEY)
    return np.zeros(5) if values is None else np.array(values, np.float64)


def _lens_values(camera: bpy.types.Camera, scene_frames: npt.ArrayLike) -> Array:
    """(T, 5) lens, sensor width and height, shift x and y."""
    now = [float(getattr(camera, name)) for name in _LENS]
    values = np.tile(now, (len(np.asarray(scene_frames)), 1))
    curves = curves_of(camera)
    for column, name in enumerate(_LENS):
        curve = curves.get((name, 0))
        if curve is not None:
            values[:, column] = sample(curve, scene_frames)
    return values
