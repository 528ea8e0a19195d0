# SPDX-License-Identifier: GPL-3.0-or-later
"""Animation that lives in NLA strips: a refined action over them, and a strip of its own for it.

Over strips the active action replaces what they show only where it has keys, by as much as its
influence says; everywhere else, and for all other bones, the strips go on as they were.
"""

from __future__ import annotations

import math

import bpy

from ..rigs.rig import SceneError
from .fcurves import use_action

SHORTEST = 0.5
"""Frames that an action lasts which has keys on one frame alone: no other frame is in it."""


def has_strips(owner: bpy.types.ID) -> bool:
    """Whether strips of NLA tracks move an ID."""
    animation = owner.animation_data
    if animation is None or not animation.use_nla:
        return False
    return any(track.strips and not track.mute for track in animation.nla_tracks)


def check_can_be_keyed(armature: bpy.types.Object) -> None:
    """Refuse an armature whose new keys would not show what they say.

    Raises:
        SceneError: a strip is being tweaked, or the action is mixed into what lies below it.
    """
    animation = armature.animation_data
    if animation is None:
        return
    if animation.use_tweak_mode:
        raise SceneError(
            f"a strip of {armature.name} is in tweak mode: leave it (Tab in the NLA editor), then "
            "the refined action is put over the strips"
        )
    if not has_strips(armature) or animation.action is None:
        return
    if animation.action_blend_type != "REPLACE":
        blending = animation.action_blend_type.title()
        raise SceneError(
            f"action {animation.action.name} of {armature.name} is mixed into its NLA strips "
            f"(blending {blending}), so keys of whole poses cannot go there: push it down to a "
            "track of its own in the NLA editor, and refine again"
        )


def show_over_strips(
    armature: bpy.types.Object, action: bpy.types.Action, handle: int, amount: float
) -> None:
    """Have an armature show a part of an action over its strips; 0: the strips alone."""
    animation = armature.animation_data
    use_action(armature, action if amount > 0 else None, handle)
    animation.action_extrapolation = "NOTHING"
    animation.action_blend_type = "REPLACE"
    animation.action_influence = amount if amount > 0 else 1.0


def leave_strips_alone(armature: bpy.types.Object) -> None:
    """No action over the strips, and settings as Blender has them from the start."""
    animation = armature.animation_data
    use_action(armature, None, 0)
    animation.action_extrapolation = "HOLD"
    animation.action_influence = 1.0


def push_down(
    armature: bpy.types.Object, action: bpy.types.Action, handle: int, amount: float
) -> str:
    """Make an action a strip of a new track above all others; gives back the track's name."""
    leave_strips_alone(armature)
    first, last = action.curve_frame_range
    if last == first:  # Blender would make a strip of it that lasts a frame longer
        action.use_frame_range, action.frame_start, action.frame_end = True, first, first + SHORTEST
    track = armature.animation_data.nla_tracks.new()
    track.name = action.name
    strip = track.strips.new(action.name, math.floor(first), action)
    if hasattr(strip, "action_slot"):
        strip.action_slot = next(slot for slot in action.slots if slot.handle == handle)
    strip.extrapolation, strip.blend_type = "NOTHING", "REPLACE"
    strip.influence = amount
    return track.name
