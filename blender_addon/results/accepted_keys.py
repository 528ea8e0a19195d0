# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys an accepted refinement has: what is taken, where, and as how many keys.

Worked out in slices: nothing here changes the file, and no bpy object is kept across a pause.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

import bpy
import numpy as np
import numpy.typing as npt

from ..control.artist_control import pinned_frames
from ..keys import curve_keys, key_reduction
from ..keys.curve_keys import SAME_VALUE, Keys
from ..keys.fcurves import Channel
from ..keys.joint_channels import (
    JointChannel,
    Side,
    SideSource,
    blend,
    changed_span,
    frames_between,
    joint_channels,
)
from ..keys.unfinished import still_there
from ..rigs.rig import SceneError, find_rest_scale
from ..rigs.rig_match import match_armature
from . import compared_sides

Span = tuple[float, float]
NewKeys = dict[Channel, Keys]


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
class Sides:
    """Both motions and the slider; lives no longer than one slice."""

    original: Side
    refined: Side
    amount: float

    def blended(self, joint: JointChannel, frames: npt.ArrayLike) -> np.ndarray:
        """What the slider shows (T, size)."""
        return blend(joint, self.original, self.refined, self.amount, frames)


@dataclass(frozen=True)
class AcceptPlan:
    """What goes where."""

    joints: tuple[JointChannel, ...]
    """All properties that refinements of this armature key, root first."""
    changed: frozenset[JointChannel]
    """Those of them that differ."""
    original: SideSource
    refined: SideSource
    amount: float
    """Where the slider stands."""
    spans: Mapping[JointChannel, Span]
    """Where each property that is taken differs, cut to the frames that are taken."""
    cut: Mapping[JointChannel, tuple[bool, bool]]
    """Whether that was cut at its start and at its end."""

    @property
    def whole_span(self) -> Span:
        """From the first to the last frame that is taken."""
        return min(s[0] for s in self.spans.values()), max(s[1] for s in self.spans.values())

    def sides(self) -> Sides:
        """Both motions, for one slice."""
        return Sides(self.original.side(), self.refined.side(), self.amount)

    def is_as_refined(self, joint: JointChannel) -> bool:
        """Whether the refined action has the very keys that are to be taken As Computed."""
        return self.amount >= 1 and not any(self.cut[joint])


def make_plan(armature_uid: int, options: AcceptOptions) -> Generator[None, None, AcceptPlan]:
    """Find out what differs, and what of it is taken.

    Raises:
        SceneError: that is nothing.
        RemovedError: the armature was removed in a pause.
    """
    armature = still_there(armature_uid)
    joints, name = joint_channels(armature), armature.name
    amount = armature.posefit_comparison.amount
    original, refined = compared_sides.sources(armature)
    del armature
    taken: dict[JointChannel, Span] = {}
    reach: dict[JointChannel, Span] = {}
    changed = set()
    for joint in joints:
        if (span := (yield from changed_span(joint, original, refined))) is None:
            continue
        changed.add(joint)
        if options.bones is None or joint.bone in options.bones:
            taken[joint] = span
            reach[joint] = _reach(original.side(), refined.side(), joint, span)
            yield
    if not changed:
        raise SceneError(
            f"The refined action of {name} has the same keys as the original: nothing to "
            "accept, press Reject to remove it"
        )
    if not taken:
        raise SceneError(
            f"None of the refined bones of {name} is selected: select some in pose mode, "
            "or accept all bones"
        )
    spans, cut = taken, dict.fromkeys(taken, (False, False))
    if options.frames is not None:
        first, last = options.frames
        cut = {joint: (first > r[0], last < r[1]) for joint, r in reach.items()}
        spans = {joint: (max(first, r[0]), min(last, r[1])) for joint, r in reach.items()}
        spans = {joint: span for joint, span in spans.items() if span[0] <= span[1]}
    if not spans:
        lows, highs = zip(*taken.values(), strict=True)
        raise SceneError(
            f"Frames {first} to {last} lie outside what was refined, frames {min(lows):g} to "
            f"{max(highs):g}: choose frames inside it, or accept all frames"
        )
    return AcceptPlan(tuple(joints), frozenset(changed), original, refined, amount, spans, cut)


def keys_of_plan(
    armature_uid: int, plan: AcceptPlan, options: AcceptOptions
) -> Generator[None, None, tuple[NewKeys, str]]:
    """The keys of every channel in which the refined action has others, and how many in words.

    Raises:
        SceneError: there can be none.
        RemovedError: the armature was removed in a pause.
    """
    if options.keys == "OWN":
        keys, said = yield from _own_keys(armature_uid, plan)
    elif options.keys == "FEWEST":
        keys, said = yield from _fewest_keys(armature_uid, plan, options.tolerance_mm)
    else:
        keys, said = (yield from _computed_keys(plan)), ""
    for joint in sorted(plan.changed - plan.spans.keys(), key=plan.joints.index):
        keys |= {channel: plan.original.keys(channel) for channel in joint.channels}
        yield
    return keys, said


def _computed_keys(plan: AcceptPlan) -> Generator[None, None, NewKeys]:
    """A key on every frame that was computed."""
    result = {}
    for joint, (first, last) in plan.spans.items():
        if plan.is_as_refined(joint):
            continue
        ends = [end for end, cut in zip((first, last), plan.cut[joint], strict=True) if cut]
        times = plan.sides().refined.times(joint)
        times = np.union1d(times[(times >= first) & (times <= last)], ends)
        yield
        values = plan.sides().blended(joint, times)
        for channel, column in zip(joint.channels, values.T, strict=True):
            yield
            sides = plan.sides()
            keys = sides.refined.keys(channel)
            for end in ends:
                keys = _split(sides.refined, channel, keys, end)
            inside = curve_keys.keys_at(curve_keys.merge_keys(keys, times, column), times)
            base = _base(plan, sides.original, joint, channel)
            result[channel] = curve_keys.put_between(
                base, inside, first, last, freeze=plan.cut[joint]
            )
        yield
    return result


def _own_keys(armature_uid: int, plan: AcceptPlan) -> Generator[None, None, tuple[NewKeys, str]]:
    """Only the original's keys, moved; a bone without any gets them where others have theirs."""
    times = {}
    for joint in plan.spans:
        times[joint] = plan.original.side().times(joint)
        yield
    armature = still_there(armature_uid)
    every = np.unique(np.concatenate(list(times.values())))
    first, last = plan.whole_span
    if not ((every >= first) & (every <= last)).any():
        raise SceneError(
            f"The original of {armature.name} has no keys from frame {first:g} to {last:g}, where "
            "it was refined: choose other keys than its own"
        )
    pins = np.array(pinned_frames(armature), np.float32)
    del armature
    result, moved, held = {}, set(), set()
    for joint, (first, last) in plan.spans.items():
        own = times[joint] if len(times[joint]) else every
        own = own[(own >= first) & (own <= last)]
        moved.update(own.tolist())
        inside = pins[(pins >= first) & (pins <= last)]
        held.update(inside.tolist())
        own = np.union1d(own, inside)
        sides = plan.sides()
        values = sides.blended(joint, own)
        for channel, column in zip(joint.channels, values.T, strict=True):
            base = _base(plan, sides.original, joint, channel)
            result[channel] = curve_keys.merge_keys(base, own, column)
        yield
    said = f" and {len(held - moved)} on pinned frames" if held - moved else ""
    return result, f" with {len(moved)} of its own keys{said}"


def _fewest_keys(
    armature_uid: int, plan: AcceptPlan, tolerance_mm: float
) -> Generator[None, None, tuple[NewKeys, str]]:
    """Linear keys on the same frames for all bones, as few as stay within the tolerance."""
    first, last = plan.whole_span
    plan = replace(plan, spans=dict.fromkeys(plan.spans, (first, last)))
    frames = frames_between(first, last)
    columns, before = {}, []
    for joint in plan.joints:
        sides = plan.sides()
        before.append(sides.original.values(joint, frames))
        if joint in plan.spans:
            columns[joint] = sides.blended(joint, frames)
        yield
    armature = still_there(armature_uid)
    positions_of = _positions_of(armature, plan, np.concatenate(before, -1))
    pins = np.flatnonzero(np.isin(frames, pinned_frames(armature)))
    del armature
    values = np.concatenate(list(columns.values()), -1)
    chosen = yield from key_reduction.fewest_keys(frames, values, positions_of, tolerance_mm, pins)
    off_mm = yield from key_reduction.reduction_error_mm(frames, values, chosen, positions_of)
    result = {}
    for joint, column in columns.items():
        for channel, numbers in zip(joint.channels, column[chosen].T, strict=True):
            yield
            sides = plan.sides()
            base = _base(plan, sides.original, joint, channel)
            for end in (first, last):
                base = _split(sides.original, channel, base, end)
            inside = curve_keys.merge_keys(base, frames[chosen], numbers)
            inside = curve_keys.linear_keys(curve_keys.keys_at(inside, frames[chosen]))
            result[channel] = curve_keys.put_between(base, inside, first, last)
    yield
    said = f" with {len(chosen)} linear keys for {len(frames)} frames, at most {off_mm:.1f} mm off"
    return result, said


def _positions_of(
    armature: bpy.types.Object, plan: AcceptPlan, every: npt.NDArray[np.float64]
) -> key_reduction.PositionsOf:
    """Joint positions for values of what is taken; all other bones move as in the original.

    Args:
        armature: whose bones they are.
        plan: what is taken.
        every: (T, C) values of all properties in the original.
    """
    joints = plan.joints
    layout = key_reduction.ValueLayout(tuple(joint.mode for joint in joints[1:]))
    places = dict(zip(joints, (slice(0, 3), *layout.slices), strict=True))
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


def _base(plan: AcceptPlan, original: Side, joint: JointChannel, channel: Channel) -> Keys:
    """The original's keys, with one right before and after what is taken, where that was cut."""
    keys = original.keys(channel)
    first, last = plan.spans[joint]
    for frame, cut in zip((first - 1, last + 1), plan.cut[joint], strict=True):
        if cut:
            keys = _split(original, channel, keys, frame)
    return keys


def _split(side: Side, channel: Channel, keys: Keys, frame: float) -> Keys:
    return curve_keys.split_keys(keys, frame, lambda at: side.value(channel, at))


def _reach(original: Side, refined: Side, joint: JointChannel, span: Span) -> Span:
    """The span in which a property differs, without end where it goes on to differ beyond keys."""
    beyond = (span[0] - 1, span[1] + 1)
    apart = original.values(joint, beyond) - refined.values(joint, beyond)
    low, high = np.abs(apart).max(-1) > SAME_VALUE
    return (-np.inf if low else span[0], np.inf if high else span[1])
