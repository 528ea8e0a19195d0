# SPDX-License-Identifier: GPL-3.0-or-later
"""An action built bit by bit beside what the artist works on.

The action is in no use until it is whole, so whatever interrupts the building leaves the file as it
was: nothing refers to a part of it, and Blender does not save it. Where what it is made from
changes meanwhile, it is begun anew.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import bpy
import numpy as np

from posefit_shared.body_files import BodyFileError
from posefit_shared.sequence import SequenceError

from ..keys.fcurves import ActionSlot, slot_of
from ..keys.unfinished import RemovedError, drop_unfinished, unfinished_uids
from ..results import blended_preview
from ..rigs.lookup import find_object
from ..rigs.rig import SceneError
from ..rigs.rig_match import match_armature
from ..slices import LONG_NEXT

Slices = Generator[Any, None, ActionSlot]
"""Work that gives an action, with pauses."""

MOST_BEGINNINGS = 4
"""So often it is begun in slices; an artist who edits on and on then waits for it once."""


class ActionBuild:
    """The building of one action."""

    def __init__(self) -> None:
        self._slices: Slices | None = None
        self._made_from: tuple = ()
        self._beginnings = 0
        self._made: set[int] = set()
        self.built: ActionSlot | None = None
        """The action, once it is whole."""
        self.is_stale = False
        """Whether the keys that it is made from were changed."""

    @property
    def source_uids(self) -> frozenset[int]:
        """Blender's numbers of the actions that it is made from."""
        raise NotImplementedError

    @property
    def is_whole(self) -> bool:
        """Whether all that was built is still there."""
        return self.built is not None and self.built.action is not None

    def begin(self) -> Slices:
        """The work in slices; keeps no bpy object across a pause.

        Raises:
            SceneError: it cannot be done.
        """
        raise NotImplementedError

    def state(self) -> tuple | None:
        """What an action is made from, beside the keys of other actions; none: it is gone."""
        raise NotImplementedError

    def until(self, deadline: float) -> bool:
        """Build on until a time, at least one slice; true once the action is whole.

        Raises:
            SceneError: nothing can take it any more; nothing was changed.
            BodyFileError: the body's file cannot be read.
            SequenceError: the motion cannot be used.
        """
        state = self.state()
        is_gone = self.built is not None and not self.is_whole
        if state is None or self.is_stale or is_gone or self._made_from != state:
            self._begin()
            if deadline < float("inf") and self._beginnings <= MOST_BEGINNINGS:
                return False  # what comes first may be long: it has a turn of its own
        elif self.built is not None:
            return True
        if self._beginnings > MOST_BEGINNINGS:
            deadline = float("inf")
        try:
            return self._build_until(deadline)
        except RemovedError:
            self.drop()
            return False
        except (SceneError, BodyFileError, SequenceError):
            self.drop()  # what is asked for it again begins anew, and hears the same
            raise

    def _build_until(self, deadline: float) -> bool:
        """Build on until a time, and note what is made: other builds may be half done beside it."""
        others = unfinished_uids() - self._made
        assert self._slices is not None
        try:
            while True:
                said = next(self._slices)
                if time.monotonic() >= deadline or (said is LONG_NEXT and deadline < float("inf")):
                    return False
        except StopIteration as done:
            self.built = done.value
            return deadline == float("inf")  # else what follows has a turn of its own
        finally:
            self._made |= unfinished_uids() - others

    def to_end(self) -> ActionSlot:
        """The action, built at once as far as it is missing.

        Raises:
            SceneError: nothing can take it any more; nothing was changed.
            BodyFileError: the body's file cannot be read.
            SequenceError: the motion cannot be used.
        """
        while not self.until(float("inf")):
            pass
        assert self.built is not None
        return self.built

    def drop(self) -> None:
        """Remove what is built, and begin anew where it is wanted again."""
        if self._slices is not None:
            self._slices.close()
        self._slices, self.built, self._made_from, self.is_stale = None, None, (), False
        drop_unfinished(self._made)
        self._made = set()

    def _begin(self) -> None:
        self.drop()
        slices = self.begin()
        self._made_from = self.state() or ()
        self._beginnings += 1
        self._slices = slices


class ArmatureBuild(ActionBuild):
    """The building of one action for an armature that is there."""

    def __init__(self, armature_uid: int) -> None:
        """
        Args:
            armature_uid: Blender's number of the armature.
        """
        super().__init__()
        self._armature_uid = armature_uid

    def check(self) -> bpy.types.Object:
        """The armature, if it can take what is built.

        Raises:
            SceneError: it cannot.
        """
        raise NotImplementedError

    def build(self, armature: bpy.types.Object) -> Slices:
        """The work in slices; keeps no bpy object across a pause."""
        raise NotImplementedError

    def begin(self) -> Slices:
        """Build for the armature, if it can take it."""
        armature = self.check()
        blended_preview.finish(armature)
        return self.build(armature)

    def state(self) -> tuple | None:
        """The armature's own."""
        armature = find_object(self._armature_uid)
        return None if armature is None else self.state_of(armature)

    def state_of(self, armature: bpy.types.Object) -> tuple:
        """What an action is made from, beside the keys of other actions."""
        match = match_armature(armature)
        rest = np.empty(16 * len(armature.data.bones), np.float32)
        armature.data.bones.foreach_get("matrix_local", rest)
        settings = armature.posefit_comparison
        compared = (settings.original, settings.refined)
        return (
            slot_of(armature),
            match,
            tuple(armature.pose.bones[name].rotation_mode for name in match.bones),
            rest.tobytes(),
            tuple(0 if action is None else action.session_uid for action in compared),
        )
