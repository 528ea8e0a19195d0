# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion that was not shot with the footage: which picture belongs to which of its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import bpy


def footage_frames(armature: bpy.types.Object, scene_frames: Sequence[int]) -> list[int]:
    """The scene frames that show the pictures of an armature's frames; the nearest ones."""
    offset = armature.posefit_footage_offset
    return [math.floor(frame + offset + 0.5) for frame in scene_frames]


def offset_words(armature: bpy.types.Object) -> str:
    """The offset in words, where there is one."""
    offset = armature.posefit_footage_offset
    return f" (Footage Offset of {armature.name} is {offset:g})" if offset else ""


def attach() -> None:
    """Give every object its offset; library overrides may change theirs."""
    bpy.types.Object.posefit_footage_offset = bpy.props.FloatProperty(
        name="Footage Offset",
        description="Motion that was not shot with the footage: its frame 10 is compared with the "
        "picture that the scene shows at frame 10 plus this many frames, the nearest one",
        default=0.0,
        soft_min=-1000.0,
        soft_max=1000.0,
        options=set(),
        override={"LIBRARY_OVERRIDABLE"},
    )


def detach() -> None:
    """Take it away again."""
    del bpy.types.Object.posefit_footage_offset
