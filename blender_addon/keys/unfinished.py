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


def drop_unfinished() -> None:
    """Remove all that was being built: an undo may have brought some back."""
    data = bpy.data
    for kind in (data.objects, data.meshes, data.cameras, data.actions):  # what uses others first
        for item in [item for item in kind if item.name.startswith(UNFINISHED)]:
            if item.users == 0:
                kind.remove(item)
