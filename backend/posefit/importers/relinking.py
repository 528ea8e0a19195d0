# SPDX-License-Identifier: Apache-2.0
"""Tracks of one person that a tracker broke: joined again where nothing speaks against it.

A tracker that misses somebody for a while gives them a new number. Two tracks become one person
when all of this holds, with measures taken in the camera's frame:

- the later one begins within a second after the earlier one ends;
- it begins near the way from where the earlier one ended to where it was heading: within 0.25 m and
  0.5 m for each second of the gap across the view, and within a tenth of the distance along it;
- joints differ by under 0.4 rad on average and the root by under 0.8 rad;
- mean shapes differ by under 1 (root mean square of the betas);
- no other track could as well be the one that goes on, or the one that went before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix
from posefit_shared.sequence import Sequence

from .fields import Array
from .person import ImportedPerson

__all__ = ["relinked"]

_LONGEST_S = 1.0
_ACROSS_M, _ACROSS_M_PER_S = 0.25, 0.5
_ALONG_SHARE = 0.1
_JOINTS_RAD, _ROOT_RAD = 0.4, 0.8
_BETAS = 1.0
_HEADING_FRAMES = 5
"""Last frames that say where somebody was heading."""


def relinked(people: list[ImportedPerson], *, shares_world: bool) -> list[ImportedPerson]:
    """The people with broken tracks made whole; each join is told in a note.

    Args:
        people: as a tool's file has them.
        shares_world: whether motions in a world are in the same one; where each track has its own,
            only motions in the camera's frame are joined.
    """
    tracks = sorted(people, key=lambda one: _frames(one.sequence)[0])
    count = range(len(tracks))
    able = {
        (first, later)
        for first in count
        for later in count
        if _may_go_on(tracks[first].sequence, tracks[later].sequence, shares_world)
    }
    # Of three tracks of one person the last follows the second, though the first fits it too.
    pairs = [(a, b) for a, b in able if not any((a, k) in able and (k, b) in able for k in count)]
    before = {
        later: first
        for first, later in pairs
        if sum(first == a for a, _ in pairs) == 1 and sum(later == b for _, b in pairs) == 1
    }
    whole: dict[int, ImportedPerson] = {}
    root: dict[int, int] = {}
    for k, one in enumerate(tracks):  # in order of time, so what went before is whole already
        root[k] = root[before[k]] if k in before else k
        whole[root[k]] = _joined(whole[root[k]], one) if k in before else one
    return list(whole.values())


def _frames(sequence: Sequence) -> np.ndarray:
    assert sequence.frame_indices is not None, "a Sequence always has frame_indices"
    return sequence.frame_indices


def _may_go_on(first: Sequence, later: Sequence, shares_world: bool) -> bool:
    """Whether the later track may be the first one's person."""
    gap_s = (_frames(later)[0] - _frames(first)[-1]) / first.mocap_framerate
    return (
        0 < gap_s <= _LONGEST_S
        and _is_alike(first, later, shares_world)
        and _is_near(first, later, float(gap_s))
        and _has_its_pose(first, later)
        and _has_its_shape(first, later)
    )


def _is_alike(first: Sequence, later: Sequence, shares_world: bool) -> bool:
    """Whether both are motions of one model, seen by one camera, in one world."""
    names = ("model_type", "gender", "image_size", "world", "mocap_framerate")
    if any(getattr(first, name) != getattr(later, name) for name in names):
        return False
    if any((first.times is None) != (one.times is None) for one in (first, later)):
        return False
    cameras = (first.world_to_camera, later.world_to_camera)
    if cameras[0] is None or cameras[1] is None:
        return cameras[0] is cameras[1] and first.world == "camera"
    are_still = cameras[0].ndim == cameras[1].ndim == 2
    return shares_world or (are_still and np.allclose(cameras[0], cameras[1]))


def _places(sequence: Sequence, rows: slice) -> Array:
    """(N, 3) in the camera's frame, metres."""
    trans = sequence.trans[rows].astype(np.float64)
    cameras = sequence.world_to_camera
    if cameras is None:
        return trans
    chosen = cameras[rows] if cameras.ndim == 3 else cameras[None]
    return (chosen[:, :3, :3] @ trans[..., None])[..., 0] + chosen[:, :3, 3]


def _is_near(first: Sequence, later: Sequence, gap_s: float) -> bool:
    last = _places(first, slice(-_HEADING_FRAMES, None))
    spent = (_frames(first)[-1] - _frames(first)[-len(last)]) / first.mocap_framerate
    heading = (last[-1] - last[0]) * gap_s / spent if spent > 0 else np.zeros(3)
    way = _places(later, slice(0, 1))[0] - last[-1]
    along = heading @ way / max(float(heading @ heading), 1e-12)
    off = way - np.clip(along, 0.0, 1.0) * heading
    across = float(np.hypot(off[0], off[1]))
    return across <= _ACROSS_M + _ACROSS_M_PER_S * gap_s and (
        abs(off[2]) <= _ALONG_SHARE * abs(last[-1, 2])
    )


def _has_its_pose(first: Sequence, later: Sequence) -> bool:
    rotations = rotvec_to_matrix(np.stack([first.poses[-1], later.poses[0]]).astype(np.float64))
    for k, sequence, row in ((0, first, -1), (1, later, 0)):
        cameras = sequence.world_to_camera
        if cameras is not None:
            camera = cameras[row] if cameras.ndim == 3 else cameras
            rotations[k, 0] = camera[:3, :3] @ rotations[k, 0]
    turns = np.linalg.norm(matrix_to_rotvec(np.swapaxes(rotations[0], 1, 2) @ rotations[1]), axis=1)
    return bool(turns[0] <= _ROOT_RAD and turns[1:].mean() <= _JOINTS_RAD)


def _has_its_shape(first: Sequence, later: Sequence) -> bool:
    means = [np.atleast_2d(one.betas).mean(0) for one in (first, later)]
    if means[0].shape != means[1].shape:
        return False
    return bool(np.sqrt(np.square(means[0] - means[1]).mean()) <= _BETAS)


def _joined(first: ImportedPerson, later: ImportedPerson) -> ImportedPerson:
    start, stop = int(_frames(first.sequence)[-1]) + 1, int(_frames(later.sequence)[0])
    gap = f"{stop - start} frames" if stop > start else "no frame"
    note = (
        f"{later.label or 'a track'} from frame {stop} on is taken for {first.label or 'this one'} "
        f"after {gap} without them: place, pose and shape agree"
    )
    sequence = first.sequence.replace(
        **{
            name: joined
            for name in _FIELDS
            if (joined := _rows_of_both(name, first.sequence, later.sequence)) is not None
        }
    )
    notes = [*first.notes, *(one for one in later.notes if one not in first.notes), note]
    return replace(first, sequence=sequence, notes=tuple(notes))


_FIELDS = {
    "poses": 2, "trans": 1, "betas": 1, "expression": 1, "times": 0, "frame_indices": 0,
    "intrinsics": 2, "world_to_camera": 2,
}  # fmt: skip
"""What has a row a frame, and the rank of a row."""


def _rows_of_both(name: str, first: Sequence, later: Sequence) -> Any:
    """Rows of both tracks; one row for all where both have the same, as for still cameras."""
    values = [getattr(one, name) for one in (first, later)]
    if any(value is None for value in values):
        return None
    rank = _FIELDS[name]
    if all(value.ndim == rank for value in values) and np.allclose(*values):
        return values[0]
    return np.concatenate(
        [
            value if value.ndim > rank else np.tile(value, (len(one), *(1,) * rank))
            for value, one in zip(values, (first, later), strict=True)
        ]
    )
