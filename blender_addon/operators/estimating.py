# SPDX-License-Identifier: GPL-3.0-or-later
"""A first estimate: a clip goes to the backend, bodies in motion come back."""

from __future__ import annotations

from pathlib import Path

import bpy

from posefit_shared.body_files import FREE_BODY

from .. import session
from ..jobs.sequence_jobs import EstimateJob
from ..rigs.rig import SceneError
from ..scenes import scene_footage
from ..scenes.clip_view import ClipView, view_of_scene
from ..sequences.sequence_import import ImportOptions
from .asking import wait_property


class POSEFIT_OT_estimate(bpy.types.Operator):
    """Have the backend find people in the camera's footage, or in a video file, and build them"""

    bl_idname = "posefit.estimate"
    bl_label = "Estimate from Clip"
    bl_options = {"REGISTER"}  # the bodies are built by an operator of its own

    filepath: bpy.props.StringProperty(
        name="Footage",
        description="A video file, or an image of a sequence; empty takes the footage of the "
        "scene's camera, over the scene's range",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    people: bpy.props.IntProperty(
        name="People", description="How many people to find", default=1, min=1, max=16
    )
    person: bpy.props.IntProperty(
        name="First Person",
        description="Which person is the first to be found; 1 is the largest",
        default=1,
        min=1,
        max=200,
    )
    body_file: bpy.props.StringProperty(
        name="Body File",
        description="The SMPL model file to pose; empty for the free body",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    wait: wait_property("the bodies are there")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not session.SESSION.is_connected:
            cls.poll_message_set("Connect to a backend first")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self.filepath or _shows_footage(context.scene):
            return context.window_manager.invoke_props_dialog(self)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.use_property_split = True
        for name in ("people", "person", "body_file"):
            self.layout.prop(self, name)

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            view = _view_of_file(self.filepath) if self.filepath else view_of_scene(context.scene)
            body = bpy.path.abspath(self.body_file) if self.body_file else FREE_BODY
            jobs = [
                estimate_job(context.scene, view, person - 1, body)
                for person in range(self.person, self.person + self.people)
            ]
            for job in jobs:
                session.SESSION.ask(context, job)
            if self.wait:
                for job in jobs:
                    session.SESSION.wait_for(job)
        except SceneError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


def estimate_job(scene: bpy.types.Scene, view: ClipView, person: int, body: str) -> EstimateJob:
    """The job that finds one person in a clip; 0 is the largest."""
    name = view.path.stem if person == 0 else f"{view.path.stem}.person{person + 1}"
    return EstimateJob(scene.name, name, ImportOptions(name, body), view, person)


def _view_of_file(filepath: str) -> ClipView:
    path = Path(bpy.path.abspath(filepath)).resolve()
    if not path.exists():
        raise SceneError(f"the footage {path} is not there: choose it again")
    is_image = path.suffix.lower() in scene_footage.IMAGE_SUFFIXES
    return ClipView(path.parent if is_image else path)


def _shows_footage(scene: bpy.types.Scene) -> bool:
    camera = scene.camera
    if camera is None or camera.type != "CAMERA":
        return False
    try:
        return scene_footage.has_footage(scene, camera)
    except SceneError:
        return True  # it is there, and what is wrong with it is said when it is read


CLASSES = (POSEFIT_OT_estimate,)
