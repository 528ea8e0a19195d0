# SPDX-License-Identifier: GPL-3.0-or-later
"""An armature's motion with its camera → a sequence file; what the importer reads back the same.

The scene is read as for a refinement, in slices; so is the file worked out.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import bpy

from posefit_shared.sequence import write_sequence

from ..scenes import scene_view
from ..scenes.scene_reader import SceneReading, read_range
from .scene_job import SceneJob


@dataclass(eq=False)
class ExportJob(SceneJob):
    """One export on its way."""

    path: Path
    """The file."""
    with_camera: bool = True
    """Whether the scene's camera goes along."""
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """What the artist should know of the file."""

    def slices(
        self, context: bpy.types.Context, armature: bpy.types.Object
    ) -> Generator[float, None, SceneReading]:
        """How the scene is read."""
        view = scene_view.view_to_export(context.scene, self.scene_frames, self.with_camera)
        self.notes = view.notes
        return read_range(context, armature, self.scene_frames, view)

    def write(self) -> None:
        """Begin to write what was read."""
        assert self.reading is not None
        self.preparing = _write(self.reading, self.path)
        self.words, self.fraction = "writing the file", 0.9

    def end_written(self) -> None:
        """The file is there."""
        count = len(self.scene_frames)
        frames = "1 frame" if count == 1 else f"{count} frames"
        self.end("; ".join([f"{frames} written to {self.path.name}", *self.notes]))


def _write(reading: SceneReading, path: Path) -> Generator[None, None, None]:
    """Work the file out in slices and write it.

    Raises:
        SceneError: the armature's scale cannot be SMPL's.
        SequenceError: the file cannot be written.
    """
    request = yield from reading.request_slices()
    yield
    write_sequence(path, request.sequence)
