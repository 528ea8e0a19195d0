# SPDX-License-Identifier: GPL-3.0-or-later
"""Accept a refinement: all of it, some bones, or some frames, at the strength that is shown.

The refined action becomes the armature's own. In it, what was not accepted gets the original's keys
back; the original action itself is not touched and stays in the file. All that is worked out, and
written into a copy of the refined action, in slices; the copy then takes its place in one moment.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import bpy

from ..keys import fcurves, strips
from ..keys.fcurves import ActionSlot
from ..keys.joint_channels import SideSource
from ..keys.unfinished import UNFINISHED, RemovedError, still_there
from ..rigs.rig import SceneError
from ..slices import LONG_NEXT, to_end
from . import comparison, findings, key_marks
from .accepted_keys import AcceptOptions, AcceptPlan, NewKeys, keys_of_plan, make_plan


@dataclass(frozen=True)
class Accepted:
    """What was built, and is not in place."""

    slot: ActionSlot
    """The action; the refined one itself where it is taken as it is."""
    words: tuple[str, str]
    """What of it is taken, and with how many keys."""


def check(armature: bpy.types.Object) -> None:
    """Refuse an armature that has nothing to accept.

    Raises:
        SceneError: why.
    """
    if words := comparison.problem(armature):
        raise SceneError(words)
    if armature.posefit_comparison.amount == 0:
        raise SceneError(
            "The slider is at 0, which is the original: move it towards 1, or press Reject"
        )


def building(armature_uid: int, options: AcceptOptions) -> Generator[Any, None, Accepted]:
    """Build the action with what is accepted, beside the refined one, which stays as it is.

    Args:
        armature_uid: Blender's number of the armature, for which `check` found nothing wrong.
        options: what is taken.

    Yields:
        Where it may pause.

    Raises:
        SceneError: there is nothing to accept.
        RemovedError: armature or action were removed in a pause.
    """
    plan = yield from make_plan(armature_uid, options)
    keys, said = yield from keys_of_plan(armature_uid, plan, options)
    bones = len({joint.bone for joint in plan.spans})
    slot = plan.refined.slot
    if slot.action is None:
        raise RemovedError
    first, last = _taken_frames(slot.action, *plan.whole_span)
    frames = f"frame {first:g}" if first == last else f"frames {first:g} to {last:g}"
    words = f"{bones} bones accepted on {frames}", said
    if not keys and key_marks.KEY not in slot.action:
        return Accepted(slot, words)
    yield LONG_NEXT
    slot = fcurves.copy_of(slot, UNFINISHED)
    yield
    yield from _writing(slot, plan, keys)
    yield from key_marks.taking_off(slot)
    if keys:
        accepted = SideSource(slot, plan.original.still)
        armature = still_there(armature_uid)
        taken = options.bones, options.frames
        yield from findings.keeping_accepted(armature, plan.original, accepted, *taken)
    return Accepted(slot, words)


def _taken_frames(action: bpy.types.Action, first: float, last: float) -> tuple[float, float]:
    """The first and the last frame of a span that were refined; its ends where that is not known.

    A span ends on keys that both motions have, beside what was refined.
    """
    found = findings.read(action)
    if found is None:
        return first, last
    inside = found.frames[(found.frames >= first) & (found.frames <= last)]
    return (int(inside[0]), int(inside[-1])) if len(inside) else (first, last)


def accept(armature: bpy.types.Object, options: AcceptOptions) -> str:
    """Make the refined motion, or parts of it, the armature's own, at once.

    Returns:
        What was done, in words.

    Raises:
        SceneError: there is nothing to accept; nothing was changed.
    """
    check(armature)
    if armature.posefit_comparison.is_over_strips:
        return _accept_over_strips(armature, options)
    return put_in_place(armature, to_end(building(armature.session_uid, options)))


def put_in_place(armature: bpy.types.Object, accepted: Accepted) -> str:
    """Have an armature own what was accepted.

    Returns:
        What was done, in words.

    Raises:
        RemovedError: what was built is gone; nothing was changed.
    """
    settings = armature.posefit_comparison
    original, refined, action = settings.original, settings.refined, accepted.slot.action
    if action is None:
        raise RemovedError
    if action != refined:
        name = refined.name
        action.use_fake_user = refined.use_fake_user
        refined.user_remap(action)
        bpy.data.actions.remove(refined)
        action.name = name
    fcurves.use_action(armature, action, accepted.slot.handle)
    comparison.restore_still(armature)
    comparison.forget(armature)
    armature.update_tag(refresh={"OBJECT", "DATA", "TIME"})
    where = "there was no action before"
    if original is not None:
        original.use_fake_user = True
        where = f"the original is action {original.name}"
    taken, said = accepted.words
    return f"{taken} in action {action.name}{said}; {where}"


def _accept_over_strips(armature: bpy.types.Object, options: AcceptOptions) -> str:
    """The refined action becomes a strip above those that are the original."""
    if options.bones is not None or options.frames is not None or options.keys != "COMPUTED":
        raise SceneError(
            f"the original of {armature.name} lives in NLA strips, over which the refinement goes "
            "as a whole: accept All Bones, All Frames and As Computed, and shorten or mute the new "
            "strip afterwards"
        )
    settings = armature.posefit_comparison
    action, handle, amount = settings.refined, settings.refined_slot, settings.amount
    key_marks.hide(armature)
    track = strips.push_down(armature, action, handle, amount)
    comparison.forget(armature)
    armature.update_tag(refresh={"OBJECT", "DATA", "TIME"})
    return f"accepted as a strip in the new NLA track {track}; the original's strips lie below it"


def _writing(slot: ActionSlot, plan: AcceptPlan, keys: NewKeys) -> Generator[None, None, None]:
    """Put new keys into the curves of an action; a channel without any loses its curve."""
    bones = {channel: joint.bone for joint in plan.joints for channel in joint.channels}
    for channel, wanted in keys.items():
        if (action := slot.action) is None:
            raise RemovedError
        if len(wanted):
            curve = fcurves.ensure_curve(action, slot.handle, channel, bones[channel])
            fcurves.write_all_keys(curve, wanted)
        else:
            fcurves.remove_curve(action, slot.handle, channel)
        yield
