# SPDX-License-Identifier: Apache-2.0
"""Results of SAM 3D Body: what `process_one_image` gives, a dictionary a person and picture.

Its body, MHR, is another than SMPL, and its parameters mean nothing without it. But each result has
`pred_keypoints_3d`, 70 named points in metres, which with `pred_cam_t` lie before the camera, their
`pred_keypoints_2d` and the `focal_length`. SMPL is solved for from these points: joints come over
to a few millimetres, proportions as betas; MHR's surface, face and (on SMPL) fingers do not.

Files: `.npz` of one result each, alone or in a folder (`…000012…npz`: the first number is the
frame), or one file with a list: of results, or of such lists, a picture each.

Source: sam_3d_body/sam_3d_body_estimator.py, models/heads/mhr_head.py, camera_head.py and
    metadata/mhr70.py of github.com/facebookresearch/sam-3d-body; the `.npz` as in
    tools/mhr_smpl_conversion of github.com/facebookresearch/MHR.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from .building import Motion
from .cameras import IN_CAMERA, fitted_pinhole
from .content import Content, load_content
from .fields import Array, numbers
from .linking import link_places
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = ["read_sam3d", "recognises_sam3d"]

_KEYS = {"pred_keypoints_3d", "pred_keypoints_2d", "pred_cam_t", "focal_length"}
_NUMBER = re.compile(r"\d+")
_BODY = {
    0: "nose", 1: "left_eye", 2: "right_eye", 3: "left_ear", 4: "right_ear", 5: "left_shoulder",
    6: "right_shoulder", 7: "left_elbow", 8: "right_elbow", 9: "left_hip", 10: "right_hip",
    11: "left_knee", 12: "right_knee", 13: "left_ankle", 14: "right_ankle", 15: "left_big_toe",
    16: "left_small_toe", 17: "left_heel", 18: "right_big_toe", 19: "right_small_toe",
    20: "right_heel", 41: "right_wrist", 62: "left_wrist", 69: "neck",
}  # fmt: skip
"""Points of MHR's 70 that the solver knows by name."""
_HANDS = {"right": 21, "left": 42}
"""First point of each hand: five fingers, of each the tip and then its joints towards the palm."""
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def recognises_sam3d(content: Content) -> bool:
    """Whether a file, or a folder of files, holds results of SAM 3D Body."""
    if content.kind == "folder":
        files = sorted(content.path.glob("*.npz"))
        return bool(files) and recognises_sam3d(load_content(files[0]))
    return bool(_frames_of(content.data))


def read_sam3d(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a file or folder.

    Raises:
        ImporterError: nobody was seen, or an entry is not as SAM 3D Body gives it.
        BodyFileError: the body to pose cannot be used.
    """
    rows = _rows(content)
    if not rows:
        raise ImporterError(f"{content.path.name} has no people: SAM 3D Body saw nobody")
    frames = np.array([frame for frame, _ in rows])
    points = np.stack([_points(one) for _, one in rows])
    pixels = np.stack([numbers(one["pred_keypoints_2d"], (70, 2), "pred_keypoints_2d")
                       for _, one in rows])  # fmt: skip
    intrinsics, size = fitted_pinhole(points, pixels, options.image_size)
    size_px = max(float(np.median(np.ptp(pixels, axis=1).max(1))), 1.0)
    people = np.array(link_places(frames.tolist(), pixels.mean(1) / size_px))
    return [
        _person(int(one), frames[people == one], points[people == one], intrinsics, size, options)
        for one in np.unique(people)
    ]


def _person(
    number: int, frames: np.ndarray, points: Array, intrinsics: Array, size: tuple[int, int],
    options: ImportOptions,
) -> ImportedPerson:  # fmt: skip
    from .point_fit import fit_points  # loads torch, which the other formats do without

    _, order = np.unique(frames, return_index=True)
    names = {**_BODY, **_hand_points()}
    fit = fit_points(options.body, tuple(names.values()), points[order][:, list(names)], intrinsics)
    motion = Motion(
        poses=fit.poses, trans=fit.trans, betas=fit.betas, label=f"person {number}",
        frames=frames[order], intrinsics=intrinsics, world_to_camera=IN_CAMERA, image_size=size,
        model_type=fit.model_type,
        notes=(
            "SMPL was solved for from MHR's 70 points, which it meets to "
            f"{1e3 * fit.miss_m:.0f} mm on average: MHR's own surface and face are lost",
            "SAM 3D Body has no person ids: people were linked from picture to picture by place",
        ),
    )  # fmt: skip
    return motion.person(number, options)


def _hand_points() -> dict[int, str]:
    """Fingertips and knuckles, by their place among the 70."""
    return {
        first + 4 * k + place: f"{side}_{finger}_{part}"
        for side, first in _HANDS.items()
        for k, finger in enumerate(_FINGERS)
        for place, part in ((0, "tip"), (3, "knuckle"))
    }


def _points(one: dict[Any, Any]) -> Array:
    """(70, 3) before the camera, metres."""
    shift = numbers(one["pred_cam_t"], (3,), "pred_cam_t")
    points = numbers(one["pred_keypoints_3d"], (70, 3), "pred_keypoints_3d") + shift
    if (points[:, 2] <= 0).any():
        raise ImporterError("a person lies behind the camera: check pred_cam_t")
    return points


def _rows(content: Content) -> list[tuple[int, dict[Any, Any]]]:
    """Each result and its frame."""
    if content.kind != "folder":
        return [(k, one) for k, people in enumerate(_frames_of(content.data)) for one in people]
    rows = []
    for k, path in enumerate(sorted(content.path.glob("*.npz"))):
        frame = _number(path, k)
        rows += [(frame, one) for people in _frames_of(load_content(path).data) for one in people]
    return rows


def _number(path: Path, order: int) -> int:
    match = _NUMBER.search(path.stem)
    return order if match is None else int(match[0])


def _frames_of(data: Any) -> list[list[dict[Any, Any]]]:
    """Results by picture; empty where the data are no such results."""
    if isinstance(data, dict) and set(data) >= _KEYS:
        return [[data]]
    if isinstance(data, np.ndarray) and data.dtype == object:
        data = data.reshape(-1).tolist()
    if isinstance(data, dict) and data:
        data = list(data.values())
    if not isinstance(data, list) or not data:
        return []
    if all(isinstance(one, dict) for one in data):
        return [data] if all(set(one) >= _KEYS for one in data) else []
    pictures = [list(one) if isinstance(one, list | tuple | np.ndarray) else None for one in data]
    known = [one for one in pictures if one is not None]
    people = [one for picture in known for one in picture]
    is_whole = len(known) == len(pictures) and people
    if not is_whole or not all(isinstance(one, dict) and set(one) >= _KEYS for one in people):
        return []
    return known
