# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist decided before refining: locked and stiff bones, pinned frames.

Kept as plain properties of pose bones and objects, not in a group of properties: those of library
overrides are then saved with the file in every Blender.
"""

from __future__ import annotations

from collections.abc import Iterable

import bpy

from posefit_shared.settings import RefineSettings

from ..keys import fcurves
from ..rigs.rig import SceneError
from ..rigs.rig_match import match_armature
from .frame_list import read_frames, write_frames
from .freedom import Freedom, hand_bones

_KEPT = {"override": {"LIBRARY_OVERRIDABLE"}, "options": set()}
_BONE_PROPERTIES = {
    "posefit_locked": lambda: bpy.props.BoolProperty(
        name="Locked",
        description="Refining never turns this bone: its keys stay exactly as they are",
        **_KEPT,
    ),
    "posefit_stiffness": lambda: bpy.props.FloatProperty(
        name="Stiffness",
        description="How strongly this bone is held near to its pose: 1 as usual, 10 hardly "
        "moves, 0 is not held at all. It multiplies Stay Near of the settings",
        default=1.0,
        min=0.0,
        soft_max=20.0,
        max=1000.0,
        **_KEPT,
    ),
}
_OBJECT_PROPERTIES = {
    "posefit_pinned_frames": lambda: bpy.props.StringProperty(
        name="Pinned Frames",
        description="Frames that refining never changes and to which it leads, as 1, 20-24",
        **_KEPT,
    ),
}


STIFFNESS = dict(
    name="Stiffness",
    description="How strongly the selected bones are held near to their pose: 1 as usual, 10 "
    "hardly moves, 0 is not held at all",
    default=4.0,
    min=0.0,
    soft_max=20.0,
    max=1000.0,
    options=set(),
)


def read_freedom(
    armature: bpy.types.Object,
    scene: bpy.types.Scene,
    scene_frames: Iterable[int],
    settings: RefineSettings,
) -> Freedom:
    """What may move when an armature is refined over frames.

    Args:
        armature: an SMPL armature.
        scene: whose settings say whether root and hands may turn.
        scene_frames: the frames to refine.
        settings: how to refine.

    Raises:
        SceneError: it is no SMPL armature, or nothing is left that may move.
    """
    match = match_armature(armature)
    bones = [armature.pose.bones[name] for name in match.bones]
    locked = {bone.name for bone in bones if bone.posefit_locked}
    if not scene.posefit.refine_root_rotation:
        locked.add(match.bones[0])
    if not scene.posefit.refine_hands:
        locked.update(hand_bones(match))
    moves_root = settings.refine_translation or settings.refine_shape
    moves_root = moves_root or settings.refine_focal != "off"  # bodies slide along the view
    frames = set(scene_frames)
    freedom = Freedom(
        locked=frozenset(locked),
        stiffness={b.name: b.posefit_stiffness for b in bones if b.posefit_stiffness != 1},
        pinned=frozenset(frames.intersection(pinned_frames(armature))),
        is_root_held=not moves_root,
    )
    if freedom.pinned and freedom.pinned == frames:
        which = write_frames(frames)
        raise SceneError(f"all frames asked for are pinned ({which}): unpin some in Control")
    if len(locked) == len(bones) and freedom.is_root_held:
        raise SceneError("all bones are locked and the root may not move: unlock some in Control")
    return freedom


def pinned_frames(armature: bpy.types.Object) -> tuple[int, ...]:
    """The frames of an armature that are pinned.

    Raises:
        SceneError: what was typed is no list of frames.
    """
    try:
        return read_frames(armature.posefit_pinned_frames)
    except SceneError as error:
        raise SceneError(f"Pinned Frames of {armature.name}: {error}") from error


def pin(armature: bpy.types.Object, frames: Iterable[int]) -> None:
    """Pin frames, beside those that are."""
    armature.posefit_pinned_frames = write_frames({*pinned_frames(armature), *frames})


def unpin(armature: bpy.types.Object, frames: Iterable[int]) -> None:
    """Pin frames no longer."""
    left = set(pinned_frames(armature)).difference(frames)
    armature.posefit_pinned_frames = write_frames(left)


def frames_to_take(armature: bpy.types.Object, which: str, scene: bpy.types.Scene) -> list[int]:
    """The frames that the artist points at, in order of time.

    Args:
        armature: whose action is looked at.
        which: `CURRENT`, the scene's frame, or `KEYS`, those of the action's selected keys.
        scene: the scene.

    Raises:
        SceneError: no key is selected.
    """
    if which == "CURRENT":
        return [scene.frame_current]
    frames: set[int] = set()
    for curve in fcurves.curves_of(armature).values():
        frames.update(fcurves.selected_frames(curve))
    if not frames:
        raise SceneError(
            f"no key of {armature.name} is selected on a whole frame: select keys in the timeline "
            "or the dope sheet"
        )
    return sorted(frames)


def lock(armature: bpy.types.Object, bones: Iterable[str], locked: bool) -> int:
    """Lock bones, or unlock them; how many were named."""
    names = list(bones)
    for name in names:
        armature.pose.bones[name].posefit_locked = locked
    return len(names)


def stiffen(armature: bpy.types.Object, bones: Iterable[str], stiffness: float) -> int:
    """Set how strongly bones are held to their pose; how many were named."""
    names = list(bones)
    for name in names:
        armature.pose.bones[name].posefit_stiffness = stiffness
    return len(names)


def locked_bones(armature: bpy.types.Object) -> list[str]:
    """Names of the bones that the artist locked."""
    return [bone.name for bone in _pose_bones(armature) if bone.posefit_locked]


def stiff_bones(armature: bpy.types.Object) -> dict[str, float]:
    """The bones that are held more or less than usual, and how much."""
    bones = _pose_bones(armature)
    return {b.name: b.posefit_stiffness for b in bones if b.posefit_stiffness != 1}


def _pose_bones(armature: bpy.types.Object) -> Iterable[bpy.types.PoseBone]:
    return () if armature.pose is None else armature.pose.bones


def attach() -> None:
    """Give pose bones and objects what is kept with them."""
    for name, make in _BONE_PROPERTIES.items():
        setattr(bpy.types.PoseBone, name, make())
    for name, make in _OBJECT_PROPERTIES.items():
        setattr(bpy.types.Object, name, make())


def detach() -> None:
    """Take it away again."""
    for name in _BONE_PROPERTIES:
        delattr(bpy.types.PoseBone, name)
    for name in _OBJECT_PROPERTIES:
        delattr(bpy.types.Object, name)
