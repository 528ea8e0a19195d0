# SPDX-License-Identifier: Apache-2.0
"""Tracks of PHALP, as 4D-Humans and TokenHMR write them: `results/demo_NAME.pkl` (joblib).

A dictionary of frames; each has `time`, and lists with an entry a person: `tid`, `tracked_time`
(0 where the person was seen, more where the track only waits), `smpl` (rotation matrices), `size`
(height, width) and `camera`, the body's translation before a camera of 5000 pixels on a picture
that was padded to a square and brought to 256 pixels.

Source: phalp/trackers/PHALP.py, phalp/models/hmar/hmar.py (`get_3d_parameters`) of
    github.com/brjathu/PHALP; tokenhmr/track.py of github.com/saidwivedi/TokenHMR.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from .building import Motion, person_number
from .cameras import IN_CAMERA, pinhole
from .content import Content
from .fields import Array, entry, full_pose, numbers, rotation_vectors
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = ["read_phalp", "recognises_phalp"]

FOCAL_OF_256 = 5000.0
"""Focal length for the square of 256 pixels."""
_NOTE = (
    "the camera is PHALP's: a far one with a long lens (5000 px on 256), so distances are the "
    "tool's assumption"
)


def recognises_phalp(content: Content) -> bool:
    """Whether a file holds frames with tracks."""
    return content.kind == "pickle" and bool(_frames(content.data))


def read_phalp(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The tracks of a file.

    Raises:
        ImporterError: nobody was seen, or an entry is not as PHALP writes it.
    """
    rows: dict[Any, list[tuple[int, Any, int]]] = defaultdict(list)
    for order, frame in enumerate(_frames(content.data)):
        ages = frame.get("tracked_time") or [0] * len(frame["tid"])
        for place, (track, age) in enumerate(zip(frame["tid"], ages, strict=False)):
            if int(age) == 0:
                rows[track].append((int(frame.get("time", order)), frame, place))
    if not rows:
        raise ImporterError(f"{content.path.name} has no tracked people: run the tracker again")
    return [_person(track, found, k, options) for k, (track, found) in enumerate(rows.items())]


def _person(
    track: Any, rows: list[tuple[int, Any, int]], position: int, options: ImportOptions
) -> ImportedPerson:
    name = f"track {track}"
    smpl = [entry(frame, "smpl", name)[place] for _, frame, place in rows]
    roots, bodies = (_rotations(smpl, *one) for one in (("global_orient", 1), ("body_pose", 23)))
    cameras = [entry(frame, "camera", name)[place] for _, frame, place in rows]
    height, width = (
        int(n) for n in numbers(entry(rows[0][1], "size", name)[rows[0][2]], (2,), "size")
    )
    motion = Motion(
        poses=full_pose(roots, bodies, "smpl"),
        trans=numbers(np.stack(cameras), (len(rows), 3), "camera"),
        betas=np.stack([numbers(entry(one, "betas", name), (10,), "betas") for one in smpl]),
        label=name,
        frames=np.array([frame for frame, _, _ in rows]),
        intrinsics=_intrinsics(width, height),
        world_to_camera=IN_CAMERA,
        image_size=(width, height),
        notes=(_NOTE,),
    )
    return motion.person(person_number(track, position), options)


def _intrinsics(width: int, height: int) -> Array:
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    centre = (side / 2 - left, side / 2 - top)
    return pinhole(FOCAL_OF_256 * side / 256, (width, height), centre)


def _rotations(smpl: list[Any], key: str, joints: int) -> Array:
    values = [np.asarray(entry(one, key, "smpl")) for one in smpl]
    if len({value.shape for value in values}) != 1:
        raise ImporterError(f"{key} is not alike in all frames of a track: check the file")
    return rotation_vectors(np.stack(values), joints, key)


def _frames(data: Any) -> list[Any]:
    """Frames in order of time."""
    if not isinstance(data, dict):
        return []
    keys = {"tid", "smpl", "camera"}
    frames = [one for one in data.values() if isinstance(one, dict) and keys <= set(one)]
    return sorted(frames, key=lambda frame: float(frame.get("time", 0)))
