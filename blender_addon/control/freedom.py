# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a body may move in a refinement: bones, frames, the root (numpy only).

The wire names joints and positions in the sequence, Blender bones and scene frames; this record is
made of the latter, gives the former, and outlives the scene that it was read from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from posefit_shared import skeleton

from ..rigs.rig import RigMatch

_BEYOND_WRISTS = 22
"""SMPL's and SMPL-H's joints from here on are hands; SMPL-X has jaw and eyes before them."""


@dataclass(frozen=True)
class Freedom:
    """What is held; everything else may move."""

    locked: frozenset[str] = frozenset()
    """Bones whose rotation stays as it is."""
    stiffness: Mapping[str, float] = field(default_factory=dict)
    """Factor of each bone's pull to its pose, where it is not 1."""
    pinned: frozenset[int] = frozenset()
    """Scene frames on which nothing changes."""
    is_root_held: bool = False
    """Whether the root's location stays as it is."""

    def locked_joints(self, match: RigMatch) -> tuple[int, ...]:
        """Joints of the locked bones."""
        return tuple(joint for joint, bone in enumerate(match.bones) if bone in self.locked)

    def joint_stiffness(self, match: RigMatch) -> npt.NDArray[np.float32] | None:
        """(J,) factor of each joint; none where all are 1."""
        factors = np.array([self.stiffness.get(bone, 1.0) for bone in match.bones], np.float32)
        return None if (factors == 1).all() else factors

    def pinned_positions(self, scene_frames: Sequence[int]) -> tuple[int, ...]:
        """Where pinned frames stand among those of a job."""
        return tuple(p for p, frame in enumerate(scene_frames) if frame in self.pinned)


def hand_bones(match: RigMatch) -> tuple[str, ...]:
    """The bones beyond the wrists: hands, or fingers where the rig has them."""
    names = skeleton.JOINT_NAMES[match.model_type]
    face = ("Jaw", "L_Eye", "R_Eye")
    pairs = zip(names[_BEYOND_WRISTS:], match.bones[_BEYOND_WRISTS:], strict=True)
    return tuple(bone for name, bone in pairs if name not in face)
