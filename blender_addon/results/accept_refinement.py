# SPDX-License-Identifier: GPL-3.0-or-later
"""Accept a refinement: all of it, some bones, or some frames, at the strength that is shown.

The refined action becomes the armature's own. In it, what was not accepted gets the original's keys
back; the original action itself is not touched and stays in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import bpy
import numpy as np
import numpy.typing as npt

from ..control.artist_control import pinned_frames
from ..keys import curve_keys, fcurves, key_reduction, strips
from ..keys.curve_keys import SAME_VALUE, Keys
from ..keys.fcurves import Channel
from ..keys.joint_channels import (
    JointChannel,
    Side,
    blend,
    changed_span,
    frames_between,
    joint_channels,
)
from ..rigs.rig import SceneError, find_rest_scale
from ..rigs.rig_match import match_armature
from . import comparison, findings, key_marks

Span = tuple[float, float]


@dataclass(frozen=True)
class AcceptOptions:
    """What is taken."""

    bones: frozenset[str] | None = None
    """Names of the bones; none means all."""
    frames: tuple[int, int] | None = None
    """First and last scene frame; none means all."""
    keys: str = "COMPUTED"
    """`COMPUTED`, `OWN` or `FEWEST`."""
    tolerance_mm: float = 5.0
    """How far joints may move for fewer keys."""


@dataclass(frozen=True)
class _Plan:
    """What goes where; lives no longer than one call."""

    original: Side
    refined: Side
    amount: float
    spans: Mapping[JointChannel, Span]
    """Where each property that is taken differs, cut to the frames that are taken."""
    cut: Mapping[JointChannel, tuple[bool, bool]]
    """Whether that was cut at its start and at its end."""

    @property
    def whole_span(self) -> Span:
        """From the first to the last frame that is taken."""
        return min(s[0] for s in self.spans.values()), max(s[1] for s in self.spans.values())

    def blended(self, joint: JointChannel, frames: npt.ArrayLike) -> np.ndarray:
        """What the slider shows (T, size)."""
        return blend(joint, self.original, self.refined, self.amount, frames)


def accept(armature: bpy.types.Object, options: AcceptOptions) -> str:
    """Make the refined motion, or parts of it, the armature's own.

    Returns:
        What was done, in words.

    Raises:
        SceneError: there is nothing to accept; nothing was changed.
    """
    words = comparison.problem(armature)
    if words:
        raise SceneError(words)
    settings = armature.posefit_comparison
    if settings.amount == 0:
        raise SceneError(
            "The slider is at 0, which is the original: move it towards 1, or press Reject"
        )
    if settings.is_over_strips:
        return _accept_over_strips(armature, options)
    joints = joint_channels(armature)
    plan = _plan(armature, joints, options)
    keys, said = _keys_of_plan(armature, joints, plan, options)
    original, action = settings.original, settings.refined
    fcurves.use_action(armature, action, settings.refined_slot)
    _write(armature, joints, plan, keys)
    key_marks.hide(armature)
    findings.keep_accepted(armature, options.bones, options.frames)
    comparison.restore_still(armature)
    comparison.forget(armature)
    armature.update_tag(refresh={"OBJECT", "DATA", "TIME"})
    where = "there was no action before"
    if original is not None:
        original.use_fake_user = True
        where = f"the original is action {original.name}"
    bones = len({joint.bone for joint in plan.spans})
    first, last = plan.whole_span
    frames = f"frame {first:g}" if first == last else f"frames {first:g} to {last:g}"
    return f"{bones} bones accepted on {frames} in action {action.name}{said}; {where}"


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


def _plan(armature: bpy.types.Object, joints: list[JointChannel], options: AcceptOptions) -> _Plan:
    original, refined = comparison.sides(armature)
    found = {joint: changed_span(joint, original, refined) for joint in joints}
    changed = {joint: span for joint, span in found.items() if span is not None}
    if not changed:
        raise SceneError(
            f"The refined action of {armature.name} has the same keys as the original: nothing to "
            "accept, press Reject to remove it"
        )
    taken = {j: s for j, s in changed.items() if options.bones is None or j.bone in options.bones}
    if not taken:
        raise SceneError(
            f"None of the refined bones of {armature.name} is selected: select some in pose mode, "
            "or accept all bones"
        )
    spans, cut = taken, dict.fromkeys(taken, (False, False))
    if options.frames is not None:
        first, last = options.frames
        reach = {joint: _reach(original, refined, joint, span) for joint, span in taken.items()}
        cut = {joint: (first > r[0], last < r[1]) for joint, r in reach.items()}
        spans = {joint: (max(first, r[0]), min(last, r[1])) for joint, r in reach.items()}
        spans = {joint: span for joint, span in spans.items() if span[0] <= span[1]}
    if not spans:
        lows, highs = zip(*taken.values(), strict=True)
        raise SceneError(
            f"Frames {first} to {last} lie outside what was refined, frames {min(lows):g} to "
            f"{max(highs):g}: choose frames inside it, or accept all frames"
        )
    return _Plan(original, refined, armature.posefit_comparison.amount, spans, cut)


def _reach(original: Side, refined: Side, joint: JointChannel, span: Span) -> Span:
    """The span in which a property differs, without end where it goes on to differ beyond keys."""
    beyond = (span[0] - 1, span[1] + 1)
    apart = original.values(joint, beyond) - refined.values(joint, beyond)
    low, high = np.abs(apart).max(-1) > SAME_VALUE
    return (-np.inf if low else span[0], np.inf if high else span[1])


def _keys_of_plan(
    armature: bpy.types.Object,
    joints: list[JointChannel],
    plan: _Plan,
    options: AcceptOptions,
) -> tuple[dict[Channel, Keys], str]:
    """The new keys of every channel that is taken, and a word on how many there are."""
    if options.keys == "OWN":
        return _own_keys(armature, plan)
    if options.keys == "FEWEST":
        return _fewest_keys(armature, joints, plan, options.tolerance_mm)
    result = {}
    for joint, (first, last) in plan.spans.items():
        ends = [end for end, cut in zip((first, last), plan.cut[joint], strict=True) if cut]
        times = plan.refined.times(joint)
        times = np.unique([*times[(times >= first) & (times <= last)], *ends])
        values = plan.blended(joint, times)
        for channel, column in zip(joint.channels, values.T, strict=True):
            keys = plan.refined.keys(channel)
            for end in ends:
                keys = _split(plan.refined, channel, keys, end)
            inside = curve_keys.keys_at(curve_keys.merge_keys(keys, times, column), times)
            base = _base(plan, joint, channel)
            result[channel] = curve_keys.put_between(
                base, inside, first, last, freeze=plan.cut[joint]
            )
    return result, ""


def _own_keys(armature: bpy.types.Object, plan: _Plan) -> tuple[dict[Channel, Keys], str]:
    """Only the original's keys, moved; a bone without any gets them where others have theirs."""
    times = {joint: plan.original.times(joint) for joint in plan.spans}
    every = np.unique(np.concatenate(list(times.values())))
    first, last = plan.whole_span
    if not ((every >= first) & (every <= last)).any():
        raise SceneError(
            f"The original of {armature.name} has no keys from frame {first:g} to {last:g}, where "
            "it was refined: choose other keys than its own"
        )
    pins = np.array(pinned_frames(armature), np.float32)
    result, moved, held = {}, set(), set()
    for joint, (first, last) in plan.spans.items():
        own = times[joint] if len(times[joint]) else every
        own = own[(own >= first) & (own <= last)]
        moved.update(own.tolist())
        inside = pins[(pins >= first) & (pins <= last)]
        held.update(inside.tolist())
        own = np.union1d(own, inside)
        values = plan.blended(joint, own)
        for channel, column in zip(joint.channels, values.T, strict=True):
            base = _base(plan, joint, channel)
            result[channel] = curve_keys.merge_keys(base, own, column)
    said = f" and {len(held - moved)} on pinned frames" if held - moved else ""
    return result, f" with {len(moved)} of its own keys{said}"


def _fewest_keys(
    armature: bpy.types.Object, joints: list[JointChannel], plan: _Plan, tolerance_mm: float
) -> tuple[dict[Channel, Keys], str]:
    """Linear keys on the same frames for all bones, as few as stay within the tolerance."""
    first, last = plan.whole_span
    plan = replace(plan, spans=dict.fromkeys(plan.spans, (first, last)))
    frames = frames_between(first, last)
    columns = {joint: plan.blended(joint, frames) for joint in plan.spans}
    positions_of = _positions_of(armature, joints, plan, frames)
    values = np.concatenate(list(columns.values()), -1)
    pins = np.flatnonzero(np.isin(frames, pinned_frames(armature)))
    chosen = key_reduction.fewest_keys(frames, values, positions_of, tolerance_mm, pins)
    off_mm = key_reduction.reduction_error_mm(frames, values, chosen, positions_of)
    result = {}
    for joint, column in columns.items():
        for channel, numbers in zip(joint.channels, column[chosen].T, strict=True):
            base = _base(plan, joint, channel)
            for end in (first, last):
                base = _split(plan.original, channel, base, end)
            inside = curve_keys.merge_keys(base, frames[chosen], numbers)
            inside = curve_keys.linear_keys(curve_keys.keys_at(inside, frames[chosen]))
            result[channel] = curve_keys.put_between(base, inside, first, last)
    said = f" with {len(chosen)} linear keys for {len(frames)} frames, at most {off_mm:.1f} mm off"
    return result, said


def _positions_of(
    armature: bpy.types.Object, joints: list[JointChannel], plan: _Plan, frames: npt.ArrayLike
) -> key_reduction.PositionsOf:
    """Joint positions for values of what is taken; all other bones move as in the original."""
    layout = key_reduction.ValueLayout(tuple(joint.mode for joint in joints[1:]))
    places = dict(zip(joints, (slice(0, 3), *layout.slices), strict=True))
    every = np.concatenate([plan.original.values(joint, frames) for joint in joints], -1)
    taken = np.concatenate([np.arange(every.shape[1])[places[joint]] for joint in plan.spans])
    chain = _bone_chain(armature, [joint.bone for joint in joints[1:]])

    def positions_of(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
        rows = every[indices]
        rows[:, taken] = values
        return key_reduction.joint_positions(rows, layout, chain)

    return positions_of


def _bone_chain(armature: bpy.types.Object, names: list[str]) -> key_reduction.BoneChain:
    bones = [armature.data.bones[name] for name in names]
    rest = np.stack([np.array(bone.matrix_local, np.float64) for bone in bones])
    return key_reduction.BoneChain(
        rest=rest,
        parents=match_armature(armature).parents,
        lengths=np.array([bone.length for bone in bones]),
        units_per_metre=find_rest_scale(rest[:, :3, 3]),
    )


def _base(plan: _Plan, joint: JointChannel, channel: Channel) -> Keys:
    """The original's keys, with one right before and after what is taken, where that was cut."""
    keys = plan.original.keys(channel)
    first, last = plan.spans[joint]
    for frame, cut in zip((first - 1, last + 1), plan.cut[joint], strict=True):
        if cut:
            keys = _split(plan.original, channel, keys, frame)
    return keys


def _split(side: Side, channel: Channel, keys: Keys, frame: float) -> Keys:
    return curve_keys.split_keys(keys, frame, lambda at: side.value(channel, at))


def _write(
    armature: bpy.types.Object,
    joints: list[JointChannel],
    plan: _Plan,
    keys: Mapping[Channel, Keys],
) -> None:
    """The new keys into the action in use; what was not taken gets the original's back."""
    settings = armature.posefit_comparison
    for joint in joints:
        for channel in joint.channels:
            wanted = keys.get(channel)
            if wanted is None:
                wanted = plan.original.keys(channel)
            if len(wanted):
                curve = fcurves.ensure_curve(
                    settings.refined, settings.refined_slot, channel, joint.bone
                )
                fcurves.write_all_keys(curve, wanted)
            else:
                fcurves.remove_curve(settings.refined, settings.refined_slot, channel)
