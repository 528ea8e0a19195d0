# SPDX-License-Identifier: GPL-3.0-or-later
"""One piece of work that outlives the operator that asked for it, and how it stands.

`SceneJob` reads an armature first, `RemoteJob` goes to the backend; a refinement does both.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from .time_left import TimeLeft, duration_words

LEAST_SECONDS = 1.0
"""Less is not said: "0 s left" would be read as a promise that was broken."""


@dataclass(eq=False)
class Job:
    """What is known of one piece of work; changed by the session alone."""

    scene: str
    """Name of the scene it was asked in."""
    scene_uid: int = field(default=0, kw_only=True)
    """What Blender calls that scene for as long as the file is open, under whichever name."""
    job_id: str = field(default_factory=lambda: uuid.uuid4().hex, kw_only=True)
    """Its name in this session."""
    preparing: Generator[None, None, Any] | None = field(default=None, kw_only=True)
    """What is worked out for it in slices, without bpy."""
    words: str = field(default="", kw_only=True)
    """How it stands, for the panel."""
    fraction: float = field(default=0.0, kw_only=True)
    """How much is done, 0 to 1."""
    is_open: bool = field(default=True, kw_only=True)
    """Whether it is still under way."""
    is_problem: bool = field(default=False, kw_only=True)
    """Whether it ended badly."""
    time_left: TimeLeft = field(default_factory=TimeLeft, kw_only=True)
    """How long it will still take."""

    @property
    def label(self) -> str:
        """What is worked on, for the panel."""
        return self.scene

    @property
    def line(self) -> str:
        """How it stands and how long it will still take, for the panel."""
        seconds = self.time_left.seconds(time.monotonic()) if self.is_open else None
        if seconds is None or seconds < LEAST_SECONDS:
            return self.words
        return f"{self.words}, {duration_words(seconds)} left"

    @property
    def is_reading(self) -> bool:
        """Whether the scene is still being read."""
        return False

    def end(self, words: str, is_problem: bool = False) -> None:
        """Nothing more will come of it."""
        self.words, self.is_problem, self.is_open = words, is_problem, False
        self.preparing = None
