# SPDX-License-Identifier: GPL-3.0-or-later
"""What may move: lock bones, hold them stiffly, pin frames."""

from __future__ import annotations

import bpy

from ..control import artist_control
from ..control.frame_list import write_frames
from ..rigs.library_link import check_can_be_animated
from ..rigs.rig import SceneError
from .on_armature import OnArmature, selected_bones

_OPTIONS = {"REGISTER", "UNDO"}
_FRAMES = dict(
    name="Frames",
    description="Which frames",
    items=[
        ("CURRENT", "Current Frame", "The frame that is shown"),
        ("KEYS", "Selected Keys", "The frames on which keys of the action are selected"),
    ],
    options=set(),
)


class _OnBones(OnArmature):
    """An operator that changes the selected bones, and says how many."""

    words = ""

    def change(self, armature: bpy.types.Object, bones: frozenset[str]) -> int:
        """What is done to them."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        bones = selected_bones(context.object)
        try:
            check_can_be_animated(context.object, with_shape=False)
            if not bones:
                raise SceneError("no bone is selected: select some in pose mode")
            count = self.change(context.object, bones)
        except SceneError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"{count} bones {self.words}")
        return {"FINISHED"}


class POSEFIT_OT_lock_bones(_OnBones, bpy.types.Operator):
    """Lock the selected bones: refining never turns them, and their keys stay as they are"""

    bl_idname = "posefit.lock_bones"
    bl_label = "Lock Selected"
    bl_options = _OPTIONS
    words = "locked"

    def change(self, armature: bpy.types.Object, bones: frozenset[str]) -> int:
        """Lock them."""
        return artist_control.lock(armature, bones, True)


class POSEFIT_OT_unlock_bones(_OnBones, bpy.types.Operator):
    """Let refining turn the selected bones again"""

    bl_idname = "posefit.unlock_bones"
    bl_label = "Unlock Selected"
    bl_options = _OPTIONS
    words = "unlocked"

    def change(self, armature: bpy.types.Object, bones: frozenset[str]) -> int:
        """Unlock them."""
        return artist_control.lock(armature, bones, False)


class POSEFIT_OT_set_stiffness(_OnBones, bpy.types.Operator):
    """Set how strongly refining holds the selected bones near to their pose"""

    bl_idname = "posefit.set_stiffness"
    bl_label = "Set Stiffness"
    bl_options = _OPTIONS

    stiffness: bpy.props.FloatProperty(**artist_control.STIFFNESS)

    def change(self, armature: bpy.types.Object, bones: frozenset[str]) -> int:
        """Set it."""
        self.words = f"have stiffness {self.stiffness:g}"
        return artist_control.stiffen(armature, bones, self.stiffness)


class _OnFrames(OnArmature):
    """An operator that changes which frames are pinned, and says which are."""

    def change(self, context: bpy.types.Context) -> None:
        """What is done."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            check_can_be_animated(context.object, with_shape=False)
            self.change(context)
            pinned = artist_control.pinned_frames(context.object)
        except SceneError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Pinned: {write_frames(pinned) or 'none'}")
        return {"FINISHED"}


class POSEFIT_OT_pin_frames(_OnFrames, bpy.types.Operator):
    """Pin frames: refining never changes them, and leads to them from both sides"""

    bl_idname = "posefit.pin_frames"
    bl_label = "Pin Frames"
    bl_options = _OPTIONS

    frames: bpy.props.EnumProperty(**_FRAMES)

    def change(self, context: bpy.types.Context) -> None:
        """Pin them."""
        armature = context.object
        frames = artist_control.frames_to_take(armature, self.frames, context.scene)
        artist_control.pin(armature, frames)


class POSEFIT_OT_unpin_frames(_OnFrames, bpy.types.Operator):
    """Let refining change frames again that were pinned"""

    bl_idname = "posefit.unpin_frames"
    bl_label = "Unpin Frames"
    bl_options = _OPTIONS

    frames: bpy.props.EnumProperty(**_FRAMES)

    def change(self, context: bpy.types.Context) -> None:
        """Unpin them."""
        armature = context.object
        frames = artist_control.frames_to_take(armature, self.frames, context.scene)
        artist_control.unpin(armature, frames)


class POSEFIT_OT_clear_pins(_OnFrames, bpy.types.Operator):
    """Unpin all frames of the armature"""

    bl_idname = "posefit.clear_pins"
    bl_label = "Clear Pins"
    bl_options = _OPTIONS

    def change(self, context: bpy.types.Context) -> None:
        """Unpin all, also where the list cannot be read."""
        context.object.posefit_pinned_frames = ""


CLASSES = (
    POSEFIT_OT_lock_bones,
    POSEFIT_OT_unlock_bones,
    POSEFIT_OT_set_stiffness,
    POSEFIT_OT_pin_frames,
    POSEFIT_OT_unpin_frames,
    POSEFIT_OT_clear_pins,
)
