# SPDX-License-Identifier: GPL-3.0-or-later
"""An armature moved as a whole, its bones' keys untouched: by its own transform, or by a parent."""

from __future__ import annotations

import bpy
import mathutils
import numpy as np
import numpy.typing as npt

from ..keys.fcurves import curves_of
from ..rigs.rig import SceneError

PARENT_SUFFIX = ".alignment"
"""What the empty is called that moves an armature whose own transform is animated."""

_TRANSFORM = ("location", "rotation", "scale", "delta_")


def check_can_be_moved(armature: bpy.types.Object) -> None:
    """Refuse what cannot be moved as a whole.

    Raises:
        SceneError: a constraint holds it in the world, or its camera hangs on it.
    """
    above = _with_parents(armature)
    for item in above:
        held = next((c for c in item.constraints if not c.mute and c.influence > 0), None)
        if held is not None:
            raise SceneError(
                f"constraint {held.name} holds {item.name} in its place: mute it, or move by hand "
                "what it follows"
            )
    camera = bpy.context.scene.camera
    if camera is not None and above[-1] in _with_parents(camera):
        raise SceneError(
            f"{armature.name} and camera {camera.name} hang on the same object {above[-1].name}, "
            "so one cannot be moved against the other: part them (Object > Parent > Clear)"
        )


def move_in_world(armature: bpy.types.Object, move: npt.ArrayLike) -> str:
    """Move an armature, with what it hangs on, by a transform (4, 4) of the world.

    Returns:
        What else moved, or what was added to the scene for it, as the beginning of a sentence;
        empty where neither.

    Raises:
        SceneError: it cannot be moved as a whole; nothing was changed.
    """
    check_can_be_moved(armature)
    top = _with_parents(armature)[-1]
    matrix = mathutils.Matrix(np.asarray(move, np.float64).tolist())
    has_deltas = any(top.delta_location) or any(top.delta_rotation_euler)
    if not _is_animated(top) and not has_deltas:
        top.matrix_basis = matrix @ top.matrix_basis
        return "" if top == armature else f"and all that hangs on {top.name} "
    empty = bpy.data.objects.new(f"{armature.name}{PARENT_SUFFIX}", None)
    for collection in top.users_collection:
        collection.objects.link(empty)
    empty.matrix_basis = matrix
    top.parent = empty
    top.matrix_parent_inverse.identity()
    return f"has a new parent, {empty.name}, as the transform of {top.name} is animated; it "


def _with_parents(item: bpy.types.Object) -> list[bpy.types.Object]:
    found = [item]
    while found[-1].parent is not None:
        found.append(found[-1].parent)
    return found


def _is_animated(item: bpy.types.Object) -> bool:
    """Whether anything but the artist's hand moves an object."""
    animation = item.animation_data
    if animation is None:
        return False
    tracks = any(track.strips for track in animation.nla_tracks)
    paths = [path for path, _ in curves_of(item)] + [curve.data_path for curve in animation.drivers]
    return tracks or any(path.startswith(_TRANSFORM) for path in paths)
