# SPDX-License-Identifier: GPL-3.0-or-later
"""The action that is shown between the original and the refined motion.

It is a copy of the refined one in which every frame that differs has a blended key. Blending all
frames of a long action takes longer than a move of the slider may: the frame that is shown is
blended at once, and so is each that is gone to; the others follow bit by bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator

import bpy
import numpy as np

from ..keys import curve_keys, fcurves
from ..keys.curve_keys import SAME_VALUE
from ..keys.fcurves import remove_unused, use_action
from ..keys.joint_channels import (
    blend,
    blend_values,
    changed_span,
    frames_between,
    joint_channels,
)
from ..rigs.lookup import find_object
from ..slices import to_end
from . import compared_sides

NONE = -1.0
"""The blended amount of an action in which not all frames have it."""


def show(armature: bpy.types.Object, *, at_once: bool) -> None:
    """Have an armature show what lies between its motions.

    Args:
        armature: which.
        at_once: blend all frames; otherwise those that its scenes show, and `filling` the others.
    """
    settings = armature.posefit_comparison
    if settings.preview is None or armature.animation_data.action != settings.preview:
        stale, settings.preview = settings.preview, settings.refined.copy()
        settings.preview.name = f"{settings.refined.name}.preview"
        settings.preview.use_fake_user = False
        use_action(armature, settings.preview, settings.refined_slot)
        remove_unused(stale)
    settings.blended_amount = NONE
    if at_once:
        finish(armature)
        return
    for scene in armature.users_scene:
        put_frame(armature, scene.frame_current_final)


def is_open(armature: bpy.types.Object) -> bool:
    """Whether an armature shows a blended action in which some frames are not blended yet."""
    settings = armature.posefit_comparison
    if settings.preview is None or settings.refined is None:
        return False
    is_shown = armature.animation_data is not None
    is_shown = is_shown and armature.animation_data.action == settings.preview
    return is_shown and settings.blended_amount != settings.amount


def finish(armature: bpy.types.Object) -> None:
    """Blend all frames that are not blended yet, now."""
    if is_open(armature):
        to_end(filling(armature.session_uid))


def filling(armature_uid: int) -> Generator[None, None, None]:
    """Blend all frames, curve by curve; yields where it may pause, and ends where it is in vain."""
    armature = find_object(armature_uid)
    if armature is None:
        return
    amount = armature.posefit_comparison.amount
    original, refined = compared_sides.sources(armature)
    for joint in joint_channels(armature):
        span = yield from changed_span(joint, original, refined)
        if _still_open(armature_uid, amount) is None:
            return
        if span is None:
            continue
        frames = frames_between(*span)
        values = blend(joint, original.side(), refined.side(), amount, frames)
        for channel, column in zip(joint.channels, values.T, strict=True):
            yield
            if (armature := _still_open(armature_uid, amount)) is None:
                return
            inside = curve_keys.merge_keys(curve_keys.no_keys(), frames, column)
            wanted = curve_keys.put_between(refined.keys(channel), inside, *span)
            settings = armature.posefit_comparison
            curve = fcurves.ensure_curve(
                settings.preview, settings.refined_slot, channel, joint.bone
            )
            fcurves.write_all_keys(curve, wanted)
        yield
    if (armature := _still_open(armature_uid, amount)) is not None:
        armature.posefit_comparison.blended_amount = amount
        armature.update_tag(refresh={"OBJECT", "DATA", "TIME"})


def put_frame(armature: bpy.types.Object, frame: float) -> None:
    """Blend one frame, or the two about one that is not whole, where they differ at all."""
    settings = armature.posefit_comparison
    original, refined = compared_sides.sides(armature)
    frames = np.unique([math.floor(frame), math.ceil(frame)]).astype(float)
    for joint in joint_channels(armature):
        before, after = original.values(joint, frames), refined.values(joint, frames)
        if np.abs(before - after).max() <= SAME_VALUE:
            continue
        values = blend_values(joint, before, after, settings.amount)
        for channel, column in zip(joint.channels, values.T, strict=True):
            curve = fcurves.ensure_curve(
                settings.preview, settings.refined_slot, channel, joint.bone
            )
            for at, value in zip(frames.tolist(), column.tolist(), strict=True):
                curve.keyframe_points.insert(at, value, options={"FAST"})
    settings.preview.update_tag()


class PreviewFilling:
    """Blended actions that are not whole yet, of all armatures; the session's."""

    def __init__(self) -> None:
        self._slices: dict[int, tuple[float, Generator[None, None, None]]] = {}

    @property
    def is_open(self) -> bool:
        """Whether any is not whole."""
        return bool(self._slices)

    def look_for_all(self) -> None:
        """Find out anew which are not whole: after undo, and in a file that was opened."""
        self._slices.clear()
        for item in bpy.data.objects:
            if item.type == "ARMATURE" and is_open(item):
                self._add(item)

    def after_edit(self, graph: bpy.types.Depsgraph) -> None:
        """Take in sliders that were moved."""
        if not graph.id_type_updated("OBJECT"):
            return
        for update in graph.updates:
            item = update.id.original
            if isinstance(item, bpy.types.Object) and item.type == "ARMATURE" and is_open(item):
                self._add(item)

    def until(self, deadline: float) -> bool:
        """Blend on until a time, by `time.monotonic()`; at least one bit, where there is any."""
        has_worked = self.is_open
        for uid in list(self._slices):
            for _ in self._slices[uid][1]:
                if time.monotonic() >= deadline:
                    return True
            del self._slices[uid]
        return has_worked

    def before_frame(self, frame: float) -> None:
        """Blend the frame that is about to be shown."""
        for uid in list(self._slices):
            if (armature := find_object(uid)) is not None and is_open(armature):
                put_frame(armature, frame)

    def finish(self) -> None:
        """Make all of them whole now."""
        for uid in list(self._slices):
            if (armature := find_object(uid)) is not None:
                finish(armature)
        self._slices.clear()

    def _add(self, armature: bpy.types.Object) -> None:
        amount, uid = armature.posefit_comparison.amount, armature.session_uid
        if uid not in self._slices or self._slices[uid][0] != amount:
            self._slices[uid] = amount, filling(uid)


def _still_open(armature_uid: int, amount: float) -> bpy.types.Object | None:
    armature = find_object(armature_uid)
    if armature is None or not is_open(armature):
        return None
    return armature if armature.posefit_comparison.amount == amount else None
