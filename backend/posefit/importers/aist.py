# SPDX-License-Identifier: Apache-2.0
"""Motions of AIST++: `motions/NAME.pkl`, and the cameras of its annotations where they lie beside.

`smpl_poses` (T, 72), `smpl_trans` (T, 3) and one `smpl_scaling`: what is seen is the body of SMPL's
male model, scaled by it and moved, in centimetres. Dividing by the scaling gives metres of that
body. The world is y-up; frames are at 60 a second. `cameras/mapping.txt` names the setting of a
motion, `cameras/SETTING.json` its nine cameras; the first is taken.

Source: aist_plusplus/loader.py, demos/run_vis.py, processing/run_estimate_smpl.py of
    github.com/google/aistplusplus_api; that y is up: dataset/dance_dataset.py of
    github.com/Stanford-TML/EDGE.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from posefit_shared.frames import YUP_TO_ZUP
from posefit_shared.rotations import rotvec_to_matrix

from .building import Motion
from .cameras import rigid
from .content import Content
from .fields import entry, numbers, rotation_vectors
from .person import ImportedPerson, ImporterError, ImportOptions
from .worlds import turned

__all__ = ["read_aist", "recognises_aist"]

FRAME_RATE = 60.0
CAMERA = "c01"
"""The view that the file's motion is given, where the cameras are there."""


def recognises_aist(content: Content) -> bool:
    """Whether a file holds a motion of AIST++."""
    return content.has("smpl_poses", "smpl_scaling", "smpl_trans")


def read_aist(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The dancer of a file.

    Raises:
        ImporterError: an entry is not as AIST++ has it.
    """
    data = content.data
    poses = rotation_vectors(data["smpl_poses"], 24, "smpl_poses")
    scaling = float(numbers(data["smpl_scaling"], (1,), "smpl_scaling")[0])
    if scaling <= 0:
        raise ImporterError(f"smpl_scaling is {scaling}, expected more than 0: check the file")
    notes = [f"centimetres became metres of SMPL's male body (divided by {scaling:.2f})"]
    camera = _camera(content.path, scaling)
    if camera:
        notes.append(f"the camera is {CAMERA} of nine")
    else:
        notes.append("no camera: cameras/ of the annotations is not beside motions/")
    motion = Motion(
        poses=poses,
        trans=numbers(data["smpl_trans"], (len(poses), 3), "smpl_trans") / scaling,
        betas=np.zeros(10),
        label=content.path.stem,
        gender="male",
        frame_rate=FRAME_RATE,
        notes=tuple(notes),
        **camera,
    )
    person = motion.person(0, options)
    return [dataclasses.replace(person, sequence=turned(person.sequence, YUP_TO_ZUP, options))]


def _camera(path: Path, scaling: float) -> dict[str, Any]:
    folder = path.parent.parent / "cameras"
    mapping = folder / "mapping.txt"
    if not mapping.is_file():
        return {}
    settings = dict(line.split()[:2] for line in mapping.read_text("utf-8").splitlines() if line)
    if path.stem not in settings:
        return {}
    file = folder / f"{settings[path.stem]}.json"
    try:
        cameras = json.loads(file.read_text("utf-8"))
        camera = next(one for one in cameras if one.get("name") == CAMERA)
    except (OSError, ValueError, AttributeError, TypeError, StopIteration) as error:
        raise ImporterError(
            f"{file} has no camera {CAMERA} ({error}): take the cameras of AIST++'s annotations"
        ) from error
    rotation = numbers(entry(camera, "rotation", CAMERA), (3,), "rotation")
    translation = numbers(entry(camera, "translation", CAMERA), (3,), "translation")
    width, height = numbers(entry(camera, "size", CAMERA), (2,), "size")
    return {
        "intrinsics": numbers(entry(camera, "matrix", CAMERA), (3, 3), "matrix"),
        "world_to_camera": rigid(rotvec_to_matrix(rotation), translation / scaling),
        "distortion": numbers(entry(camera, "distortions", CAMERA), (5,), "distortions"),
        "image_size": (int(width), int(height)),
    }
