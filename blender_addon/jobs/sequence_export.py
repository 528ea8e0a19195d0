# SPDX-License-Identifier: GPL-3.0-or-later
"""An armature's motion with its camera → a sequence file; what the importer reads back the same.

The scene is read as for a refinement, in slices; the file is worked out and written in a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
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
    _stop: threading.Event = field(default_factory=threading.Event, kw_only=True)

    def slices(
        self, context: bpy.types.Context, armature: bpy.types.Object
    ) -> Generator[float, None, SceneReading]:
        """How the scene is read."""
        view = scene_view.view_to_export(context.scene, self.scene_frames, self.with_camera)
        self.notes = view.notes
        return read_range(context, armature, self.scene_frames, view)

    def write(self) -> None:
        """Begin to write what was read, away from the main thread."""
        assert self.reading is not None
        thread = ThreadPoolExecutor(1, "posefit-export")
        self.preparing = thread.submit(_write, self.reading, self.path, self._stop)
        thread.shutdown(wait=False)
        self.words, self.fraction = "writing the file", 0.9

    def take_written(self, written: Future[None]) -> None:
        """The file is there, or could not be written.

        Raises:
            SceneError: the armature's scale cannot be SMPL's.
            SequenceError: the file cannot be written.
        """
        written.result()
        count = len(self.scene_frames)
        frames = "1 frame" if count == 1 else f"{count} frames"
        self.end("; ".join([f"{frames} written to {self.path.name}", *self.notes]))

    def end(self, words: str, is_problem: bool = False) -> None:
        """Nothing more will come of it; a file that is not yet written stays unwritten."""
        self._stop.set()
        super().end(words, is_problem)


def _write(reading: SceneReading, path: Path, stop: threading.Event) -> None:
    """Runs in a thread of its own: no bpy here."""
    motion = reading.request().sequence
    if not stop.is_set():
        write_sequence(path, motion)
