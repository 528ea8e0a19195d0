# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws what is held: locked and stiff bones in the viewport, pinned frames in time editors.

Drawn over Blender's own pictures and kept nowhere: bones keep their colours, keys their types.
"""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import gpu
import numpy as np
import numpy.typing as npt
from gpu_extras.batch import batch_for_shader

from ..control import artist_control
from ..rigs.rig import SceneError

LOCKED, STIFF, LOOSE = (0.95, 0.2, 0.25, 1.0), (1.0, 0.65, 0.1, 1.0), (0.35, 0.75, 1.0, 1.0)
"""Colours of bones that never turn, that are held more than usual, and less."""
PINNED = (1.0, 0.65, 0.1, 0.7)
"""Colour of pinned frames."""
BONE_WIDTH_PX, PIN_WIDTH_PX = 6.0, 2.0

Points = npt.NDArray[np.float32]


def held_bones(
    armature: bpy.types.Object, graph: bpy.types.Depsgraph
) -> tuple[Points, npt.NDArray[np.float32]]:
    """Heads and tails (2·N, 3) of held bones as shown, world, and their colours (2·N, 4)."""
    colours = {
        name: STIFF if factor > 1 else LOOSE
        for name, factor in artist_control.stiff_bones(armature).items()
    }
    colours |= dict.fromkeys(artist_control.locked_bones(armature), LOCKED)
    if not colours:
        return np.zeros((0, 3), np.float32), np.zeros((0, 4), np.float32)
    shown = armature.evaluated_get(graph)
    bones = [shown.pose.bones[name] for name in colours]
    ends = [shown.matrix_world @ end for bone in bones for end in (bone.head, bone.tail)]
    each = np.repeat(np.array(list(colours.values()), np.float32), 2, axis=0)
    return np.array(ends, np.float32), each


def pin_lines(frames: Sequence[int], view: bpy.types.View2D, size: tuple[int, int]) -> Points:
    """Upright lines (2·N, 2) at those frames that a time editor's region shows, pixels.

    Args:
        frames: pinned frames.
        view: the region's view.
        size: the region's width and height.
    """
    width, height = size
    first, last = view.region_to_view(0, 0)[0], view.region_to_view(width, 0)[0]
    places = (np.array(frames, np.float64) - first) / max(last - first, 1e-9) * width
    columns = np.unique(np.round(places[(places >= 0) & (places <= width)]))
    ends = np.stack([np.repeat(columns, 2), np.tile([0.0, height], len(columns))], -1)
    return ends.astype(np.float32)


def shown_armatures(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The armatures whose held bones are drawn: the active one, and those in pose mode."""
    posed = context.objects_in_mode if context.mode == "POSE" else ()
    items = dict.fromkeys([context.object, *posed])
    return [item for item in items if item is not None and item.type == "ARMATURE"]


def draw_bones() -> None:
    """Draw held bones over one viewport; Blender calls this at every redraw."""
    context = bpy.context
    graph = context.view_layer.depsgraph
    is_wanted = context.scene.posefit.show_held and context.space_data.overlay.show_overlays
    if graph is None or not is_wanted:
        return
    for armature in shown_armatures(context):
        points, colours = held_bones(armature, graph)
        if len(points):
            _draw_lines(context, points, colours, BONE_WIDTH_PX)


def draw_pins() -> None:
    """Draw the active armature's pinned frames over one time editor."""
    context = bpy.context
    armature = context.object
    if armature is None or armature.type != "ARMATURE" or not context.scene.posefit.show_held:
        return
    try:
        frames = artist_control.pinned_frames(armature)
    except SceneError:  # the panel says what is wrong with the list
        return
    region = context.region
    lines = pin_lines(frames, region.view2d, (region.width, region.height))
    if len(lines):
        points = np.concatenate([lines, np.zeros((len(lines), 1), np.float32)], -1)
        colours = np.tile(np.array(PINNED, np.float32), (len(lines), 1))
        _draw_lines(context, points, colours, PIN_WIDTH_PX)


def _draw_lines(
    context: bpy.types.Context, points: Points, colours: npt.NDArray[np.float32], width_px: float
) -> None:
    shader = gpu.shader.from_builtin("POLYLINE_SMOOTH_COLOR")
    batch = batch_for_shader(shader, "LINES", {"pos": points, "color": colours})
    shader.uniform_float("viewportSize", (context.region.width, context.region.height))
    shader.uniform_float("lineWidth", width_px * context.preferences.system.ui_scale)
    gpu.state.blend_set("ALPHA")
    gpu.state.depth_test_set("NONE")
    batch.draw(shader)
    gpu.state.blend_set("NONE")


_drawing: list[tuple[type, object]] = []
"""Spaces and handles of the draw callbacks, while there are any."""


def attach() -> None:
    """Begin to draw, where there is a window to draw in."""
    if bpy.app.background:
        return
    for space, function, when in (
        (bpy.types.SpaceView3D, draw_bones, "POST_VIEW"),
        (bpy.types.SpaceDopeSheetEditor, draw_pins, "POST_PIXEL"),
        (bpy.types.SpaceGraphEditor, draw_pins, "POST_PIXEL"),
    ):
        _drawing.append((space, space.draw_handler_add(function, (), "WINDOW", when)))


def detach() -> None:
    """Draw no more."""
    while _drawing:
        space, handle = _drawing.pop()
        space.draw_handler_remove(handle, "WINDOW")
