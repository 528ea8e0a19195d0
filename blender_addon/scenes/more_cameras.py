# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cameras a refinement looks through, beside the scene's own."""

from __future__ import annotations

import bpy

from ..rigs.rig import SceneError

MOST_CAMERAS = 16
"""So many beside the scene's own."""


def chosen(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """The cameras of a scene that are to be looked through as well, by name.

    Raises:
        SceneError: there are too many, or one is no perspective camera.
    """
    cameras = [item for item in all_cameras(scene) if item.posefit_is_view and item != scene.camera]
    if len(cameras) > MOST_CAMERAS:
        raise SceneError(
            f"{len(cameras)} cameras are ticked in Cameras beside the scene's, expected at most "
            f"{MOST_CAMERAS}: leave some out"
        )
    for camera in cameras:
        if camera.data.type != "PERSP":
            raise SceneError(
                f"camera {camera.name} is of type {camera.data.type.lower()}: expected a "
                "perspective camera, take it out of Cameras"
            )
    return cameras


def all_cameras(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """All cameras of a scene, by name."""
    return sorted((item for item in scene.objects if item.type == "CAMERA"), key=lambda c: c.name)


def attach() -> None:
    """Let every camera be ticked."""
    bpy.types.Object.posefit_is_view = bpy.props.BoolProperty(
        name="Look Through",
        description="Refining also compares the body with this camera's footage: for several "
        "calibrated cameras that filmed the same moment",
        options=set(),
        override={"LIBRARY_OVERRIDABLE"},
    )


def detach() -> None:
    """Take that away again."""
    del bpy.types.Object.posefit_is_view
