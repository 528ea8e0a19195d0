# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws confidence, change and the original over refined bodies in the viewport.

A redraw costs no reading while nothing changed: shapes are kept for as long as frame, settings and
the evaluated scene stay what they were. Without a window nothing is registered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import bpy
import gpu
import mathutils
import numpy as np
from bpy.app.handlers import persistent
from gpu_extras.batch import batch_for_shader

from ..results import findings
from ..rigs.rig import SceneError
from . import overlay_geometry, overlay_shapes, textured_drawing
from .mesh_skin import SkinCache
from .overlay_shapes import Ghost, Lines, Shape, Textured

_JUST_ABOVE = (1.0, -2e-6)
"""Factor and offset of depth in clip space that put colours before the mesh that they cover: some
millimetres at most, and thirty times what a depth buffer can tell apart."""
_IN_FRONT = (0.1, -0.9)
"""The same for what is seen through everything: nearer than anything else, but deep in itself."""


@dataclass
class _Kept:
    """Shapes of one armature, and what they were made from."""

    made_from: tuple
    shapes: list[Shape]
    batches: list = field(default_factory=list)
    """The same on the GPU, once drawn."""
    seen_from: tuple = ()
    """The view that ghosts among the batches were made for."""


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
            _fill_batches(kept, context.region_data)
            for shape, batch in zip(kept.shapes, kept.batches, strict=True):
                _draw(shape, batch, context.region)


OVERLAY = Overlay()
"""The one overlay."""


def is_wanted(settings: bpy.types.PropertyGroup) -> bool:
    """Whether a scene's settings want anything drawn."""
    wanted = settings.use_arrows or settings.use_texture
    return settings.colours != "OFF" or settings.ghost != "OFF" or wanted


def has_something(item: bpy.types.Object) -> bool:
    """Whether there is anything to draw of an object."""
    if item.type != "ARMATURE" or item.mode == "EDIT":
        return False
    has_result = item.posefit_comparison.refined is not None or findings.action_of(item) is not None
    return has_result or item.posefit_texture is not None


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
        settings.use_texture,
        "" if armature.posefit_texture is None else armature.posefit_texture.name_full,
    )


def _fill_batches(kept: _Kept, view: bpy.types.RegionView3D) -> None:
    """Bring shapes to the GPU that are not there, and ghosts as this view sees them."""
    seen_from = (view.is_perspective, *(value for row in view.view_matrix for value in row))
    is_new, is_turned = not kept.batches, kept.seen_from != seen_from
    kept.seen_from = seen_from
    if is_new:
        kept.batches = [None] * len(kept.shapes)
    for place, shape in enumerate(kept.shapes):
        if isinstance(shape, Ghost):
            if is_new or is_turned:
                kept.batches[place] = _batch(shape, _ghost_colours(shape, view))
        elif is_new:
            colours = None if isinstance(shape, Textured) else shape.colours
            kept.batches[place] = _batch(shape, colours)


def _ghost_colours(shape: Ghost, view: bpy.types.RegionView3D) -> np.ndarray:
    return overlay_geometry.rim_colours(
        overlay_geometry.GHOST, shape.points, shape.normals, view.view_matrix, view.is_perspective
    )


def _batch(shape: Shape, colours: np.ndarray | None) -> gpu.types.GPUBatch:
    if isinstance(shape, Textured):
        return textured_drawing.batch_of(shape)
    content = {"pos": np.ascontiguousarray(shape.points), "color": np.ascontiguousarray(colours)}
    if not isinstance(shape, Lines):
        shader = gpu.shader.from_builtin("SMOOTH_COLOR")
        triangles = np.ascontiguousarray(shape.triangles)
        return batch_for_shader(shader, "TRIS", content, indices=triangles)
    shader = gpu.shader.from_builtin("POLYLINE_SMOOTH_COLOR")
    return batch_for_shader(shader, "LINES", content)


def _draw(shape: Shape, batch: gpu.types.GPUBatch, region: bpy.types.Region) -> None:
    with _state_restored():
        gpu.state.blend_set("ALPHA")
        if isinstance(shape, Lines):
            _draw_lines(shape, batch, region)
        elif isinstance(shape, Textured):
            _draw_textured(shape, batch)
        else:
            _draw_surface(batch, _IN_FRONT if isinstance(shape, Ghost) else _JUST_ABOVE)


@contextmanager
def _state_restored() -> Iterator[None]:
    """Blender goes on drawing after this: what is set inside is as it was afterwards."""
    state = gpu.state
    before = state.blend_get(), state.depth_test_get(), state.depth_mask_get()
    try:
        yield
    finally:
        state.blend_set(before[0])
        state.depth_test_set(before[1])
        state.depth_mask_set(before[2])


def _draw_lines(shape: Lines, batch: gpu.types.GPUBatch, region: bpy.types.Region) -> None:
    shader = gpu.shader.from_builtin("POLYLINE_SMOOTH_COLOR")
    shader.uniform_float("viewportSize", (region.width, region.height))
    shader.uniform_float("lineWidth", shape.width_px * bpy.context.preferences.system.ui_scale)
    gpu.state.depth_test_set("NONE")
    batch.draw(shader)


def _draw_surface(batch: gpu.types.GPUBatch, depth: tuple[float, float]) -> None:
    """First its depth, then its colours: of a translucent body only the nearest side is seen."""
    shader = gpu.shader.from_builtin("SMOOTH_COLOR")
    gpu.state.depth_test_set("LESS_EQUAL")
    gpu.state.depth_mask_set(True)
    with _nearer(depth):
        gpu.state.color_mask_set(False, False, False, False)
        batch.draw(shader)
        gpu.state.color_mask_set(True, True, True, True)
        batch.draw(shader)


def _draw_textured(shape: Textured, batch: gpu.types.GPUBatch) -> None:
    gpu.state.depth_test_set("LESS_EQUAL")
    gpu.state.depth_mask_set(True)
    with _nearer(_JUST_ABOVE):
        textured_drawing.draw(shape, batch)


@contextmanager
def _nearer(depth: tuple[float, float]) -> Iterator[None]:
    """What is drawn inside is taken for nearer than it is."""
    nearer = mathutils.Matrix.Identity(4)
    nearer[2][2], nearer[2][3] = depth
    with gpu.matrix.push_pop_projection():
        gpu.matrix.load_projection_matrix(nearer @ gpu.matrix.get_projection_matrix())
        yield


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
