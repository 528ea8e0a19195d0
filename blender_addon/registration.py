# SPDX-License-Identifier: GPL-3.0-or-later
"""What the extension puts into Blender, in order; taken out in reverse, also after a failure."""

from __future__ import annotations

from collections.abc import Callable

import bpy

from . import panels, properties, session_timer
from .control import artist_control
from .operators import (
    aligning,
    body,
    compare,
    connection,
    control,
    estimating,
    exporting,
    importing,
    queue,
    refine,
    renderings,
    rig,
    texturing,
)
from .operators import review as review_operators
from .overlays import control_overlay, finished_overlay, overlay
from .results import comparison, review
from .rigs import rig_match
from .scenes import footage_offset, more_cameras, texture_image
from .session import SESSION

CLASSES = (
    *properties.CLASSES,
    *comparison.CLASSES,
    *review.CLASSES,
    *body.CLASSES,
    *importing.CLASSES,
    *estimating.CLASSES,
    *exporting.CLASSES,
    *connection.CLASSES,
    *refine.CLASSES,
    *queue.CLASSES,
    *compare.CLASSES,
    *control.CLASSES,
    *rig.CLASSES,
    *review_operators.CLASSES,
    *renderings.CLASSES,
    *aligning.CLASSES,
    *texturing.CLASSES,
    *panels.CLASSES,
)
ATTACHED = (
    properties,
    comparison,
    artist_control,
    rig_match,
    review,
    queue,
    control_overlay,
    overlay,
    finished_overlay,
    footage_offset,
    texture_image,
    more_cameras,
)
"""Modules that add to Blender's own types and menus, and take that away again."""


def register() -> None:
    """Put everything in; what was put in before a failure is taken out again."""
    undo: list[Callable[[], object]] = []
    try:
        for cls in CLASSES:
            bpy.utils.register_class(cls)
            undo.append(lambda cls=cls: bpy.utils.unregister_class(cls))
        for module in ATTACHED:
            module.attach()
            undo.append(module.detach)
        session_timer.start()
        undo.append(session_timer.stop)
        bpy.types.TOPBAR_MT_file_import.append(_draw_import)
        bpy.types.TOPBAR_MT_file_export.append(_draw_export)
    except (AttributeError, RuntimeError, ValueError):
        for step in reversed(undo):
            step()
        raise


def unregister() -> None:
    """Take everything out, and stop what was started."""
    bpy.types.TOPBAR_MT_file_export.remove(_draw_export)
    bpy.types.TOPBAR_MT_file_import.remove(_draw_import)
    session_timer.stop()
    SESSION.cancel_all()
    SESSION.disconnect()
    for module in reversed(ATTACHED):
        module.detach()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)


def _draw_import(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
    menu.layout.operator("posefit.import_sequence", text="SMPL Motion (.npz, .json, .pkl)")


def _draw_export(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
    menu.layout.operator("posefit.export_sequence", text="SMPL Sequence (.npz)")
