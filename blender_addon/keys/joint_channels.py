# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refinement keys: the rotation of each SMPL bone and the root's location, in any action."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

import bpy
import numpy as np
import numpy.typing as npt

from ..rigs.bone_rotations import BoneMotion
from ..rigs.rig_match import match_armature
from . import curve_keys, fcurves
from .curve_keys import Keys
from .fcurves import ActionSlot, Channel
from .rotation_values import blend_rotations, from_matrices, rotation_channel, rotation_size
from .transform_sampling import bone_prefix

Array = npt.NDArray[np.float64]
_FEW = 4
"""So many frames are sooner evaluated than read off all of a curve's keys."""


@dataclass(frozen=True)
class JointChannel:
    """One property of one bone."""

    bone: str
    """The bone's name."""
    path: str
    """The property's data path, from the armature."""
    mode: str
    """The bone's rotation mode; empty for a location."""
    size: int
    """How many curves it has."""

    @property
    def channels(self) -> list[Channel]:
        """Its curves' channels, in order."""
        return [(self.path, index) for index in range(self.size)]


@dataclass(frozen=True)
class Side:
    """One of the two motions that are compared; lives no longer than one call."""

    curves: Mapping[Channel, bpy.types.FCurve]
    """The action's curves."""
    still: Mapping[Channel, float]
    """What stands for channels without a curve."""
    _read: dict[Channel, Keys] = field(default_factory=dict, compare=False, repr=False)
    """Keys that were read already: reading all of a long curve's takes a millisecond."""

    def keys(self, channel: Channel) -> Keys:
        """A channel's keys, which are not to be written to; none where it has no curve."""
        if channel not in self._read:
            curve = self.curves.get(channel)
            self._read[channel] = (
                curve_keys.no_keys() if curve is None else fcurves.read_keys(curve)
            )
        return self._read[channel]

    def times(self, joint: JointChannel) -> npt.NDArray[np.float32]:
        """All frames on which a property has a key."""
        return np.unique(np.concatenate([self.keys(channel).times for channel in joint.channels]))

    def value(self, channel: Channel, frame: float) -> float:
        """A channel's value at a frame."""
        curve = self.curves.get(channel)
        return self.still.get(channel, 0.0) if curve is None else curve.evaluate(frame)

    def values(self, joint: JointChannel, frames: npt.ArrayLike) -> Array:
        """A property's values (T, size) at frames (T,)."""
        if len(np.asarray(frames)) < _FEW:
            rows = [[self.value(c, frame) for c in joint.channels] for frame in frames]
            return np.array(rows, np.float64).reshape(len(rows), joint.size)
        result = np.empty((len(np.asarray(frames)), joint.size))
        for index, channel in enumerate(joint.channels):
            curve = self.curves.get(channel)
            if curve is None:
                result[:, index] = self.still.get(channel, 0.0)
            else:
                known = self._read.get(channel)
                points = None if known is None else known.points
                result[:, index] = fcurves.sample(curve, frames, points)
        return result


@dataclass(frozen=True)
class SideSource:
    """Where one of the two motions is found again after a wait."""

    slot: ActionSlot
    still: Mapping[Channel, float]
    """What stands for channels without a curve."""

    def side(self) -> Side:
        """The motion, for one call."""
        return Side(self.slot.curves, self.still)

    def keys(self, channel: Channel) -> Keys:
        """A channel's keys; none where it has no curve."""
        curve = fcurves.curve_of(self.slot, channel)
        return curve_keys.no_keys() if curve is None else fcurves.read_keys(curve)


@dataclass(frozen=True)
class GivenSource:
    """A motion that no curves hold, on the very frames that are asked for."""

    of_path: Mapping[str, Array]
    """(T, size) values of each property."""

    @staticmethod
    def of(joints: Sequence[JointChannel], motion: BoneMotion) -> GivenSource:
        """The motion of bones.

        Args:
            joints: `joint_channels` of their armature.
            motion: T frames of it, in order of time.
        """
        values = {joints[0].path: motion.root_locations}
        for row, joint in enumerate(joints[1:]):
            near = np.zeros((len(motion.rotations), joint.size))
            near[:, 0] = joint.mode == "QUATERNION"
            values[joint.path] = from_matrices(motion.rotations[:, row], joint.mode, near)
        return GivenSource(values)

    def side(self) -> GivenSource:
        """The motion, for one call."""
        return self

    def values(self, joint: JointChannel, frames: npt.ArrayLike) -> Array:
        """A property's values (T, size)."""
        return self.of_path[joint.path]


def joint_channels(armature: bpy.types.Object) -> list[JointChannel]:
    """The properties that a refinement of this armature keys, root first.

    Raises:
        SceneError: it is no SMPL armature.
    """
    bones = match_armature(armature).bones
    result = [JointChannel(bones[0], f"{bone_prefix(bones[0])}location", "", 3)]
    for name in bones:
        mode = armature.pose.bones[name].rotation_mode
        path = bone_prefix(name) + rotation_channel(mode)
        result.append(JointChannel(name, path, mode, rotation_size(mode)))
    return result


def present_values(armature: bpy.types.Object) -> dict[Channel, float]:
    """What these properties hold now, animated or not."""
    return {
        channel: float(value)
        for joint in joint_channels(armature)
        for channel, value in zip(joint.channels, armature.path_resolve(joint.path), strict=True)
    }


def blend(
    joint: JointChannel, original: Side, refined: Side, amount: float, frames: npt.ArrayLike
) -> Array:
    """Values (T, size) a share of the way from the original to the refined motion.

    Rotations go along the shortest turn, locations along a line.
    """
    before, after = original.values(joint, frames), refined.values(joint, frames)
    return blend_values(joint, before, after, amount)


def blend_values(
    joint: JointChannel, before: npt.ArrayLike, after: npt.ArrayLike, amount: float
) -> Array:
    """The same for given values (T, size) of a property."""
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if joint.mode:
        return blend_rotations(before, after, amount, joint.mode)
    return (1 - amount) * before + amount * after


def changed_span(
    joint: JointChannel, original: SideSource, refined: SideSource
) -> Generator[None, None, tuple[float, float] | None]:
    """The frames between which a property may differ; none where it is the same.

    Yields:
        Where it may pause: after each curve.
    """
    found = []
    for channel in joint.channels:
        span = curve_keys.changed_span(original.keys(channel), refined.keys(channel))
        if span is not None:
            found.append(span)
        yield
    return (min(s[0] for s in found), max(s[1] for s in found)) if found else None


def frames_between(first: float, last: float) -> Array:
    """Both ends and every whole frame between them."""
    return np.unique([first, *np.arange(np.ceil(first), np.floor(last) + 1), last])
