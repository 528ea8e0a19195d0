# SPDX-License-Identifier: GPL-3.0-or-later
"""What is being built beside the scene: nothing of the scene refers to it until it is whole.

Blender saves no action or object that nothing uses; what hangs on such an object goes with it.
"""

from __future__ import annotations

import bpy

from ..rigs.lookup import find_object

UNFINISHED = ".posefit unfinished"
"""Name of what is being built; Blender's lists leave out names that begin with a dot."""


class RemovedError(Exception):
    """What was being built, or what it was built for, was removed: it must begin anew."""


def still_there(uid: int) -> bpy.types.Object:
    """The object of that number.

    Raises:
        RemovedError: it is gone.
    """
    item = find_object(uid)
    if item is None:
        raise RemovedError
    return item


def unfinished_uids() -> set[int]:
    """Blender's numbers of all that is being built."""
    kinds = _kinds()
    return {i.session_uid for kind in kinds for i in kind if i.name.startswith(UNFINISHED)}


def drop_unfinished(uids: set[int] | None = None) -> None:
    """Remove what was being built, those of these numbers or (none) all.

    Also after an undo, which may have brought some back.
    """
    for kind in _kinds():
        for item in [item for item in kind if item.name.startswith(UNFINISHED)]:
            if item.users == 0 and (uids is None or item.session_uid in uids):
                kind.remove(item)


def _kinds() -> tuple:
    """Where such things are, what uses others first."""
    return bpy.data.objects, bpy.data.meshes, bpy.data.cameras, bpy.data.actions
