# SPDX-License-Identifier: GPL-3.0-or-later
"""Finished frames of refinements under way, as stick figures in the 3D view; no data is touched."""

from __future__ import annotations

import bpy
import gpu
from gpu_extras.batch import batch_for_shader

from ..jobs.refine_job import RefineJob
from ..session import SESSION

COLOR = (0.1, 0.9, 0.75, 0.9)
LINE_WIDTH_PX = 3.0

_handles: list[object] = []
"""Blender's handle of the draw callback, while there is one."""


def figures_at(scene: bpy.types.Scene) -> list:
    """(L, 3) ends of lines in the world, for each job that has finished the frame shown."""
    found = []
    for job in SESSION.jobs:
        if isinstance(job, RefineJob) and job.scene_uid == scene.session_uid:
            lines = None if job.figures is None else job.figures.at(scene.frame_current)
            if lines is not None:
                found.append(lines)
    return found


def draw() -> None:
    """Draw what `figures_at` gives; Blender calls it for every 3D view."""
    scene, space = bpy.context.scene, bpy.context.space_data
    if not scene.posefit_show_finished or (space is not None and not space.overlay.show_overlays):
        return
    if figures := figures_at(scene):
        draw_lines(figures)


def draw_lines(figures: list) -> None:
    """Lines in front of everything else."""
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    shader.bind()
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", LINE_WIDTH_PX)
    shader.uniform_float("color", COLOR)
    gpu.state.depth_test_set("NONE")
    gpu.state.blend_set("ALPHA")
    for lines in figures:
        batch_for_shader(shader, "LINES", {"pos": lines}).draw(shader)
    gpu.state.blend_set("NONE")


def attach() -> None:
    """Begin to draw, and let scenes switch it off."""
    bpy.types.Scene.posefit_show_finished = bpy.props.BoolProperty(
        name="Show Finished Frames",
        description="Draw frames that are done, and not yet in place, as stick figures over the "
        "3D view",
        default=True,
        options=set(),
    )
    if not bpy.app.background:
        handle = bpy.types.SpaceView3D.draw_handler_add(draw, (), "WINDOW", "POST_VIEW")
        _handles.append(handle)


def detach() -> None:
    """Stop drawing."""
    while _handles:
        bpy.types.SpaceView3D.draw_handler_remove(_handles.pop(), "WINDOW")
    del bpy.types.Scene.posefit_show_finished
