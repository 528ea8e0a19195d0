# SPDX-License-Identifier: GPL-3.0-or-later
"""Characters that live in another file: whether they can be animated here, and what to do if not.

A library override can: Blender lets it have an action of this file. What belongs to the library's
data, the shape and the rest joints, cannot change here.
"""

from __future__ import annotations

import bpy

from .rig import SceneError


def check_can_be_animated(armature: bpy.types.Object, with_shape: bool) -> None:
    """Refuse an armature whose pose, or whose shape where that is wanted, belongs to another file.

    Raises:
        SceneError: it does; the message says what to do.
    """
    override = armature.override_library
    if armature.library is not None:
        raise SceneError(
            f"{armature.name} is linked from {_file(armature)}, so its pose cannot change here: "
            "make a library override of it (Object > Library Override > Make) and refine that"
        )
    if override is not None and override.is_system_override:
        raise SceneError(
            f"{armature.name} is an override that is not editable: make it so (Object > Library "
            "Override > Make) and refine it then"
        )
    if with_shape and armature.data.library is not None:
        raise SceneError(
            f"the shape of {armature.name} belongs to {_file(armature.data)}, where it is linked "
            "from: turn Shape off in Settings, or change it in that file"
        )


def linked_armature(item: bpy.types.Object | None) -> str:
    """The name of an armature in the linked collection that an empty shows; empty where none is."""
    collection = None if item is None or item.type != "EMPTY" else item.instance_collection
    if collection is None or collection.library is None:
        return ""
    return next((one.name for one in collection.all_objects if one.type == "ARMATURE"), "")


def _file(item: bpy.types.ID) -> str:
    return bpy.path.basename(item.library.filepath)
