# SPDX-License-Identifier: GPL-3.0-or-later
"""What the extension puts into Blender, in order; taken out in reverse, also after a failure."""

from __future__ import annotations

import bpy

from .operators import body, importing

CLASSES = (*body.CLASSES, *importing.CLASSES)


def register() -> None:
    """Register every class; what was registered before a failure is taken out again."""
    done: list[type] = []
    try:
        for cls in CLASSES:
            bpy.utils.register_class(cls)
            done.append(cls)
    except (ValueError, RuntimeError):
        for cls in reversed(done):
            bpy.utils.unregister_class(cls)
        raise


def unregister() -> None:
    """Take every class out."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
