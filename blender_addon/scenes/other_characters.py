# SPDX-License-Identifier: GPL-3.0-or-later
"""Other SMPL characters before the camera: a refinement is told where they hide the person.

They are read in slices like the character itself, on the same pictures. Whoever cannot be read, or
is nowhere in the picture, hides nothing; no refinement is refused for their sake.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared.body_files import BodyFileError
from posefit_shared.payload_parts import MOST_OTHERS, OtherPeople

from ..keys.strips import has_strips
from ..rigs import body_builder
from ..rigs.rig import SceneError
from ..rigs.rig_match import match_armature
from . import footage_offset
from .body_reading import BodyReading, read_body
from .frame_stepping import find
from .scene_reader import SceneRequest

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CharacterReading:
    """One other character, still to be worked out; nothing in it is Blender's."""

    body: BodyReading
    """Its rig and where things were."""
    betas: npt.NDArray[np.float32]
    """(N,) its shape."""
    body_hash: str
    """Which body that shape belongs to; empty where not known."""
    is_there: npt.NDArray[np.bool_]
    """(T,) whether its own motion has these frames."""


class _Placed(NamedTuple):
    """One character in numbers, on the T frames of the refined sequence."""

    poses: Array
    trans: Array
    betas: npt.NDArray[np.float32]
    is_there: npt.NDArray[np.bool_]
    to_world: Array


def others_of(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, armature: bpy.types.Object
) -> list[bpy.types.Object]:
    """All visible characters of a scene that pose the same model as one of them, by name."""
    try:
        model = match_armature(armature).model_type
    except SceneError:
        return []
    found = []
    for item in scene.objects:
        if item.type != "ARMATURE" or item == armature:
            continue
        if not item.visible_get(view_layer=view_layer):
            continue
        try:
            if match_armature(item).model_type == model:
                found.append(item)
        except SceneError:
            continue  # a prop's or an animal's armature
    return sorted(found, key=lambda one: one.name)


def read_others(
    context: bpy.types.Context, armature: bpy.types.Object, scene_frames: Sequence[int]
) -> Generator[float, None, tuple[CharacterReading, ...]]:
    """Read the other characters on the pictures that an armature's frames belong to.

    Args:
        context: whose scene is read.
        armature: the one that is refined.
        scene_frames: (T,) its frames.

    Yields:
        The share of the present character that is done, 0 to 1.
    """
    shown = footage_offset.footage_frames(armature, scene_frames)
    names = [item.name for item in others_of(context.scene, context.view_layer, armature)]
    del armature
    found = []
    for name in names:
        try:
            item = find(name)
            offset = item.posefit_footage_offset
            own = [round(frame - offset) for frame in shown]
            is_there, betas = _is_there(item, own), body_builder.read_betas(item)
            body_hash = str(item.get(body_builder.HASH_KEY, ""))
            if not is_there.any():
                continue
            body = yield from read_body(context, item, own)
        except (SceneError, BodyFileError):
            continue
        found.append(CharacterReading(body, betas, body_hash, is_there))
    return tuple(found)


def other_people(
    request: SceneRequest, characters: Sequence[CharacterReading]
) -> Generator[None, None, OtherPeople | None]:
    """The characters as the backend takes them, the most often seen first; numpy only.

    Args:
        request: what is refined, in whose world they are placed.
        characters: what was read of all others.

    Yields:
        Where it may pause.

    Returns:
        None where nobody is in the picture.
    """
    placed = []
    for character in characters:
        if (one := (yield from _place(request, character))) is not None:
            placed.append((_times_in_picture(request, one), one))
    seen = sorted((pair for pair in placed if pair[0]), key=lambda pair: -pair[0])[:MOST_OTHERS]
    if not seen:
        return None
    people = [one for _, one in seen]
    most = max(len(one.betas) for one in people)
    betas = [np.pad(one.betas, (0, most - len(one.betas))) for one in people]
    return OtherPeople(
        poses=np.stack([one.poses for one in people]).astype(np.float32),
        trans=np.stack([one.trans for one in people]).astype(np.float32),
        betas=np.stack(betas).astype(np.float32),
        is_there=np.stack([one.is_there for one in people]).astype(np.uint8),
        to_world=np.stack([one.to_world for one in people])[:, None],
    )


def _place(
    request: SceneRequest, character: CharacterReading
) -> Generator[None, None, _Placed | None]:
    try:
        frames, poses, trans = yield from character.body.worked_out()
    except SceneError:
        return None  # scaled unevenly: no SMPL body looks like that
    if poses.shape != request.sequence.poses.shape or not np.isfinite(trans).all():
        return None
    to_world = np.diag([*[frames.units_per_metre / request.frames.units_per_metre] * 3, 1.0])
    betas = character.betas
    if character.body_hash != request.sequence.body:
        betas = np.zeros_like(betas)  # another file's coefficients mean nothing for this body
    return _Placed(poses, trans, betas, character.is_there, to_world)


def _times_in_picture(request: SceneRequest, one: _Placed) -> int:
    """On how many frames something of a character may be in the picture: its root, or near it."""
    motion = request.sequence
    assert motion.world_to_camera is not None
    assert motion.intrinsics is not None
    root = one.trans @ one.to_world[:3, :3].T
    to_camera = np.broadcast_to(motion.world_to_camera, (len(root), 4, 4))
    seen = np.einsum("tij,tj->ti", to_camera[:, :3, :3], root) + to_camera[:, :3, 3]
    lens = np.broadcast_to(motion.intrinsics, (len(root), 3, 3))
    depth = seen[:, 2]
    pixels = np.einsum("tij,tj->ti", lens, seen)[:, :2] / np.maximum(depth, 1e-6)[:, None]
    body = lens[:, 0, 0] / np.maximum(depth, 1e-6) * _REACH_M * one.to_world[0, 0]
    assert motion.image_size is not None
    size = np.array(motion.image_size, float)
    inside = (pixels > -body[:, None]) & (pixels < size + body[:, None])
    return int((one.is_there & (depth > 0) & inside.all(-1)).sum())


_REACH_M = 1.5
"""No part of a body is farther from its root."""


def _is_there(item: bpy.types.Object, frames: Sequence[int]) -> npt.NDArray[np.bool_]:
    """(T,) whether a character's motion has these frames: before and after it, it only stands."""
    at = np.asarray(frames)
    action = None if item.animation_data is None else item.animation_data.action
    if action is None or has_strips(item):
        return np.ones(len(at), bool)
    first, last = action.curve_frame_range
    if last <= first:  # one pose
        return np.ones(len(at), bool)
    return (at >= np.floor(first)) & (at <= np.ceil(last))
