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
SAME_FRAME = 1e-3
"""Keys nearer to a frame than this lie on it."""


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
    if bpy.app.version >= (5, 0):
        return action.fcurve_ensure_for_datablock(owner, data_path, index=index, group_name=group)
    if hasattr(action, "fcurve_ensure_for_datablock"):
        curve = action.fcurve_ensure_for_datablock(owner, data_path, index=index)
        bag = action.layers[0].strips[0].channelbag(owner.animation_data.action_slot)
        curve.group = bag.groups.get(group) or bag.groups.new(group)
        return curve
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
    """Keys with `values` (N,) at `frames` (N,): moved where there is a key, added where not.

    A key that is moved takes its handles along; an added one takes the interpolation of the key
    before it (linear where there is none); all others stay as they are.
    """
    frames, values = np.asarray(frames, np.float32), np.asarray(values, np.float32)
    times = keys.points[:, 0]
    place, is_there = _places(times, frames)
    shift = np.zeros_like(keys.points)
    shift[place[is_there], 1] = values[is_there] - keys.points[place[is_there], 1]
    moved = Keys(keys.points + shift, keys.left + shift, keys.right + shift, keys.kinds)
    if is_there.all():
        return moved
    added = np.stack([frames, values], -1)[~is_there]
    kinds = np.full((len(added), 3), AUTO_CLAMPED, np.int32)
    kinds[:, 0] = LINEAR
    if len(times):
        before = np.searchsorted(times, added[:, 0], side="right") - 1
        kinds[:, 0] = keys.kinds[np.maximum(before, 0), 0]
    order = np.argsort(np.concatenate([times, added[:, 0]]), kind="stable")

    def joined(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.concatenate([old, new])[order]

    return Keys(
        joined(moved.points, added),
        joined(moved.left, added),
        joined(moved.right, added),
        joined(moved.kinds, kinds),
    )


def _places(
    times: npt.NDArray[np.float32], frames: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Of each frame (N,) the nearest key and whether that lies on it."""
    if len(times) == 0:
        return np.zeros(len(frames), np.intp), np.zeros(len(frames), bool)
    right = np.clip(np.searchsorted(times, frames), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    is_left = np.abs(times[left] - frames) < np.abs(times[right] - frames)
    place = np.where(is_left, left, right)
    return place, np.abs(times[place] - frames) < SAME_FRAME


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
    keys = read_keys(curve)
    merged = merge_keys(keys, frames, values)
    write_all_keys(curve, merged, with_kinds=merged.kinds is not keys.kinds)


def write_all_keys(curve: bpy.types.FCurve, keys: Keys, with_kinds: bool = True) -> None:
    """Make a curve hold exactly these keys; without kinds, those that it has stay."""
    target = curve.keyframe_points
    missing = len(keys.points) - len(target)
    if missing < 0:
        target.clear()
        missing = len(keys.points)
    if missing:
        target.add(missing)
    target.foreach_set("co", np.ascontiguousarray(keys.points).ravel())
    for name, numbers in zip(_KINDS, keys.kinds.T if with_kinds else (), strict=with_kinds):
        target.foreach_set(name, np.ascontiguousarray(numbers))
    # Free handles lie where they lay; automatic ones are placed anew by update().
    target.foreach_set("handle_left", np.ascontiguousarray(keys.left).ravel())
    target.foreach_set("handle_right", np.ascontiguousarray(keys.right).ravel())
    curve.update()


def evaluate(curve: bpy.types.FCurve, frames: npt.ArrayLike) -> Array:
    """A curve's values (T,) at frames (T,)."""
    at = curve.evaluate
    return np.fromiter((at(frame) for frame in np.asarray(frames).tolist()), np.float64)
