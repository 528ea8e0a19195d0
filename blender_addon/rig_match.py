# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bones of an armature are SMPL's joints."""

from __future__ import annotations

import bpy

from .rig import RigMatch, SceneError, match_bones


def match_armature(armature: bpy.types.Object | None) -> RigMatch:
    """The SMPL model that an armature poses, and its bones in joint order.

    Raises:
        SceneError: it is no SMPL armature; the message says what is missing.
    """
    if armature is None or armature.type != "ARMATURE":
        raise SceneError("select the armature of the body first")
    return match_bones(bone.name for bone in armature.data.bones)
