# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion files come in: bodies, motion, camera and footage; those of other tools by the backend."""

from __future__ import annotations

from pathlib import Path

import bpy

from posefit_shared.body_files import FREE_BODY, BodyFileError
from posefit_shared.sequence import SequenceError

from .. import session
from ..jobs.sequence_job import FileJob
from ..jobs.sequence_jobs import ImportJob
from ..rigs.rig import SceneError
from ..sequences.local_sequences import NamedMotion, read_file
from ..sequences.sequence_import import ImportOptions, size_of_clip
from ..sequences.sequences_import import import_motions, plan_motions
from .asking import wait_property


class POSEFIT_OT_import_sequence(bpy.types.Operator):
    """Import SMPL motion: sequences, shots of several people, other tools' results by a backend"""

    bl_idname = "posefit.import_sequence"
    bl_label = "Import Sequence"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    directory: bpy.props.StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: bpy.props.CollectionProperty(
        type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"}
    )
    filter_glob: bpy.props.StringProperty(
        default="*.npz;*.json;*.pkl;*.pt;*.pth;*.npy;*.bvh", options={"HIDDEN"}
    )
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
    person: bpy.props.IntProperty(
        name="Person",
        description="Other tools' files: which person to take; 0 takes the only one, or the first",
        default=0,
        min=0,
        max=255,
        options={"SKIP_SAVE"},
    )
    wait: wait_property("what the backend reads is there too")
    in_turns: bpy.props.BoolProperty(
        name="In Turns",
        description="Build bodies bit by bit, a job each; scripts have them at once, the button "
        "has not",
        options={"SKIP_SAVE", "HIDDEN"},
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self.in_turns = True
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            motions, others = self._read()
            notes = []
            if self.in_turns:
                self._bring_in(context, motions)
            elif motions:
                notes = import_motions(context, motions, self._options(""))
            jobs = [self._job(context.scene, path) for path in others]
            for job in jobs:
                session.SESSION.ask(context, job)
            if self.wait:
                for job in jobs:
                    session.SESSION.wait_for(job)
        except (SceneError, SequenceError, BodyFileError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if notes:
            self.report({"WARNING"}, "; ".join(notes))
        # What is only begun has changed nothing: no undo step.
        return {"CANCELLED"} if self.in_turns else {"FINISHED"}

    def _bring_in(self, context: bpy.types.Context, motions: list[NamedMotion]) -> None:
        jobs = [
            FileJob(context.scene.name, named.name, options, named.motion)
            for named, options in plan_motions(motions, self._options(""))
        ]
        for job in jobs:
            job.check()
        for job in jobs:
            session.SESSION.bring_in(context, job)

    def _read(self) -> tuple[list[NamedMotion], list[Path]]:
        """What was read here, and the files that only the backend may know."""
        motions, others = [], []
        for path in self._paths():
            try:
                motions += read_file(path)
            except SequenceError as error:
                if not path.is_file() or path.suffix.lower() == ".json":
                    raise
                if not session.SESSION.knows(ImportJob.KIND):
                    raise SequenceError(f"{error}; {_why_not_here()}") from error
                others.append(path)
        return motions, others

    def _paths(self) -> list[Path]:
        folder = Path(bpy.path.abspath(self.directory))
        names = [one.name for one in self.files if one.name]
        return [folder / name for name in names] or [Path(bpy.path.abspath(self.filepath))]

    def _job(self, scene: bpy.types.Scene, path: Path) -> ImportJob:
        person = self.person - 1 if self.person else None
        name = path.stem if not person else f"{path.stem}.person{person + 1}"
        options = self._options(name)
        size = None if options.footage is None else size_of_clip(options.footage)
        return ImportJob(scene.name, name, options, path, person=person, image_size=size)

    def _options(self, name: str) -> ImportOptions:
        return ImportOptions(
            name=name,
            body=bpy.path.abspath(self.body_file) if self.body_file else FREE_BODY,
            footage=Path(bpy.path.abspath(self.footage)) if self.footage else None,
            with_camera=self.with_camera,
            pose_correctives=self.pose_correctives,
        )


def _why_not_here() -> str:
    if session.SESSION.is_connected:
        return "if another tool wrote it: this backend reads no files of other tools"
    return "if another tool wrote it: connect to a backend, which may know that tool's files"


CLASSES = (POSEFIT_OT_import_sequence,)
