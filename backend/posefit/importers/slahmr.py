# SPDX-License-Identifier: Apache-2.0
"""Results of SLAHMR: `…_world_results.npz`, everybody in one file.

`trans`, `root_orient` (B, T, 3), `pose_body` (B, T, 63) and `betas` (B, 16) of SMPL-H, `cam_R` and
`cam_t` (B, T, …) world to camera, `intrins` (fx, fy, cx, cy). The world is the one of the SLAM
cameras; where up is, its floor says, which is left out here. `track_info.json` in one of the
folders above says in which frames each track was seen.

Source: slahmr/optim/base_scene.py, slahmr/optim/output.py, slahmr/optim/params.py,
    slahmr/data/dataset.py and slahmr/vis/output.py of github.com/vye16/slahmr.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .building import Motion, person_number
from .cameras import rigid
from .content import Content
from .fields import full_pose, numbers, rotation_vectors
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = ["read_slahmr", "recognises_slahmr"]


def recognises_slahmr(content: Content) -> bool:
    """Whether a file is SLAHMR's."""
    return content.has("trans", "root_orient", "pose_body", "cam_R", "cam_t", "intrins")


def read_slahmr(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a file.

    Raises:
        ImporterError: an entry is not as SLAHMR writes it.
    """
    data = content.data
    trans = numbers(data["trans"], (-1, -1, 3), "trans")
    people, count = trans.shape[:2]
    fx, fy, cx, cy = numbers(np.reshape(data["intrins"], (-1, 4))[0], (4,), "intrins")
    lens = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    size = options.image_size or (round(2 * cx), round(2 * cy))
    rotations = numbers(np.reshape(data["cam_R"], (-1, count, 3, 3))[0], (count, 3, 3), "cam_R")
    places = numbers(np.reshape(data["cam_t"], (-1, count, 3))[0], (count, 3), "cam_t")
    cameras = rigid(rotations, places)
    roots = numbers(data["root_orient"], (people, count, 3), "root_orient")
    bodies = np.reshape(data["pose_body"], (people, count, -1))
    betas = numbers(data["betas"], (people, -1), "betas") if "betas" in data else None
    tracks, first = _tracks(content.path, people)
    imported = []
    for k in range(people):
        seen = tracks[k][1] if tracks else np.ones(count, bool)
        seen = _inside(seen, first[0], count)
        body = rotation_vectors(bodies[k], 21, "pose_body")
        poses = full_pose(roots[k][:, None], body, "smplh")
        label = f"track {tracks[k][0] if tracks else k}"
        motion = Motion(
            poses=poses[seen], trans=trans[k][seen],
            betas=np.zeros(10) if betas is None else betas[k], label=label,
            frames=np.arange(count)[seen] + sum(first), intrinsics=lens,
            world_to_camera=cameras[seen], image_size=size, model_type="smplh",
            notes=_notes(bool(tracks)),
        )  # fmt: skip
        number = person_number(tracks[k][0] if tracks else None, k)
        imported.append(motion.person(number, options))
    return imported


def _notes(has_tracks: bool) -> tuple[str, ...]:
    notes = ("SMPL-H with hands at rest; the estimated floor was left out, so up is unknown",)
    if has_tracks:
        return notes
    return (*notes, "no track_info.json: everybody is taken to be there in every frame, from 0")


def _tracks(path: Path, people: int) -> tuple[list[tuple[Any, np.ndarray]], tuple[int, int]]:
    """Each track's name and the frames in which it was seen; where frames begin."""
    folders = (path.parent, path.parent.parent, path.parent.parent.parent)
    file = next((f / "track_info.json" for f in folders if (f / "track_info.json").is_file()), None)
    if file is None:
        return [], (0, 0)
    try:
        info = json.loads(file.read_text("utf-8"))
        meta = info["meta"]
        ordered = sorted(info["tracks"].items(), key=lambda item: int(item[1]["index"]))
        tracks = [(name, np.array(one["vis_mask"], bool)) for name, one in ordered]
        first = (int(meta["seq_interval"][0]), int(meta["data_interval"][0]))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ImporterError(f"{file} is not as SLAHMR writes it ({error}): check it") from error
    if len(tracks) != people:
        raise ImporterError(f"{file} names {len(tracks)} tracks, the results have {people}")
    return tracks, first


def _inside(seen: np.ndarray, first: int, count: int) -> np.ndarray:
    """Frames from a track's first sighting to its last; SLAHMR fills those between."""
    seen = seen[first : first + count] if len(seen) != count else seen
    places = np.flatnonzero(seen)
    inside = np.zeros(count, bool)
    if len(places):
        inside[places[0] : places[-1] + 1] = True
    return inside
