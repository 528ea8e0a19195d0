# SPDX-License-Identifier: GPL-3.0-or-later
"""A sequence becomes a body in motion: its keys bit by bit, then the body, in one moment.

Where the sequence comes from is its neighbours' matter.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import bpy

from posefit_shared.sequence import Sequence

from ..keys.fcurves import ActionSlot
from ..rigs.lookup import find_object, find_scene
from ..rigs.rig import SceneError
from ..sequences.sequence_import import (
    Imported,
    ImportOptions,
    PreparedSequence,
    check_sequence,
    place_sequence,
    prepare_sequence,
)
from .action_build import ActionBuild, Slices
from .placed_job import PlacedJob

MotionSlices = Generator[float | None, None, tuple[Sequence, ImportOptions]]
"""Work that gives a motion and how it comes in, with pauses."""


class SequenceBuild(ActionBuild):
    """The building of one sequence's action."""

    def __init__(self, motion: Callable[[], MotionSlices], made_from: Callable[[], tuple]) -> None:
        """
        Args:
            motion: the motion as it is to stand in the scene, in slices.
            made_from: what of the scene it depends on; an `ActionSlot` first.
        """
        super().__init__()
        self._motion, self._state = motion, made_from
        self.prepared: PreparedSequence | None = None
        """What is to be placed, once it is whole."""

    @property
    def source_uids(self) -> frozenset[int]:
        """The action that moves the camera which the motion stands before, where there is one."""
        return frozenset({self._made_from[0].uid} - {0}) if self._made_from else frozenset()

    @property
    def is_whole(self) -> bool:
        """Whether action, mesh and camera are still there."""
        if not super().is_whole or self.prepared is None:
            return False
        parts = (self.prepared.mesh, self.prepared.camera)
        return all(uid is None or find_object(uid) is not None for uid in parts)

    def state(self) -> tuple:
        """What of the scene it depends on."""
        return self._state()

    def begin(self) -> Slices:
        """Find where the motion stands, and key it."""
        return self._build()

    def _build(self) -> Generator[float | None, None, ActionSlot]:
        motion, options = yield from self._motion()
        self.prepared = yield from prepare_sequence(motion, options)
        return self.prepared.slot


@dataclass(eq=False)
class SequenceJob(PlacedJob):
    """Work that ends with a body in motion; changed by the session alone."""

    name: str
    """What the body is to be called."""
    options: ImportOptions
    """How the sequence comes in."""
    build: SequenceBuild | None = field(default=None, kw_only=True)
    """Its action, as far as it is built."""

    @property
    def label(self) -> str:
        """What is worked on, for the panel."""
        return self.name

    @property
    def must_be_shown(self) -> bool:
        """A body can be built in the shown scene alone."""
        return True

    def motion(self) -> Sequence:
        """The sequence.

        Raises:
            SceneError: it cannot be used any more.
        """
        raise NotImplementedError

    def placed(self) -> MotionSlices:
        """The motion as it is to stand in the scene, and how it comes in, in slices."""
        yield
        return self.motion(), self.options

    def made_from(self) -> tuple:
        """What of the scene that depends on: the camera's action, and where it stands."""
        return (ActionSlot(0, 0),)

    def build_until(self, context: bpy.types.Context, deadline: float) -> bool:
        """Key the motion beside the scene."""
        return self._begun().until(deadline)

    def place(self, context: bpy.types.Context) -> Imported:
        """Build the body, and have it use the action."""
        build = self._begun()
        build.to_end()
        assert build.prepared is not None
        return place_sequence(context, build.prepared)

    def apply(self, context: bpy.types.Context) -> str:
        """Build the body with its motion, camera and footage."""
        motion, imported = self.motion(), self.place(context)
        words = f"{len(motion)} frames imported as {imported.armature.name}"
        return "; ".join([words, *imported.notes])

    def _begun(self) -> SequenceBuild:
        if self.build is None:
            self.build = SequenceBuild(self.placed, self.made_from)
        return self.build


@dataclass(eq=False)
class FileJob(SequenceJob):
    """A sequence that was read here."""

    sequence: Sequence
    """The sequence."""
    words: str = field(default="importing", kw_only=True)
    """How it stands, for the panel."""

    def check(self) -> None:
        """Whether footage fits the sequence, and the body, if its file was read already.

        Raises:
            SceneError: they do not.
        """
        check_sequence(self.sequence, self.options)

    @property
    def is_to_be_placed(self) -> bool:
        """From the start: all that is to be done is to build and to place."""
        return self.is_open

    def motion(self) -> Sequence:
        """The sequence."""
        if find_scene(self.scene_uid) is None:
            raise SceneError(f"scene {self.scene} was removed: import {self.name} into another one")
        return self.sequence
