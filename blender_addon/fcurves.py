# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions and their curves, across Blender's two ways of keeping them.

Up to 4.3 an action holds its curves itself; from 4.4 on a slot of it does, and from 5.0 on only
that. Everything else in the extension goes through these functions. Keys are read and written in
bulk: 24 bones × 300 frames take milliseconds, where keyframe_insert takes a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Channel = tuple[str, int]
"""Data path and array index of a curve."""

LINEAR, BEZIER, AUTO_CLAMPED = 1, 2, 4
"""Blender's numbers of these interpolations and of this handle type."""


def curves_of(owner: bpy.types.ID) -> dict[Channel, bpy.types.FCurve]:
    """The curves that animate an ID now, by channel; empty where nothing does."""
    animation = owner.animation_data
    if animation is None or animation.action is None:
        return {}
    return {(c.data_path, c.array_index): c for c in _action_curves(animation)}


def _action_curves(animation: bpy.types.AnimData) -> list[bpy.types.FCurve]:
    action = animation.action
    if not hasattr(action, "layers"):
        return list(action.fcurves)
    slot = animation.action_slot
    if slot is None:
        return []
    bags = [strip.channelbag(slot) for layer in action.layers for strip in layer.strips]
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def ensure_curve(owner: bpy.types.ID, channel: Channel, group: str) -> bpy.types.FCurve:
    """The curve of a channel in the action that the owner uses, made where it is missing."""
    data_path, index = channel
    action = owner.animation_data.action
    if hasattr(action, "fcurve_ensure_for_datablock"):
        return action.fcurve_ensure_for_datablock(owner, data_path, index=index, group_name=group)
    found = action.fcurves.find(data_path, index=index)
    return found or action.fcurves.new(data_path, index=index, action_group=group)


def use_new_action(owner: bpy.types.ID, name: str) -> bpy.types.Action:
    """Give the owner an action of its own to change, a copy of the one it had.

    The one it had is kept with the file by a fake user and never touched.

    Args:
        owner: what is animated.
        name: the new action's name; Blender adds a number where it is taken.
    """
    animation = owner.animation_data or owner.animation_data_create()
    old = animation.action
    if old is None:
        animation.action = bpy.data.actions.new(name)
        return animation.action
    old.use_fake_user = True
    new = old.copy()
    new.name = name
    slot = getattr(animation, "action_slot", None)
    identifier = None if slot is None else slot.identifier
    animation.action = new
    if identifier is not None:
        animation.action_slot = next(s for s in new.slots if s.identifier == identifier)
    return new


@dataclass(frozen=True)
class Keys:
    """All keys of one curve, in order of time."""

    points: npt.NDArray[np.float32]
    """(N, 2) frame and value."""
    left: npt.NDArray[np.float32]
    """(N, 2) left handle."""
    right: npt.NDArray[np.float32]
    """(N, 2) right handle."""
    kinds: npt.NDArray[np.int32]
    """(N, 3) interpolation, left and right handle type, Blender's numbers."""


_KINDS = ("interpolation", "handle_left_type", "handle_right_type")


def read_keys(curve: bpy.types.FCurve) -> Keys:
    """The keys of a curve."""
    count = len(curve.keyframe_points)
    pairs = [np.empty(2 * count, np.float32) for _ in range(3)]
    for name, values in zip(("co", "handle_left", "handle_right"), pairs, strict=True):
        curve.keyframe_points.foreach_get(name, values)
    kinds = np.empty((3, count), np.int32)
    for name, numbers in zip(_KINDS, kinds, strict=True):
        curve.keyframe_points.foreach_get(name, numbers)
    points, left, right = (values.reshape(-1, 2) for values in pairs)
    return Keys(points, left, right, np.ascontiguousarray(kinds.T))


def merge_keys(keys: Keys, frames: npt.ArrayLike, values: npt.ArrayLike) -> Keys:
    """Keys with `values` (N,) at `frames` (N,): set where there is a key, added where not.

    An added key takes the interpolation of the key before it (linear where there is none); all
    other keys stay as they are.
    """
    frames = np.asarray(frames, np.float32)
    order = np.argsort(frames, kind="stable")
    points = np.stack([frames, np.asarray(values, np.float32)], -1)[order]
    old_times = keys.points[:, 0]
    before = np.searchsorted(old_times, points[:, 0] + 1e-3, side="right") - 1
    kinds = np.full((len(points), 3), AUTO_CLAMPED, np.int32)
    kinds[:, 0] = LINEAR
    if len(old_times):
        kinds[:, 0] = np.where(before >= 0, keys.kinds[np.maximum(before, 0), 0], keys.kinds[0, 0])
    nearest = np.searchsorted(points[:, 0], old_times)
    distance = np.full(len(old_times), np.inf)
    for candidate in (nearest - 1, nearest):
        inside = (candidate >= 0) & (candidate < len(points))
        gap = np.abs(old_times - points[np.clip(candidate, 0, len(points) - 1), 0])
        distance = np.where(inside, np.minimum(distance, gap), distance)
    kept = distance > 1e-3
    times = np.concatenate([old_times[kept], points[:, 0]])
    order = np.argsort(times, kind="stable")

    def joined(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.concatenate([old[kept], new])[order]

    return Keys(
        joined(keys.points, points),
        joined(keys.left, points),
        joined(keys.right, points),
        joined(keys.kinds, kinds),
    )


def set_keys(curve: bpy.types.FCurve, frames: npt.ArrayLike, values: npt.ArrayLike) -> None:
    """Put keys on a curve in bulk, among those that it has.

    Args:
        curve: the curve.
        frames: (N,) scene frames.
        values: (N,) values there.
    """
    if len(curve.keyframe_points) == 0:
        points = np.stack([np.asarray(frames, np.float32), np.asarray(values, np.float32)], -1)
        points = points[np.argsort(points[:, 0], kind="stable")]
        curve.keyframe_points.add(len(points))
        curve.keyframe_points.foreach_set("co", np.ascontiguousarray(points).ravel())
        curve.keyframe_points.foreach_set("interpolation", np.full(len(points), LINEAR, np.int32))
        curve.update()
        return
    write_all_keys(curve, merge_keys(read_keys(curve), frames, values))


def write_all_keys(curve: bpy.types.FCurve, keys: Keys) -> None:
    """Make a curve hold exactly these keys."""
    target = curve.keyframe_points
    missing = len(keys.points) - len(target)
    if missing < 0:
        target.clear()
        missing = len(keys.points)
    if missing:
        target.add(missing)
    target.foreach_set("co", np.ascontiguousarray(keys.points).ravel())
    for name, numbers in zip(_KINDS, keys.kinds.T, strict=True):
        target.foreach_set(name, np.ascontiguousarray(numbers))
    # Free handles lie where they lay; automatic ones are placed anew by update().
    target.foreach_set("handle_left", np.ascontiguousarray(keys.left).ravel())
    target.foreach_set("handle_right", np.ascontiguousarray(keys.right).ravel())
    curve.update()


def evaluate(curve: bpy.types.FCurve, frames: npt.ArrayLike) -> Array:
    """A curve's values (T,) at frames (T,)."""
    at = curve.evaluate
    return np.fromiter((at(frame) for frame in np.asarray(frames).tolist()), np.float64)
