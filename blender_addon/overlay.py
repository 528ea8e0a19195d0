# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws confidence, change and the original over refined bodies in the viewport.

A redraw costs no reading while nothing changed: shapes are kept for as long as frame, settings and
the evaluated scene stay what they were. Without a window nothing is registered.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import gpu
import mathutils
import numpy as np
from bpy.app.handlers import persistent
from gpu_extras.batch import batch_for_shader

from . import findings, overlay_shapes
from .mesh_skin import SkinCache
from .overlay_shapes import Lines, Shape, Surface
from .rig import SceneError

_DEPTH_BIAS = 2e-6
"""How far colours are drawn in front of the mesh that they cover, in clip space: some millimetres
at most, and thirty times what a depth buffer can tell apart."""


@dataclass
class _Kept:
    """Shapes of one armature, and what they were made from."""

    made_from: tuple
    shapes: list[Shape]
    batches: list | None = None
    """The same on the GPU, once drawn."""


class Overlay:
    """What is drawn, and what of it is kept from one redraw to the next."""

    def __init__(self) -> None:
        self.generation = 0
        """Counts changes of the evaluated scene."""
        self._cache = SkinCache()
        self._kept: dict[str, _Kept] = {}

    def scene_changed(self) -> None:
        """Something was evaluated anew: shapes must be read again."""
        self.generation += 1

    def forget(self) -> None:
        """Another file is open, or undo has replaced things: nothing that was read holds."""
        self.scene_changed()
        self._cache.clear()
        self._kept.clear()

    def kept_shapes(
        self, context: bpy.types.Context, graph: bpy.types.Depsgraph, armature: bpy.types.Object
    ) -> _Kept:
        """An armature's shapes, read anew only where something changed."""
        made_from = (self.generation, *_state(context.scene, armature))
        kept = self._kept.get(armature.name_full)
        if kept is None or kept.made_from != made_from:
            try:
                shapes = overlay_shapes.shapes_of(context, graph, armature, self._cache)
            except SceneError:  # no SMPL rig any more: the panel says so
                shapes = []
            kept = self._kept[armature.name_full] = _Kept(made_from, shapes)
        return kept

    def draw(self) -> None:
        """Draw over one viewport; Blender calls this at every redraw."""
        context = bpy.context
        settings = context.scene.posefit_review
        graph = context.view_layer.depsgraph
        if graph is None or not is_wanted(settings) or not context.space_data.overlay.show_overlays:
            return
        drawn = [item for item in context.visible_objects if has_something(item)]
        for name in self._kept.keys() - {item.name_full for item in drawn}:
            del self._kept[name]
        for armature in drawn:
            kept = self.kept_shapes(context, graph, armature)
            if kept.batches is None:
                kept.batches = [_batch(shape) for shape in kept.shapes]
            for shape, batch in zip(kept.shapes, kept.batches, strict=True):
                _draw(shape, batch, context.region)


OVERLAY = Overlay()
"""The one overlay."""


def is_wanted(settings: bpy.types.PropertyGroup) -> bool:
    """Whether a scene's settings want anything drawn."""
    return settings.colours != "OFF" or settings.ghost != "OFF" or settings.use_arrows


def has_something(item: bpy.types.Object) -> bool:
    """Whether there is anything to draw of an object."""
    if item.type != "ARMATURE":
        return False
    return item.posefit_comparison.refined is not None or findings.action_of(item) is not None


def _state(scene: bpy.types.Scene, armature: bpy.types.Object) -> tuple:
    """What shapes depend on beside the evaluated scene."""
    settings = scene.posefit_review
    action = findings.action_of(armature)
    return (
        scene.name_full,
        scene.frame_current_final,
        "" if action is None else action.name_full,
        settings.colours,
        settings.threshold,
        settings.change_limit_mm,
        settings.opacity,
        settings.ghost,
        settings.use_arrows,
    )


def _batch(shape: Shape):
    content = {"pos": np.ascontiguousarray(shape.points)}
    content["color"] = np.ascontiguousarray(shape.colours)
    if isinstance(shape, Surface):
        shader = gpu.shader.from_builtin("SMOOTH_COLOR")
        triangles = np.ascontiguousarray(shape.triangles)
        return batch_for_shader(shader, "TRIS", content, indices=triangles)
    if not len(shape.points):
        return None
    shader = gpu.shader.from_builtin("POLYLINE_SMOOTH_COLOR")
    return batch_for_shader(shader, "LINES", content)


def _draw(shape: Shape, batch, region: bpy.types.Region) -> None:
    if batch is None:
        return
    gpu.state.blend_set("ALPHA")
    if isinstance(shape, Lines):
        _draw_lines(shape, batch, region)
    else:
        _draw_surface(batch)
    gpu.state.blend_set("NONE")


def _draw_lines(shape: Lines, batch, region: bpy.types.Region) -> None:
    shader = gpu.shader.from_builtin("POLYLINE_SMOOTH_COLOR")
    shader.uniform_float("viewportSize", (region.width, region.height))
    shader.uniform_float("lineWidth", shape.width_px * bpy.context.preferences.system.ui_scale)
    gpu.state.depth_test_set("NONE")
    batch.draw(shader)


def _draw_surface(batch) -> None:
    """First its depth, then its colours: of a translucent body only the nearest side is seen."""
    shader = gpu.shader.from_builtin("SMOOTH_COLOR")
    nearer = mathutils.Matrix.Identity(4)
    nearer[2][3] = -_DEPTH_BIAS
    gpu.state.depth_test_set("LESS_EQUAL")
    gpu.state.depth_mask_set(True)
    with gpu.matrix.push_pop_projection():
        gpu.matrix.load_projection_matrix(nearer @ gpu.matrix.get_projection_matrix())
        gpu.state.color_mask_set(False, False, False, False)
        batch.draw(shader)
        gpu.state.color_mask_set(True, True, True, True)
        batch.draw(shader)
    gpu.state.depth_mask_set(False)
    gpu.state.depth_test_set("NONE")


@persistent
def _on_update(*_: object) -> None:
    OVERLAY.scene_changed()


@persistent
def _on_replaced(*_: object) -> None:
    OVERLAY.forget()


_drawing: list[object] = []
"""The handle of the draw callback, while there is one."""


def attach() -> None:
    """Begin to draw, where there is a window to draw in."""
    if bpy.app.background:
        return
    space = bpy.types.SpaceView3D
    _drawing.append(space.draw_handler_add(OVERLAY.draw, (), "WINDOW", "POST_VIEW"))
    for handlers, function in _handlers():
        handlers.append(function)


def detach() -> None:
    """Draw no more."""
    while _drawing:
        bpy.types.SpaceView3D.draw_handler_remove(_drawing.pop(), "WINDOW")
    for handlers, function in _handlers():
        if function in handlers:
            handlers.remove(function)
    OVERLAY.forget()


def _handlers() -> tuple:
    handlers = bpy.app.handlers
    return (
        (handlers.depsgraph_update_post, _on_update),
        (handlers.undo_post, _on_replaced),
        (handlers.redo_post, _on_replaced),
        (handlers.load_post, _on_replaced),
    )
