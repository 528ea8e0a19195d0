# SPDX-License-Identifier: GPL-3.0-or-later
"""A refinement is being accepted: its action is built bit by bit and put in place in one moment."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import bpy

from ..keys.fcurves import ActionSlot
from ..results import accept_refinement
from ..results.accept_refinement import Accepted
from ..results.accepted_keys import AcceptOptions
from ..rigs.lookup import found
from .action_build import ArmatureBuild
from .placed_job import PlacedJob


class AcceptBuild(ArmatureBuild):
    """The building of what is accepted."""

    def __init__(self, armature_uid: int, armature: str, options: AcceptOptions) -> None:
        """
        Args:
            armature_uid: Blender's number of the armature.
            armature: its name.
            options: what is taken.
        """
        super().__init__(armature_uid)
        self._armature, self._options = armature, options
        self.accepted: Accepted | None = None
        """What was built, once it is whole."""

    @property
    def source_uids(self) -> frozenset[int]:
        """The original and the refined action."""
        return frozenset(self._made_from[-1]) - {0} if self._made_from else frozenset()

    def check(self) -> bpy.types.Object:
        """The armature, if it has something to accept."""
        armature = found(self._armature_uid, self._armature)
        accept_refinement.check(armature)
        return armature

    def state_of(self, armature: bpy.types.Object) -> tuple:
        """Also where the slider stands."""
        return armature.posefit_comparison.amount, *super().state_of(armature)

    def build(self, armature: bpy.types.Object) -> Generator[None, None, ActionSlot]:
        """Work out the keys, and write them into a copy."""
        return self._build()

    def _build(self) -> Generator[None, None, ActionSlot]:
        self.accepted = yield from accept_refinement.building(self._armature_uid, self._options)
        return self.accepted.slot


@dataclass(eq=False)
class AcceptJob(PlacedJob):
    """What is known of it; changed by the session alone."""

    armature: str
    """Name of the armature when it was asked for."""
    armature_uid: int
    """What Blender calls that armature for as long as the file is open, under whichever name."""
    options: AcceptOptions
    """What is taken."""
    words: str = field(default="accepting", kw_only=True)
    """How it stands, for the panel."""
    build: AcceptBuild | None = field(default=None, kw_only=True)
    """Its action, as far as it is built."""

    def __post_init__(self) -> None:
        self.build = AcceptBuild(self.armature_uid, self.armature, self.options)

    @property
    def label(self) -> str:
        """What is worked on, for the panel."""
        return f"Accepting {self.armature}"

    @property
    def is_to_be_placed(self) -> bool:
        """From the start: all that is to be done is to build and to place."""
        return self.is_open

    def build_until(self, context: bpy.types.Context, deadline: float) -> bool:
        """Build the action."""
        assert self.build is not None  # until it ends
        return self.build.until(deadline)

    def apply(self, context: bpy.types.Context) -> str:
        """Have the armature own the action."""
        assert self.build is not None
        self.build.to_end()
        assert self.build.accepted is not None
        armature = found(self.armature_uid, self.armature)
        return accept_refinement.put_in_place(armature, self.build.accepted)
