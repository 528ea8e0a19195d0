# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refinement said of each frame and joint, kept with the action that it made.

How sure the backend was, what became of each frame, and how far each joint went from the original.
These are plain arrays among the action's custom properties: the file saves them, undo takes them
back, a copy of the action has them too, and they go where the action goes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import rotations
from posefit_shared.messages import RefineResult
from posefit_shared.sequence import STATUSES

from ..keys.joint_channels import GivenSource, SideSource, joint_channels
from ..rigs.bone_rotations import chain_posed_matrices
from ..rigs.rig_match import match_armature
from ..slices import chunks, to_end
from . import compared_sides, side_poses

FloatArray = npt.NDArray[np.float32]

KEY = "posefit_findings"
"""The custom property of an action that holds them."""
SCHEMA = 1
"""Which fields that property has."""


@dataclass(frozen=True)
class Findings:
    """What is known of T refined frames and J joints; nothing in it is Blender's."""

    frames: npt.NDArray[np.int32]
    """(T,) scene frames, in order of time."""
    bones: tuple[str, ...]
    """(J,) names of the joints' bones, in SMPL's order."""
    status: tuple[str, ...]
    """(T,) one of `sequence.STATUSES`."""
    confidence: FloatArray
    """(T, J) 0 to 1; NaN where the refined joint was not accepted."""
    moved_mm: FloatArray
    """(T, J) how far the joint lies from where the original has it."""
    turned_deg: FloatArray
    """(T, J) the angle by which the joint's own rotation differs from the original's."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """Figures for people that came with the last refinement, as the backend named them."""

    def at(self, frame: int) -> int | None:
        """The row of a scene frame; none where that was not refined."""
        row = int(np.searchsorted(self.frames, frame))
        return row if row < len(self.frames) and self.frames[row] == frame else None


def merge(earlier: Findings | None, later: Findings) -> Findings:
    """Both, in order of time; on frames that both have, the later ones."""
    if earlier is None or earlier.bones != later.bones:
        return later
    stays = ~np.isin(earlier.frames, later.frames)
    order = np.argsort(np.concatenate([earlier.frames[stays], later.frames]), kind="stable")
    kept = _rows(earlier, np.flatnonzero(stays))
    both = {
        name: np.concatenate([getattr(kept, name), getattr(later, name)])[order]
        for name in ("frames", "confidence", "moved_mm", "turned_deg")
    }
    words = (*kept.status, *later.status)
    status = tuple(words[place] for place in order)
    return Findings(bones=later.bones, status=status, report=later.report, **both)


def accepted_part(
    found: Findings, bones: Collection[str] | None, frames: tuple[int, int] | None
) -> Findings:
    """What still holds once only these bones (none: all) on these frames (none: all) were taken."""
    if frames is not None:
        found = _rows(
            found, np.flatnonzero((found.frames >= frames[0]) & (found.frames <= frames[1]))
        )
    if bones is None:
        return found
    is_taken = np.array([bone in bones for bone in found.bones])
    return replace(found, confidence=np.where(is_taken, found.confidence, np.float32(np.nan)))


def _rows(found: Findings, rows: npt.NDArray[np.intp]) -> Findings:
    return replace(
        found,
        frames=found.frames[rows],
        status=tuple(found.status[row] for row in rows),
        confidence=found.confidence[rows],
        moved_mm=found.moved_mm[rows],
        turned_deg=found.turned_deg[rows],
    )


# In Blender


def action_of(armature: bpy.types.Object | None) -> bpy.types.Action | None:
    """The action whose findings speak of an armature: the refined one, else the one in use."""
    if armature is None or armature.type != "ARMATURE":
        return None
    refined = armature.posefit_comparison.refined
    animation = armature.animation_data
    action = refined or (None if animation is None else animation.action)
    return action if action is not None and KEY in action else None


def of_armature(armature: bpy.types.Object | None) -> Findings | None:
    """What is known of an armature's frames; none where nothing is."""
    action = action_of(armature)
    return None if action is None else read(action)


def read(action: bpy.types.Action) -> Findings | None:
    """What an action holds; none where it holds nothing that can be read."""
    stored = action.get(KEY)
    if stored is None or stored.get("schema") != SCHEMA:
        return None
    frames = np.array(stored["frames"], np.int32)
    bones = tuple(stored["bones"].split("\n"))
    codes = np.array(stored["status"], np.int32)
    tables = {
        name: np.array(stored[name], np.float32).reshape(len(frames), len(bones))
        for name in ("confidence", "moved_mm", "turned_deg")
    }
    report = json.loads(stored.get("report", "{}"))
    return Findings(frames, bones, tuple(STATUSES[c] for c in codes), **tables, report=report)


def write(action: bpy.types.Action, found: Findings) -> None:
    """Have an action hold findings, instead of those that it held; none at all without frames."""
    drop(action)
    if not len(found.frames):
        return
    action[KEY] = {
        "schema": SCHEMA,
        "frames": np.ascontiguousarray(found.frames, np.int32),
        "bones": "\n".join(found.bones),
        "status": np.array([STATUSES.index(word) for word in found.status], np.int32),
        "confidence": found.confidence.astype(np.float32).ravel(),
        "moved_mm": found.moved_mm.astype(np.float32).ravel(),
        "turned_deg": found.turned_deg.astype(np.float32).ravel(),
        "report": json.dumps(dict(found.report)),
    }


def drop(action: bpy.types.Action) -> None:
    """Have an action hold none."""
    if KEY in action:
        del action[KEY]


def said_of(
    bones: tuple[str, ...],
    scene_frames: npt.ArrayLike,
    result: RefineResult,
    moved_mm: FloatArray,
    turned_deg: FloatArray,
) -> Findings:
    """What a refinement said, with the change that was measured.

    Args:
        bones: (J,) names of the joints' bones.
        scene_frames: (T,) Blender's frames of the result, in any order.
        result: what the backend said.
        moved_mm, turned_deg: (T, J) of `change_between` on those frames in order of time.
    """
    frames = np.asarray(scene_frames, np.int32)
    order = np.argsort(frames, kind="stable")
    return Findings(
        frames=frames[order],
        bones=bones,
        status=tuple(result.status[row] for row in order),
        confidence=np.asarray(result.confidence, np.float32)[order],
        moved_mm=moved_mm,
        turned_deg=turned_deg,
        report=result.report,
    )


def keeping_accepted(
    armature: bpy.types.Object,
    original: SideSource,
    accepted: SideSource,
    bones: Collection[str] | None,
    frames: tuple[int, int] | None,
) -> Generator[None, None, None]:
    """Keep of an action's findings what was accepted, with the change that is left.

    Args:
        armature: whose motions they are; not used after a pause.
        original: what they are compared with.
        accepted: the action, which holds the accepted keys and all findings.
        bones: names of those that were taken; none: all.
        frames: first and last scene frame that was taken; none: all.

    Yields:
        Where it may pause; an action that is gone by then keeps none.
    """
    action = accepted.slot.action
    found = None if action is None else read(action)
    if found is None:
        return
    found = accepted_part(found, bones, frames)
    moved, turned = yield from change_between(armature, original, accepted, found.frames)
    if (action := accepted.slot.action) is not None:
        write(action, replace(found, moved_mm=moved, turned_deg=turned))


def measured_change(
    armature: bpy.types.Object, frames: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """`change_between` the motions that an armature compares, at once."""
    return to_end(change_between(armature, *compared_sides.sources(armature), frames))


def change_between(
    armature: bpy.types.Object,
    original: SideSource | GivenSource,
    refined: SideSource,
    frames: npt.ArrayLike,
) -> Generator[None, None, tuple[FloatArray, FloatArray]]:
    """How far (mm) and by what angle (degrees) each joint differs, both (T, J), at frames (T,).

    The bones' own keys decide; constraints and bones above the root are left out.

    Yields:
        Where it may pause.
    """
    joints = joint_channels(armature)
    rest, parents = side_poses.rest_bones(armature), match_armature(armature).parents
    per_unit = 1000.0 / side_poses.units_per_metre(armature)
    del armature
    values: list[list[npt.NDArray[np.float64]]] = []
    for source in (original, refined):
        values.append([])
        for joint in joints:
            values[-1].append(source.side().values(joint, frames))
            yield
    found = []
    for rows in chunks(len(values[0][0])):
        before, after = (
            side_poses.turns_of_values(joints, [column[rows] for column in side]) for side in values
        )
        heads = (chain_posed_matrices(t, rest, parents)[..., :3, 3] for t in (before, after))
        moved = np.linalg.norm(np.subtract(*heads), axis=-1) * per_unit
        turn = np.swapaxes(before[..., :3, :3], -1, -2) @ after[..., :3, :3]
        found.append((moved, np.degrees(np.linalg.norm(rotations.matrix_to_rotvec(turn), axis=-1))))
        yield
    moved, turned = (
        np.concatenate(column).astype(np.float32) for column in zip(*found, strict=True)
    )
    return moved, turned
