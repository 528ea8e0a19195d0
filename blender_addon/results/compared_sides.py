# SPDX-License-Identifier: GPL-3.0-or-later
"""The two motions that an armature compares: the original and the refined one."""

from __future__ import annotations

import bpy

from ..keys.fcurves import ActionSlot, Channel
from ..keys.joint_channels import Side, SideSource


def sides(armature: bpy.types.Object) -> tuple[Side, Side]:
    """The original and the refined motion."""
    original, refined = sources(armature)
    return original.side(), refined.side()


def sources(armature: bpy.types.Object) -> tuple[SideSource, SideSource]:
    """Where the original and the refined motion are found."""
    settings = armature.posefit_comparison
    still = stored_still(settings)
    return (
        SideSource(slot_in(settings.original, settings.original_slot), still),
        SideSource(slot_in(settings.refined, settings.refined_slot), still),
    )


def slot_in(action: bpy.types.Action | None, handle: int) -> ActionSlot:
    """One slot of an action that may be missing."""
    return ActionSlot(0 if action is None else action.session_uid, handle)


def stored_still(settings: bpy.types.PropertyGroup) -> dict[Channel, float]:
    """What the original pose had where no curve held it."""
    return {(one.data_path, one.index): one.value for one in settings.still}
