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

from .curve_keys import KINDS, LINEAR, SAME_FRAME, Keys, merge_keys, move_points, values_on_keys

Array = npt.NDArray[np.float64]
Channel = tuple[str, int]
"""Data path and array index of a curve."""
HANDLES = ("handle_left", "handle_right")
FEW_FRAMES = 8
"""Fewer than this are evaluated one by one sooner than all keys are read."""


@dataclass(frozen=True)
class ActionSlot:
    """One slot of an action, by what stays theirs: it outlives a wait, as no bpy object does."""

    uid: int
    """The action's number for as long as the file is open; 0: no action."""
    handle: int
    """Which slot (`slot_handle`); of no meaning before Blender 4.4."""

    @property
    def action(self) -> bpy.types.Action | None:
        """The action, if it is still there."""
        return next((one for one in bpy.data.actions if one.session_uid == self.uid), None)

    @property
    def curves(self) -> dict[Channel, bpy.types.FCurve]:
        """Its curves, by channel; empty where the action is gone."""
        action = self.action
        return {} if action is None else curves_in(action, self.handle)


def slot_of(owner: bpy.types.ID) -> ActionSlot:
    """What animates an ID now."""
    action = None if owner.animation_data is None else owner.animation_data.action
    return ActionSlot(0 if action is None else action.session_uid, slot_handle(owner))


def curves_of(owner: bpy.types.ID) -> dict[Channel, bpy.types.FCurve]:
    """The curves that animate an ID now, by channel; empty where nothing does."""
    animation = owner.animation_data
    if animation is None or animation.action is None:
        return {}
    return curves_in(animation.action, slot_handle(owner))


def curves_in(action: bpy.types.Action, handle: int) -> dict[Channel, bpy.types.FCurve]:
    """The curves of one slot of an action, by channel, whether or not it is in use.

    Args:
        action: the action.
        handle: which slot (`slot_handle`); of no meaning before Blender 4.4.
    """
    bags = _channel_bags(action, handle)
    # Found, not listed: Blender 5's listed curves carry what they were reached through, key by key,
    # and their places are read a fifth as fast.
    return {
        (c.data_path, c.array_index): bag.fcurves.find(c.data_path, index=c.array_index)
        for bag in bags
        for c in bag.fcurves
    }


def curve_of(slot: ActionSlot, channel: Channel) -> bpy.types.FCurve | None:
    """One channel's curve in an action; none where it has none, or the action is gone."""
    action = slot.action
    if action is None:
        return None
    found = (
        bag.fcurves.find(channel[0], index=channel[1]) for bag in _channel_bags(action, slot.handle)
    )
    return next((curve for curve in found if curve is not None), None)


def remove_curve(action: bpy.types.Action, handle: int, channel: Channel) -> None:
    """Take a channel's curve out of an action, where it has one."""
    for bag in _channel_bags(action, handle):
        curve = bag.fcurves.find(channel[0], index=channel[1])
        if curve is not None:
            bag.fcurves.remove(curve)


def _channel_bags(action: bpy.types.Action, handle: int) -> list:
    """What holds curves: the action itself up to 4.3, then its slot's bags."""
    if not hasattr(action, "layers"):
        return [action]
    strips = [strip for layer in action.layers for strip in layer.strips]
    return [bag for strip in strips for bag in strip.channelbags if bag.slot_handle == handle]


def slot_handle(owner: bpy.types.ID) -> int:
    """Which slot of its action animates an ID; 0 where none does, and before Blender 4.4."""
    slot = getattr(owner.animation_data, "action_slot", None)
    return 0 if slot is None else slot.handle


def use_action(owner: bpy.types.ID, action: bpy.types.Action | None, handle: int) -> None:
    """Have a slot of an action animate an ID, or nothing."""
    animation = owner.animation_data or owner.animation_data_create()
    if animation.action != action:
        animation.action = action
    if action is not None and hasattr(animation, "action_slot"):
        slot = next((s for s in action.slots if s.handle == handle), None)
        if animation.action_slot != slot:
            animation.action_slot = slot


def ensure_curve(
    action: bpy.types.Action, handle: int, channel: Channel, group: str
) -> bpy.types.FCurve:
    """The curve of a channel in one slot of an action, made where it is missing.

    Args:
        action: the action, in use or not.
        handle: which slot (`slot_handle`); of no meaning before Blender 4.4.
        channel: data path and array index.
        group: name of the group that a new curve is put in.
    """
    data_path, index = channel
    if not hasattr(action, "layers"):
        found = action.fcurves.find(data_path, index=index)
        return found or action.fcurves.new(data_path, index=index, action_group=group)
    bag = _ensure_channel_bag(action, handle)
    curve = bag.fcurves.find(data_path, index=index)
    if curve is None:
        curve = bag.fcurves.new(data_path, index=index)
        curve.group = bag.groups.get(group) or bag.groups.new(group)
    return curve


def _ensure_channel_bag(action: bpy.types.Action, handle: int) -> bpy.types.ActionChannelbag:
    bags = _channel_bags(action, handle)
    if bags:
        return bags[0]
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    slot = next(slot for slot in action.slots if slot.handle == handle)
    return strip.channelbag(slot, ensure=True)


def new_action(owner: bpy.types.ID, name: str) -> ActionSlot:
    """An action for an owner to use, that nothing uses yet: a copy of the one it has, or empty.

    Args:
        owner: what is to be animated.
        name: the new action's name; Blender adds a number where it is taken.
    """
    old = None if owner.animation_data is None else owner.animation_data.action
    if old is None:
        return empty_action(name, owner.id_type, owner.name)
    action = old.copy()
    action.name = name
    action.use_fake_user = False
    handle = slot_handle(owner) or _new_slot(action, owner.id_type, owner.name)
    return ActionSlot(action.session_uid, handle)


def empty_action(name: str, id_type: str, owner_name: str) -> ActionSlot:
    """An action without curves that nothing uses yet.

    Args:
        name: its name; Blender adds a number where it is taken.
        id_type: Blender's name of what it is to animate (`OBJECT`, `CAMERA`).
        owner_name: what that is called, or will be.
    """
    action = bpy.data.actions.new(name)
    action.use_fake_user = False
    return ActionSlot(action.session_uid, _new_slot(action, id_type, owner_name))


def _new_slot(action: bpy.types.Action, id_type: str, owner_name: str) -> int:
    """The handle of a new slot; 0 before Blender 4.4, where actions have none."""
    if not hasattr(action, "slots"):
        return 0
    return action.slots.new(id_type=id_type, name=owner_name).handle


def copy_of(slot: ActionSlot, name: str) -> ActionSlot:
    """A copy of an action that nothing uses yet.

    Args:
        slot: the action, which is there.
        name: the copy's name; Blender adds a number where it is taken.
    """
    assert slot.action is not None
    action = slot.action.copy()
    action.name = name
    action.use_fake_user = False
    return ActionSlot(action.session_uid, slot.handle)


def remove_unused(action: bpy.types.Action | None) -> bool:
    """Remove an action that nothing but its fake user keeps; true if it is gone."""
    if action is None or action.users - action.use_fake_user > 0:
        return False
    bpy.data.actions.remove(action)
    return True


def read_keys(curve: bpy.types.FCurve) -> Keys:
    """The keys of a curve."""
    points, left, right = (_read_pairs(curve, name) for name in ("co", *HANDLES))
    kinds = np.empty((len(KINDS), len(points)), np.int32)
    for name, numbers in zip(KINDS, kinds, strict=True):
        curve.keyframe_points.foreach_get(name, numbers)
    return Keys(points, left, right, np.ascontiguousarray(kinds.T))


def read_types(
    curve: bpy.types.FCurve,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Frames (N,) and keyframe types (N,) of a curve's keys, Blender's numbers."""
    types = np.empty(len(curve.keyframe_points), np.int32)
    curve.keyframe_points.foreach_get("type", types)
    return _read_pairs(curve, "co")[:, 0], types


def _read_pairs(curve: bpy.types.FCurve, name: str) -> npt.NDArray[np.float32]:
    values = np.empty(2 * len(curve.keyframe_points), np.float32)
    curve.keyframe_points.foreach_get(name, values)
    return values.reshape(-1, 2)


def selected_frames(curve: bpy.types.FCurve) -> list[int]:
    """The whole frames on which a key of a curve is selected; keys between frames are left out."""
    count = len(curve.keyframe_points)
    chosen, points = np.empty(count, bool), np.empty(2 * count, np.float32)
    curve.keyframe_points.foreach_get("select_control_point", chosen)
    curve.keyframe_points.foreach_get("co", points)
    times = points[::2][chosen]
    return np.round(times[np.abs(times - np.round(times)) < SAME_FRAME]).astype(int).tolist()


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
    points = _read_pairs(curve, "co")
    if (moved := move_points(points, frames, values)) is not None:
        _shift_keys(curve, moved, moved[:, 1] - points[:, 1])
        return
    write_all_keys(curve, merge_keys(read_keys(curve), frames, values))


def _shift_keys(
    curve: bpy.types.FCurve, points: npt.NDArray[np.float32], shift: npt.NDArray[np.float32]
) -> None:
    """Move keys up or down, their handles along; what kind of keys they are need not be read."""
    curve.keyframe_points.foreach_set("co", np.ascontiguousarray(points).ravel())
    for name in HANDLES:
        pairs = _read_pairs(curve, name)
        pairs[:, 1] += shift
        curve.keyframe_points.foreach_set(name, pairs.ravel())
    curve.update()


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
    for name, numbers in zip(KINDS, keys.kinds.T, strict=True):
        target.foreach_set(name, np.ascontiguousarray(numbers))
    # Free handles lie where they lay; automatic ones are placed anew by update().
    for name, pairs in zip(HANDLES, (keys.left, keys.right), strict=True):
        target.foreach_set(name, np.ascontiguousarray(pairs).ravel())
    curve.update()


def evaluate(curve: bpy.types.FCurve, frames: npt.ArrayLike) -> Array:
    """A curve's values (T,) at frames (T,)."""
    at = curve.evaluate
    return np.fromiter((at(frame) for frame in np.asarray(frames).tolist()), np.float64)


def sample(
    curve: bpy.types.FCurve,
    frames: npt.ArrayLike,
    points: npt.NDArray[np.float32] | None = None,
) -> Array:
    """The same, read off the keys where each frame has one: fifty times as fast.

    Args:
        curve: the curve.
        frames: (T,) scene frames.
        points: (N, 2) frames and values of its keys, where they were read already.
    """
    frames = np.asarray(frames, np.float32)
    if len(frames) >= FEW_FRAMES and not curve.modifiers:
        values = values_on_keys(_read_pairs(curve, "co") if points is None else points, frames)
        if values is not None:
            return values
    return evaluate(curve, frames)
