# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps the session going in a window: a timer, and handlers of undo and of opened files.

A thin skin over `session`: timers never fire in background mode, and nothing here is needed there.
"""

from __future__ import annotations

import time

import bpy
from bpy.app.handlers import persistent

from .keys.unfinished import drop_unfinished
from .session import SESSION

BUSY_SECONDS, IDLE_SECONDS = 0.03, 0.5
"""Time between steps while something is under way, and while nothing is."""


def start() -> None:
    """Begin to step the session, and to hear of undo and of opened files."""
    if not bpy.app.background:
        bpy.app.timers.register(_tick, first_interval=IDLE_SECONDS, persistent=True)
    for handlers, function in _handlers():
        handlers.append(function)


def stop() -> None:
    """Undo `start`."""
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    for handlers, function in _handlers():
        if function in handlers:
            handlers.remove(function)


def _tick() -> float:
    if SESSION.step():
        count = SESSION.finished_count
        _redraw(("UI",) if count == SESSION.drawn_count else ("UI", "WINDOW"))
        SESSION.drawn_count = count
    is_settled = SESSION.connection.kind in ("off", "connected", "lost")
    is_busy = SESSION.is_busy or SESSION.previews.is_open
    return IDLE_SECONDS if is_settled and not is_busy else BUSY_SECONDS


def _redraw(region_types: tuple[str, ...]) -> None:
    """Have regions of the 3D views drawn again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type in region_types:
                        region.tag_redraw()


@persistent
def _on_load(*_: object) -> None:
    SESSION.cancel_all("another file was opened: its result was dropped")
    drop_unfinished()  # Blender's own auto-save asks nobody
    SESSION.previews.look_for_all()


@persistent
def _on_save(*_: object) -> None:
    SESSION.before_save()


@persistent
def _on_frame(scene: bpy.types.Scene, *_: object) -> None:
    SESSION.previews.before_frame(scene.frame_current_final)


@persistent
def _on_playback_end(*_: object) -> None:
    SESSION.playback_ended_at = time.monotonic()


@persistent
def _on_undo(*_: object) -> None:
    SESSION.after_undo()


@persistent
def _on_edit(scene: bpy.types.Scene, graph: bpy.types.Depsgraph) -> None:
    SESSION.after_edit(graph)


def _handlers() -> tuple:
    handlers = bpy.app.handlers
    return (
        (handlers.load_post, _on_load),
        (handlers.save_pre, _on_save),
        (handlers.frame_change_pre, _on_frame),
        (handlers.undo_post, _on_undo),
        (handlers.redo_post, _on_undo),
        (handlers.depsgraph_update_post, _on_edit),
        (handlers.animation_playback_post, _on_playback_end),
    )
