# SPDX-License-Identifier: GPL-3.0-or-later
"""An action built bit by bit beside what the artist works on.

The action is in no use until it is whole, so whatever interrupts the building leaves the file as it
was: nothing refers to a part of it, and Blender does not save it. Where what it is made from
changes meanwhile, it is begun anew.
"""

from __future__ import annotations

import time
from collections.abc import Generator

import bpy
import numpy as np

from ..keys.fcurves import ActionSlot, slot_of
from ..keys.keyframe_writer import RemovedError, drop_unfinished
from ..results import blended_preview
from ..rigs.lookup import find_object
from ..rigs.rig_match import match_armature

MOST_BEGINNINGS = 4
"""So often it is begun in slices; an artist who edits on and on then waits for it once."""


class ActionBuild:
    """The building of one action for one armature."""

    def __init__(self, armature_uid: int) -> None:
        """
        Args:
            armature_uid: Blender's number of the armature.
        """
        self._armature_uid = armature_uid
        self._slices: Generator[None, None, ActionSlot] | None = None
        self._made_from: tuple = ()
        self._beginnings = 0
        self.built: ActionSlot | None = None
        """The action, once it is whole."""
        self.is_stale = False
        """Whether the keys that it is made from were changed."""

    @property
    def source_uids(self) -> frozenset[int]:
        """Blender's numbers of the actions that it is made from."""
        raise NotImplementedError

    def check(self) -> bpy.types.Object:
        """The armature, if it can take what is built.

        Raises:
            SceneError: it cannot.
        """
        raise NotImplementedError

    def build(self, armature: bpy.types.Object) -> Generator[None, None, ActionSlot]:
        """The work in slices; keeps no bpy object across a pause."""
        raise NotImplementedError

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

    def until(self, deadline: float) -> bool:
        """Build on until a time, at least one slice; true once the action is whole.

        Raises:
            SceneError: the armature cannot take it any more; nothing was changed.
            BodyFileError: the body's file cannot be read.
        """
        armature = find_object(self._armature_uid)
        if armature is None or self.is_stale or self._made_from != self.state_of(armature):
            self._begin()
        elif self.built is not None and self.built.action is not None:
            return True
        if self._beginnings > MOST_BEGINNINGS:
            deadline = float("inf")
        assert self._slices is not None
        try:
            while True:
                next(self._slices)
                if time.monotonic() >= deadline:
                    return False
        except StopIteration as done:
            self.built = done.value
            return time.monotonic() < deadline  # else this turn has been long enough
        except RemovedError:
            self.drop()
            return False

    def to_end(self) -> ActionSlot:
        """The action, built at once as far as it is missing.

        Raises:
            SceneError: the armature cannot take it any more; nothing was changed.
            BodyFileError: the body's file cannot be read.
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
        drop_unfinished()

    def _begin(self) -> None:
        self.drop()
        armature = self.check()
        blended_preview.finish(armature)
        self._made_from = self.state_of(armature)
        self._beginnings += 1
        self._slices = self.build(armature)
