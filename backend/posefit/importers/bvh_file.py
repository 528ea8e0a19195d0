# SPDX-License-Identifier: Apache-2.0
"""BVH text → a skeleton with its motion: offsets, global rotations, places.

Source: the format as github.com/orangeduck/Motion-Matching and Blender's io_anim_bvh read it:
    HIERARCHY with ROOT, JOINT, End Site, OFFSET and CHANNELS; MOTION with Frames, Frame Time and
    rows of degrees. Rotation channels apply from left to right, each about the axes as turned by
    those before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from posefit_shared.rotations import rotvec_to_matrix

from .fields import Array
from .person import ImporterError

__all__ = ["BvhMotion", "read_bvh_text"]

MAX_CHANNELS = 12
MAX_JOINTS = 1000
MAX_NUMBERS = 200_000_000
_AXES = {"X": np.array([1.0, 0, 0]), "Y": np.array([0, 1.0, 0]), "Z": np.array([0, 0, 1.0])}


@dataclass(frozen=True)
class BvhMotion:
    """A skeleton and what it does, in the file's own axes and units."""

    names: tuple[str, ...]
    """Joints, parents first; ends of limbs are called `NAME.end`."""
    parents: tuple[int, ...]
    offsets: Array
    """(J, 3) from the parent, at rest."""
    rotations: Array
    """(T, J, 3, 3) of each joint against the world."""
    positions: Array
    """(T, J, 3) places of the joints."""
    frame_rate: float

    @property
    def rest(self) -> Array:
        """(J, 3) places at rest, the root at the origin."""
        places = np.zeros_like(self.offsets)
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                places[joint] = places[parent] + self.offsets[joint]
        return places


@dataclass
class _Joint:
    name: str
    parent: int
    offset: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    channels: tuple[str, ...] = ()


def read_bvh_text(text: str, name: str) -> BvhMotion:
    """The motion of a BVH file.

    Args:
        text: the file.
        name: the file's name, for the message.

    Raises:
        ImporterError: it is no BVH file, or is cut short.
    """
    head, found, tail = text.partition("MOTION")
    if not found:
        raise ImporterError(f"{name} has no MOTION part: it is no whole BVH file")
    try:
        joints = _hierarchy(head.split())
        rate, rows = _rows(tail)
    except (ValueError, IndexError) as error:
        raise ImporterError(f"{name} is no BVH file as expected ({error}): check it") from error
    wanted = sum(len(joint.channels) for joint in joints)
    if rows.shape[1] != wanted:
        raise ImporterError(
            f"{name} has {rows.shape[1]} numbers a frame, its channels need {wanted}: it is broken"
        )
    rotations, positions = _posed(joints, rows)
    return BvhMotion(
        names=tuple(joint.name for joint in joints),
        parents=tuple(joint.parent for joint in joints),
        offsets=np.array([joint.offset for joint in joints]),
        rotations=rotations,
        positions=positions,
        frame_rate=rate,
    )


def _hierarchy(words: list[str]) -> list[_Joint]:
    joints: list[_Joint] = []
    open_joints: list[int] = []
    place = 0
    while place < len(words):
        token = words[place]
        if token in ("ROOT", "JOINT", "End"):
            if token == "ROOT" and joints:
                raise ValueError("it has several roots")
            parent = open_joints[-1] if open_joints else -1
            name = words[place + 1] if token != "End" else f"{joints[parent].name}.end"
            joints.append(_Joint(name, parent))
            if len(joints) > MAX_JOINTS:
                raise ValueError("it has too many joints")
            place += 2
        elif token == "{":
            open_joints.append(len(joints) - 1)
            place += 1
        elif token == "}":
            open_joints.pop()
            place += 1
        elif token == "OFFSET":
            joints[open_joints[-1]].offset = [float(n) for n in words[place + 1 : place + 4]]
            place += 4
        elif token == "CHANNELS":
            count = int(words[place + 1])
            if not 0 <= count <= MAX_CHANNELS:
                raise ValueError(f"a joint has {count} channels, expected 0 to {MAX_CHANNELS}")
            joints[open_joints[-1]].channels = tuple(words[place + 2 : place + 2 + count])
            place += 2 + count
        else:
            place += 1
    if not joints or open_joints:
        raise ValueError("its hierarchy is not closed")
    return joints


def _rows(tail: str) -> tuple[float, Array]:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    frames = int(lines[0].split(":")[1])
    time = float(lines[1].split(":")[1])
    if time <= 0:
        raise ValueError(f"its frame time is {time}")
    rows = [np.array(line.split(), dtype=np.float64) for line in lines[2 : 2 + frames]]
    if len(rows) < frames or not rows or len({len(row) for row in rows}) != 1:
        raise ValueError(f"it says {frames} frames and has {len(rows)}, or rows of unequal length")
    table = np.stack(rows)
    if table.size > MAX_NUMBERS or not np.isfinite(table).all():
        raise ValueError("it holds too many numbers, or some that are not finite")
    return 1 / time, table


def _posed(joints: list[_Joint], rows: Array) -> tuple[Array, Array]:
    """Rotations (T, J, 3, 3) and places (T, J, 3); position channels stand for the offset."""
    count = len(rows)
    rotations = np.zeros((count, len(joints), 3, 3))
    positions = np.zeros((count, len(joints), 3))
    column = 0
    for place, joint in enumerate(joints):
        local = np.broadcast_to(np.eye(3), (count, 3, 3))
        offset = np.tile(np.array(joint.offset), (count, 1))
        for channel in joint.channels:
            axis, kind = _AXES.get(channel[:1].upper()), channel[1:].lower()
            if axis is None or kind not in ("rotation", "position"):
                raise ImporterError(f"the BVH file has the channel {channel!r}, which is unknown")
            values = rows[:, column]
            column += 1
            if kind == "rotation":
                local = local @ rotvec_to_matrix(np.radians(values)[:, None] * axis)
            else:
                offset[:, int(np.argmax(axis))] = values
        if joint.parent < 0:
            rotations[:, place], positions[:, place] = local, offset
        else:
            above = rotations[:, joint.parent]
            rotations[:, place] = above @ local
            moved = np.einsum("tij,tj->ti", above, offset)
            positions[:, place] = positions[:, joint.parent] + moved
    return rotations, positions
