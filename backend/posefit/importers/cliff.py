# SPDX-License-Identifier: Apache-2.0
"""Results of CLIFF: `NAME_cliff_BACKBONE.npz`, a row a detection.

`pose` (72 numbers, or 24 matrices), `shape`, `global_t` (SMPL's translation before a pinhole of
`focal_l`, the picture's diagonal, with the middle as principal point), `detection_all` (picture,
box, …) and `imgname`. There are no person ids, and the picture's size is not stated.

Source: CLIFF/demo.py of github.com/huawei-noah/noah-research.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .building import Motion
from .cameras import IN_CAMERA, pinhole
from .content import Content
from .fields import frame_numbers, numbers, rotation_vectors
from .linking import link_places
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = ["read_cliff", "recognises_cliff"]


def recognises_cliff(content: Content) -> bool:
    """Whether a file is CLIFF's table."""
    return content.has("pose", "shape", "global_t", "focal_l", "detection_all")


def read_cliff(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a file.

    Raises:
        ImporterError: an entry is not as CLIFF writes it.
    """
    data = content.data
    poses = rotation_vectors(data["pose"], 24, "pose")
    count = len(poses)
    boxes = np.asarray(data["detection_all"], np.float64)
    if boxes.ndim != 2 or len(boxes) != count or boxes.shape[1] < 5:
        raise ImporterError(
            f"detection_all is {boxes.shape}, expected {count} rows of [picture, box, …]"
        )
    frames = frame_numbers(boxes[:, 0], count, "detection_all")
    trans = numbers(data["global_t"], (count, 3), "global_t")
    betas = numbers(data["shape"], (count, 10), "shape")
    focals = numbers(data["focal_l"], (count,), "focal_l")
    sides = np.maximum(boxes[:, 3] - boxes[:, 1], boxes[:, 4] - boxes[:, 2])
    middles = (boxes[:, 1:3] + boxes[:, 3:5]) / 2
    people = np.array(link_places(frames.tolist(), middles / max(float(np.median(sides)), 1.0)))
    size = options.image_size or _size_of_pictures(content)
    notes = ["CLIFF has no person ids: people were linked from frame to frame by place"]
    camera = {}
    if size is None:
        notes.append("the file does not say how large the pictures are, so there is no camera: "
                     "give the footage (--footage)")  # fmt: skip
    else:
        camera = {"intrinsics": pinhole(float(np.median(focals)), size), "image_size": size,
                  "world_to_camera": IN_CAMERA}  # fmt: skip
        diagonal = float(np.hypot(*size))
        if abs(diagonal - np.median(focals)) > 2:
            raise ImporterError(
                f"the pictures' diagonal is {diagonal:.0f} px, the file's focal length "
                f"{np.median(focals):.0f}: give the footage that CLIFF saw"
            )
    return [
        Motion(
            poses=poses[rows], trans=trans[rows], betas=betas[rows], frames=frames[rows],
            label=f"person {one}", notes=tuple(notes), **camera,
        ).person(int(one), options)
        for one in np.unique(people)
        for rows in [people == one]
    ]  # fmt: skip


def _size_of_pictures(content: Content) -> tuple[int, int] | None:
    """Size of the first picture that the file names, if it lies there or beside the file."""
    from ..picture_files import PictureError, read_picture

    names = np.asarray(content.data.get("imgname", ())).reshape(-1)
    if not len(names):
        return None
    named = Path(str(names[0]))
    for path in (named, content.path.parent / "imgs" / named.name):
        if path.is_file():
            try:
                return read_picture(path, lambda image: image.size)
            except PictureError:
                continue
    return None
