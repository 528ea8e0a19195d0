# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects and scenes found again after a wait, by what stays theirs when they are renamed.

Blender gives each a number that lives as long as the file is open, through undo and renaming, and
that nothing in another file has. A bpy object itself is never kept across a wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy

from .rig import SceneError


def find_object(uid: int) -> bpy.types.Object | None:
    """The object of that number, if it is still there."""
    return next((item for item in bpy.data.objects if item.session_uid == uid), None)


def found(uid: int, name: str) -> bpy.types.Object:
    """The object of that number.

    Raises:
        SceneError: it is gone; the message calls it by `name`.
    """
    item = find_object(uid)
    if item is None:
        raise SceneError(f"{name} was removed: undo that, or select another armature")
    return item


def find_scene(uid: int) -> bpy.types.Scene | None:
    """The scene of that number, if it is still there."""
    return next((scene for scene in bpy.data.scenes if scene.session_uid == uid), None)


@contextmanager
def in_scene(uid: int, name: str) -> Iterator[bpy.types.Context]:
    """Blender's context with another scene in it for the length of a block; no window changes.

    Args:
        uid: the scene's number.
        name: what it was called, for the message.

    Raises:
        SceneError: the scene is gone.
    """
    scene = find_scene(uid)
    if scene is None:
        raise SceneError(f"scene {name} was removed: undo that, and start again there")
    if bpy.context.scene == scene:
        yield bpy.context
        return
    with bpy.context.temp_override(scene=scene, view_layer=scene.view_layers[0]):
        yield bpy.context
