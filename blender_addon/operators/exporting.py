# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequence files go out: the motion of an armature, with its shape and the scene's camera."""

from __future__ import annotations

import time
from pathlib import Path

import bpy

from posefit_shared.body_files import BodyFileError

from .. import session
from ..rigs.rig import SceneError
from .asking import wait_property
from .on_armature import OnArmature

PATIENCE_SECONDS = 0.3
"""How long Blender may be held so that short exports are done at once."""


class POSEFIT_OT_export_sequence(OnArmature, bpy.types.Operator):
    """Write the selected body's motion and shape, with the camera, as an SMPL sequence (.npz)"""

    bl_idname = "posefit.export_sequence"
    bl_label = "Export Sequence"
    bl_options = {"REGISTER"}

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: bpy.props.StringProperty(default="*.npz", options={"HIDDEN"})
    check_existing: bpy.props.BoolProperty(default=True, options={"HIDDEN"})
    use_scene_range: bpy.props.BoolProperty(
        name="Scene Range", description="Write the scene's own frame range", default=True
    )
    frame_start: bpy.props.IntProperty(
        name="Start", description="First frame to write", default=1, options={"SKIP_SAVE"}
    )
    frame_end: bpy.props.IntProperty(
        name="End", description="Last frame to write", default=250, options={"SKIP_SAVE"}
    )
    with_camera: bpy.props.BoolProperty(
        name="Camera",
        description="Also write the scene's camera, and which frames of its footage these are",
        default=True,
    )
    wait: wait_property("the file is there")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        scene = context.scene
        self.frame_start, self.frame_end = scene.frame_start, scene.frame_end
        if not self.filepath:
            name = bpy.path.clean_name(context.object.name)
            self.filepath = str(Path(bpy.data.filepath).parent / f"{name}.npz")
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "use_scene_range")
        if not self.use_scene_range:
            layout.prop(self, "frame_start")
            layout.prop(self, "frame_end")
        layout.prop(self, "with_camera")

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            job = session.SESSION.export(
                context, context.object, self._frames(context.scene), self._path(), self.with_camera
            )
            if self.wait or bpy.app.background:
                session.SESSION.wait_for(job)
            else:
                _work_a_moment(job)
        except (SceneError, BodyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"WARNING" if job.notes or job.is_problem else "INFO"}, job.words)
        return {"FINISHED"}

    def _frames(self, scene: bpy.types.Scene) -> range:
        if self.use_scene_range:
            return range(scene.frame_start, scene.frame_end + 1)
        return range(self.frame_start, self.frame_end + 1)

    def _path(self) -> Path:
        path = Path(bpy.path.abspath(self.filepath))
        if not self.filepath or path.is_dir():
            raise SceneError("the file has no name: give one, ending in .npz")
        return path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")


def _work_a_moment(job: session.ExportJob) -> None:
    """Step the session until an export has ended, for a moment only; the timer does the rest."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while job.is_open and time.monotonic() < deadline:
        session.SESSION.step()
        time.sleep(0.005)


CLASSES = (POSEFIT_OT_export_sequence,)
