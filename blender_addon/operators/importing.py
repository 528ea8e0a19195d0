# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequence files come in: body, motion, camera and footage."""

from __future__ import annotations

from pathlib import Path

import bpy

from posefit_shared.body_files import FREE_BODY, BodyFileError
from posefit_shared.sequence import SequenceError, read_sequence

from ..rig import SceneError
from ..sequence_import import ImportOptions, import_sequence


class POSEFIT_OT_import_sequence(bpy.types.Operator):
    """Import an SMPL sequence (.npz) as an animated body, with its camera and footage"""

    bl_idname = "posefit.import_sequence"
    bl_label = "Import Sequence"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: bpy.props.StringProperty(default="*.npz", options={"HIDDEN"})
    footage: bpy.props.StringProperty(
        name="Footage",
        description="The video file, or folder of images, that the sequence was made from",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    body_file: bpy.props.StringProperty(
        name="Body File",
        description="The SMPL model file that the sequence's shape belongs to; empty for the free "
        "body",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    with_camera: bpy.props.BoolProperty(
        name="Camera",
        description="Also make the sequence's camera, and set picture size and frame rate",
        default=True,
    )
    pose_correctives: bpy.props.BoolProperty(
        name="Pose Correctives",
        description="Also add the shape keys that bend flesh with the pose; more than 200 of them, "
        "which slows playback",
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        path = Path(bpy.path.abspath(self.filepath))
        try:
            imported = import_sequence(context, read_sequence(path), self._options(path))
        except (SceneError, SequenceError, BodyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if imported.notes:
            self.report({"WARNING"}, "; ".join(imported.notes))
        return {"FINISHED"}

    def _options(self, path: Path) -> ImportOptions:
        return ImportOptions(
            name=path.stem,
            body=bpy.path.abspath(self.body_file) if self.body_file else FREE_BODY,
            footage=Path(bpy.path.abspath(self.footage)) if self.footage else None,
            with_camera=self.with_camera,
            pose_correctives=self.pose_correctives,
        )


CLASSES = (POSEFIT_OT_import_sequence,)
