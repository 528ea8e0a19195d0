# SPDX-License-Identifier: Apache-2.0
"""Results of SPIN: the `.npz` of `eval.py --result_file`, a row a picture of a data set.

`pose` (72 numbers), `betas`, `camera` ([s, tx, ty], weak perspective) and `pred_joints`.
SPIN sees crops of 224 pixels and never says where they were cut from, so the camera is the crop's:
with the pinhole of 5000 pixels that SPIN draws with.

Source: eval.py, demo.py and constants.py of github.com/nkolot/SPIN.
"""

from __future__ import annotations

import numpy as np

from .building import Motion
from .cameras import IN_CAMERA, pinhole
from .content import Content
from .fields import numbers, rotation_vectors
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = ["read_spin", "recognises_spin"]

FOCAL, CROP = 5000.0, 224


def recognises_spin(content: Content) -> bool:
    """Whether a file is SPIN's table."""
    return content.has("pose", "betas", "camera", "pred_joints")


def read_spin(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """All rows of a file, as one person.

    Raises:
        ImporterError: an entry is not as SPIN writes it, or the footage is not its crops.
    """
    data = content.data
    poses = rotation_vectors(data["pose"], 24, "pose")
    count = len(poses)
    weak = numbers(data["camera"], (count, 3), "camera")
    if options.image_size not in (None, (CROP, CROP)):
        width, height = options.image_size
        raise ImporterError(
            f"SPIN's file does not say where its crops of {CROP} × {CROP} pixels lie in pictures "
            f"of {width} × {height}: give the crops themselves as footage, or none"
        )
    focal = options.focal_px or FOCAL
    motion = Motion(
        poses=poses,
        trans=np.column_stack([weak[:, 1:], 2 * focal / (CROP * weak[:, 0] + 1e-9)]),
        betas=numbers(data["betas"], (count, 10), "betas"),
        label="all rows",
        intrinsics=pinhole(focal, (CROP, CROP)),
        world_to_camera=IN_CAMERA,
        image_size=(CROP, CROP),
        notes=(
            "SPIN's camera is that of its crops of 224 × 224 pixels; where these lie in the "
            "pictures is not in the file",
            "rows are taken for frames of one person in order: SPIN's file names neither",
        ),
    )
    return [motion.person(0, options)]
