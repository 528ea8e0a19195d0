# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies: add one, and fit its joints to its shape."""

from __future__ import annotations

import bpy
import numpy as np

from posefit_shared.body_files import FREE_BODY, BodyFileError

from ..rigs import body_builder, new_body
from ..rigs.rig import SceneError

POSE_CORRECTIVES = dict(
    name="Pose Correctives",
    description="Also add the shape keys that bend flesh with the pose; more than 200 of them, "
    "which slows playback",
)


class POSEFIT_OT_add_body(bpy.types.Operator):
    """Add a posable SMPL body: armature, skinned mesh, shape sliders"""

    bl_idname = "posefit.add_body"
    bl_label = "Add Body"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(
        name="Body File",
        description="An SMPL model file (.npz or .pkl); empty for the free body",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(default="*.npz;*.pkl", options={"HIDDEN"})
    pose_correctives: bpy.props.BoolProperty(**POSE_CORRECTIVES)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return _add_body(self, context)


class POSEFIT_OT_choose_body(bpy.types.Operator):
    """Add a body from an SMPL model file of your own"""

    bl_idname = "posefit.choose_body"
    bl_label = "Add Body from File"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: bpy.props.StringProperty(default="*.npz;*.pkl", options={"HIDDEN"})
    pose_correctives: bpy.props.BoolProperty(**POSE_CORRECTIVES)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        return _add_body(self, context)


class POSEFIT_OT_fit_joints(bpy.types.Operator):
    """Move the rest joints to where the body's shape has them; keyed rotations stay"""

    bl_idname = "posefit.fit_joints"
    bl_label = "Fit Joints to Shape"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        item = context.object
        return item is not None and item.type == "ARMATURE" and body_builder.BODY_KEY in item

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            body = body_builder.load_body(str(context.object[body_builder.BODY_KEY]))
            body_builder.fit_joints(context, context.object, body)
        except (SceneError, BodyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


def _add_body(
    operator: POSEFIT_OT_add_body | POSEFIT_OT_choose_body, context: bpy.types.Context
) -> set[str]:
    source = bpy.path.abspath(operator.filepath) if operator.filepath else FREE_BODY
    try:
        body = body_builder.load_body(source)
    except BodyFileError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    options = new_body.BodyOptions(
        name="Body" if source == FREE_BODY else body.name,
        source=source,
        pose_correctives=operator.pose_correctives,
    )
    armature = new_body.build_body(context, body, np.zeros(10), options)
    body_builder.stand_at(armature, body, context.scene.cursor.location)
    return {"FINISHED"}


CLASSES = (POSEFIT_OT_add_body, POSEFIT_OT_choose_body, POSEFIT_OT_fit_joints)
