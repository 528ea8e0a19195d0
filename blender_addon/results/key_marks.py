# SPDX-License-Identifier: GPL-3.0-or-later
"""Doubtful frames in the dope sheet: types, and so colours, of the refined action's keys.

On a doubtful frame every plain key becomes a Breakdown, so that the summary row shows it too (it
shows a colour only where all keys have one), and the keys of doubtful joints become Extremes. Keys
to which the artist gave a type keep it. Which keys were changed is written down in the action, so
that they can be made plain again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import bpy
import numpy as np
import numpy.typing as npt

from ..keys import fcurves
from ..keys.curve_keys import SAME_FRAME
from ..keys.fcurves import ActionSlot
from ..keys.joint_channels import JointChannel, joint_channels
from ..slices import to_end
from . import findings, frame_doubt
from .findings import Findings

Numbers = npt.NDArray[np.int32]

KEY = "posefit_key_marks"
"""The custom property of an action that says which keys were given a type."""
KEYFRAME, EXTREME, BREAKDOWN = 0, 1, 2
"""Blender's numbers of these key types."""


def doubt_types(found: Findings, threshold: float) -> Numbers:
    """(T, J) the key type that each refined frame and joint deserves."""
    sure = frame_doubt.frame_confidence(found.confidence, found.status)
    is_computed = np.array([word not in frame_doubt.NOT_COMPUTED for word in found.status], bool)
    is_bad_joint = (found.confidence < threshold) | ~is_computed[:, None]
    types = np.where(is_bad_joint, EXTREME, BREAKDOWN)
    return np.where((sure < threshold)[:, None], types, KEYFRAME).astype(np.int32)


def marked_types(
    types: Numbers, times: npt.ArrayLike, frames: npt.ArrayLike, wanted: npt.ArrayLike
) -> Numbers:
    """The types of one curve's keys with plain keys on doubtful frames marked.

    Args:
        types: (N,) of its keys now.
        times: (N,) frames of its keys.
        frames: (T,) refined frames, in order of time.
        wanted: (T,) what keys on them should be.
    """
    frames, times = np.asarray(frames, np.float64), np.asarray(times, np.float64)
    row = np.clip(np.searchsorted(frames, times - SAME_FRAME), 0, len(frames) - 1)
    is_there = np.abs(frames[row] - times) < SAME_FRAME
    result = np.where(is_there, np.asarray(wanted)[row], KEYFRAME)
    return np.where(types == KEYFRAME, result, types).astype(np.int32)


# In Blender


def are_shown(armature: bpy.types.Object) -> bool:
    """Whether an armature's keys are marked."""
    action = findings.action_of(armature)
    return action is not None and KEY in action


def show(armature: bpy.types.Object, threshold: float) -> int:
    """Mark the keys of doubtful frames, instead of those that were marked before.

    Returns:
        How many frames are doubtful.
    """
    action, found = findings.action_of(armature), findings.of_armature(armature)
    if action is None or found is None:
        return 0
    slot = ActionSlot(action.session_uid, _handle(armature))
    to_end(marking(slot, joint_channels(armature), found, threshold))
    sure = frame_doubt.frame_confidence(found.confidence, found.status)
    return int((sure < threshold).sum())


def marking(
    slot: ActionSlot, joints: Sequence[JointChannel], found: Findings, threshold: float
) -> Generator[None, None, None]:
    """Mark the keys of doubtful frames in an action, instead of those that were marked before.

    Args:
        slot: the action, in use or not.
        joints: `joint_channels` of its armature.
        found: what is known of its frames.
        threshold: frames that are less sure are doubtful.

    Yields:
        Where it may pause; an action that is gone by then is marked no further.
    """
    yield from taking_off(slot)
    wanted = doubt_types(found, threshold)
    paths, marks = [], []
    for joint in joints:
        row = found.bones.index(joint.bone)
        for channel in joint.channels:
            yield
            curve = fcurves.curve_of(slot, channel)
            if curve is None:
                continue
            times, types = fcurves.read_types(curve)
            marked = marked_types(types, times, found.frames, wanted[:, row])
            changed = np.flatnonzero(marked != types)
            if not len(changed):
                continue
            curve.keyframe_points.foreach_set("type", marked)
            marks.append(np.stack([np.full(len(changed), len(paths)), changed, marked[changed]]))
            marks[-1] = marks[-1].astype(np.float32)
            marks[-1][1] = times[changed]
            paths.append(f"{channel[0]}\t{channel[1]}")
    if (action := slot.action) is None:
        return
    action[KEY] = {"paths": "\n".join(paths)}
    if marks:
        action[KEY]["marks"] = np.concatenate(marks, 1).ravel()


def hide(armature: bpy.types.Object) -> None:
    """Make the keys that were marked plain again, where they still are as they were marked."""
    action = findings.action_of(armature)
    if action is not None:
        take_off(action, _handle(armature))


def take_off(action: bpy.types.Action, handle: int) -> None:
    """Make the marked keys of an action's slot plain again."""
    to_end(taking_off(ActionSlot(action.session_uid, handle)))


def taking_off(slot: ActionSlot) -> Generator[None, None, None]:
    """The same in slices; yields where it may pause."""
    action = slot.action
    if action is None or KEY not in action:
        return
    marks = np.array(action[KEY].get("marks", ()), np.float32).reshape(3, -1)
    paths = action[KEY]["paths"]
    for place, path in enumerate(paths.split("\n") if paths else ()):
        yield
        data_path, _, index = path.partition("\t")
        curve = fcurves.curve_of(slot, (data_path, int(index or 0)))
        if curve is None:
            continue
        _, frames, types = marks[:, marks[0] == place]
        times, now = fcurves.read_types(curve)
        marked = marked_types(np.zeros_like(now), times, frames, types)
        is_ours = (marked != KEYFRAME) & (now == marked)
        curve.keyframe_points.foreach_set("type", np.where(is_ours, KEYFRAME, now).astype(np.int32))
    if (action := slot.action) is not None and KEY in action:
        del action[KEY]


def renew(armature: bpy.types.Object, threshold: float) -> None:
    """Mark by what is known now, where keys are marked at all."""
    if are_shown(armature):
        show(armature, threshold)


def _handle(armature: bpy.types.Object) -> int:
    settings = armature.posefit_comparison
    return fcurves.slot_handle(armature) if settings.refined is None else settings.refined_slot
