# SPDX-License-Identifier: GPL-3.0-or-later
"""The lens of a camera whose focal length is refined with the pose: changed, compared, put back.

One focal length for all frames: in pixels it is proportional to Blender's lens in millimetres,
whatever sensor and picture are, so the lens is multiplied and nothing else of the camera changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
import numpy.typing as npt

from ..keys.fcurves import curves_of
from ..rigs.rig import SceneError
from .scene_camera import scene_camera

SAME_MM = 1e-3
"""Lenses that differ by less are one."""


@dataclass(frozen=True)
class LensBefore:
    """The lens that a refinement starts from; nothing in it is Blender's."""

    camera_uid: int
    """Blender's number of the camera's data."""
    name: str
    lens: float
    """Millimetres."""


def read_lens(scene: bpy.types.Scene) -> LensBefore:
    """The lens of the scene's camera, which must be free to change.

    Raises:
        SceneError: there is no camera, or its lens is linked, animated or driven.
    """
    camera = scene_camera(scene).data
    why = ""
    if camera.library is not None:
        why = f"is linked from {bpy.path.basename(camera.library.filepath)}"
    elif ("lens", 0) in curves_of(camera):
        why = "is animated"
    elif _is_driven(camera):
        why = "is driven"
    if why:
        raise SceneError(
            f"the lens of camera {camera.name} {why}, so it cannot be refined: turn Focal Length "
            "off in Settings, or give the camera a lens of its own that does not change"
        )
    return LensBefore(camera.session_uid, camera.name, camera.lens)


def _is_driven(camera: bpy.types.Camera) -> bool:
    animation = camera.animation_data
    return animation is not None and any(d.data_path == "lens" for d in animation.drivers)


def find_camera(before: LensBefore) -> bpy.types.Camera:
    """The camera of a refinement, with the lens that it started from.

    Raises:
        SceneError: it is gone, or its lens was changed since.
    """
    found = (one for one in bpy.data.cameras if one.session_uid == before.camera_uid)
    camera = next(found, None)
    if camera is None:
        raise SceneError(
            f"camera {before.name} was removed while its focal length was refined: bring it back "
            "with Undo and keep the result, or drop it"
        )
    if abs(camera.lens - before.lens) > SAME_MM:
        raise SceneError(
            f"the lens of camera {camera.name} is {camera.lens:.4g} mm, but {before.lens:.4g} mm "
            "when it was refined: set it back and keep the result, or drop it"
        )
    return camera


def focal_factor(given: npt.ArrayLike, found: npt.ArrayLike) -> float:
    """How much longer a refined focal length is than the one that was sent.

    Args:
        given: (3, 3) or (T, 3, 3) intrinsics that were sent.
        found: (1, 3, 3) or (T, 3, 3) refined.
    """
    before = np.asarray(given, np.float64).reshape(-1, 3, 3)[:, 0, 0]
    after = np.asarray(found, np.float64).reshape(-1, 3, 3)[:, 0, 0]
    return float(np.median(after / (before if len(after) == len(before) else np.median(before))))


# The comparison's memory of a lens: `settings` is an armature's PosefitComparison.


def remember(settings: bpy.types.PropertyGroup, camera: bpy.types.Camera, lens: float) -> None:
    """Give a camera its refined lens; the first one it had stays the original."""
    if settings.camera != camera:
        settings.camera, settings.lens_before = camera, camera.lens
    camera.lens = settings.lens_after = settings.lens_shown = lens


def go_on(settings: bpy.types.PropertyGroup) -> None:
    """What is shown was refined again: the lens that is shown is the refined one now."""
    if settings.camera is not None:
        settings.lens_after = settings.lens_shown = settings.camera.lens


def show(settings: bpy.types.PropertyGroup, amount: float) -> None:
    """Set the lens between the original and the refined one; one that was set by hand stays."""
    camera = settings.camera
    if camera is None:
        return
    if abs(camera.lens - settings.lens_shown) > SAME_MM:
        settings.camera = None
        return
    camera.lens = (1 - amount) * settings.lens_before + amount * settings.lens_after
    settings.lens_shown = camera.lens
