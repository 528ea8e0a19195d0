# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that ends by changing the scene: built bit by bit beside it, put in place in one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .job import Job


@dataclass(eq=False)
class PlacedJob(Job):
    """What is known of one such piece of work; changed by the session alone."""

    is_kept: bool = field(default=False, kw_only=True)
    """Whether what has come of it is to be put in place, though it was stopped."""
    build: Any = field(default=None, kw_only=True)
    """Its action (an `ActionBuild`), as far as it is built; none where nothing is to be keyed."""

    @property
    def is_to_be_placed(self) -> bool:
        """Whether it waits to be put in place."""
        raise NotImplementedError

    @property
    def can_be_kept(self) -> bool:
        """Whether something has come of it that is not in place."""
        return False

    @property
    def must_be_shown(self) -> bool:
        """Whether its scene must be the one in the window when it is put in place."""
        return False

    @property
    def source_uids(self) -> frozenset[int]:
        """Blender's numbers of the actions that it is being built from."""
        return frozenset() if self.build is None else self.build.source_uids

    def build_until(self, context: Any, deadline: float) -> bool:
        """Make ready, bit by bit, what is to be put in place; true once it is.

        Args:
            context: in the job's scene.
            deadline: by `time.monotonic()`; at least one bit is done.

        Raises:
            SceneError: it cannot be put in place; nothing was changed.
            BodyFileError: the body's file cannot be read.
        """
        return True

    def build_anew(self) -> None:
        """What is built so far holds no longer."""
        if self.build is not None:
            self.build.drop()

    def source_changed(self) -> None:
        """Keys that it is being built from were changed: it is built again."""
        if self.build is not None:
            self.build.is_stale = True

    def apply(self, context: Any) -> str:
        """Put into the scene what has come of it.

        Returns:
            What was done, in words.

        Raises:
            SceneError: it cannot be put in place; nothing was changed.
            BodyFileError: the body's file cannot be read.
        """
        raise NotImplementedError

    def drop(self) -> None:
        """Forget what has come of it."""
        self.is_kept = False

    def end(self, words: str, is_problem: bool = False) -> None:
        """Nothing more will come of it; what was being built goes."""
        super().end(words, is_problem)
        self.is_kept = False
        self.build_anew()
        self.build = None
