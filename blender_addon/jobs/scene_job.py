# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on frames of an armature that the session does bit by bit: read in slices, end in words."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field

import bpy

from ..control.frame_list import write_frames
from ..results import blended_preview
from ..rigs.lookup import found, in_scene
from ..scenes.scene_reader import SceneReading, read_range
from .job import Job

LONGEST_LABEL = 24
"""Lists of frames longer than this are summed up in the panel."""


@dataclass(eq=False)
class SceneJob(Job):
    """Work on frames of an armature; changed by the session alone."""

    armature: str
    """Name of the armature when it was asked for."""
    scene_frames: tuple[int, ...]
    """Blender's frames."""
    armature_uid: int = field(default=0, kw_only=True)
    """What Blender calls that armature for as long as the file is open, under whichever name."""
    words: str = field(default="reading the scene", kw_only=True)
    """How it stands, for the panel."""
    reading: SceneReading | None = field(default=None, kw_only=True)
    """What was read, once it was."""
    is_waiting: bool = field(default=False, kw_only=True)
    """Whether it is not its turn to be read yet."""
    is_handed_over: bool = field(default=False, kw_only=True)
    """Whether what was read has been passed on."""
    _slices: Generator[float, None, SceneReading] | None = field(default=None, kw_only=True)

    @property
    def label(self) -> str:
        """What is worked on, for the panel."""
        frames = write_frames(self.scene_frames)
        count = len(self.scene_frames)
        if len(frames) > LONGEST_LABEL:
            first, last = self.scene_frames[0], self.scene_frames[-1]
            return f"{self.armature}, {count} frames, {first} to {last}"
        return f"{self.armature}, {'frame' if count == 1 else 'frames'} {frames}"

    @property
    def is_reading(self) -> bool:
        """Whether the scene is still being read."""
        return self.is_open and self._slices is not None

    def begin_reading(self) -> None:
        """Read the first slice of the scene, so that what is missing is said at once.

        Raises:
            SceneError: something is missing or cannot be used.
        """
        armature = found(self.armature_uid, self.armature)
        self.is_waiting, self.reading = False, None
        blended_preview.finish(armature)
        with in_scene(self.scene_uid, self.scene) as context:
            self._slices = self.slices(context, armature)
        self.read_until(time.monotonic())

    def wait_for_turn(self, words: str) -> None:
        """Look whether everything needed is there, and read it later.

        Raises:
            SceneError: something is missing or cannot be used.
        """
        self.begin_reading()
        self._slices, self.reading = None, None
        self.words, self.is_waiting = words, True

    def slices(
        self, context: bpy.types.Context, armature: bpy.types.Object
    ) -> Generator[float, None, SceneReading]:
        """How the scene is read."""
        return read_range(context, armature, self.scene_frames)

    def read_until(self, deadline: float) -> None:
        """Read on until a time, at least one slice.

        Raises:
            SceneError: something was deleted or cannot be used.
        """
        assert self._slices is not None
        try:
            with in_scene(self.scene_uid, self.scene):
                while True:
                    self.words = f"reading the scene ({next(self._slices):.0%})"
                    if time.monotonic() >= deadline:
                        return
        except StopIteration as done:
            self.reading, self._slices = done.value, None

    def end(self, words: str, is_problem: bool = False) -> None:
        """Nothing more will come of it."""
        super().end(words, is_problem)
        self._slices, self.is_waiting = None, False
