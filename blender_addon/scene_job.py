# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on frames of an armature that the session does bit by bit: read in slices, end in words."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import bpy

from .frame_list import write_frames
from .rig import SceneError
from .scene_reader import SceneReading, read_range

LONGEST_LABEL = 24
"""Lists of frames longer than this are summed up in the panel."""


@dataclass
class SceneJob:
    """What is known of one piece of work; changed by the session alone."""

    scene: str
    """Name of the scene it was asked in."""
    armature: str
    """Name of the armature."""
    scene_frames: tuple[int, ...]
    """Blender's frames."""
    job_id: str = field(default_factory=lambda: uuid.uuid4().hex, kw_only=True)
    """Its name in this session."""
    remote_id: str = field(default="", kw_only=True)
    """Its name at the backend, once it was handed over."""
    reading: SceneReading | None = field(default=None, kw_only=True)
    """What was read, once it was."""
    preparing: Future[Any] | None = field(default=None, kw_only=True)
    """What a thread makes of it."""
    words: str = field(default="reading the scene", kw_only=True)
    """How it stands, for the panel."""
    fraction: float = field(default=0.0, kw_only=True)
    """How much is done, 0 to 1."""
    is_open: bool = field(default=True, kw_only=True)
    """Whether it is still under way."""
    is_problem: bool = field(default=False, kw_only=True)
    """Whether it ended badly."""
    _slices: Generator[float, None, SceneReading] | None = field(default=None, kw_only=True)

    @property
    def label(self) -> str:
        """What is worked on, for the panel."""
        frames = write_frames(self.scene_frames)
        if len(frames) > LONGEST_LABEL:
            first, last = self.scene_frames[0], self.scene_frames[-1]
            frames = f"{len(self.scene_frames)} frames, {first} to {last}"
        return f"{self.armature} {frames}"

    @property
    def is_reading(self) -> bool:
        """Whether the scene is still being read."""
        return self.is_open and self._slices is not None

    def begin_reading(self, context: bpy.types.Context) -> None:
        """Read the first slice of the scene, so that what is missing is said at once.

        Raises:
            SceneError: something is missing or cannot be used.
        """
        armature = bpy.data.objects.get(self.armature)
        if armature is None:
            raise SceneError(f"{self.armature} is gone: select an armature")
        self._slices = self.slices(context, armature)
        self.read_until(time.monotonic())

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
        if bpy.context.scene.name != self.scene:
            raise SceneError(f"scene {self.scene} was left while it was read: start again there")
        try:
            while True:
                self.words = f"reading the scene ({next(self._slices):.0%})"
                if time.monotonic() >= deadline:
                    return
        except StopIteration as done:
            self.reading, self._slices = done.value, None

    def end(self, words: str, is_problem: bool = False) -> None:
        """Nothing more will come of it."""
        self.words, self.is_problem, self.is_open = words, is_problem, False
        self._slices = self.preparing = None
