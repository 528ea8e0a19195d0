# SPDX-License-Identifier: Apache-2.0
"""Results of tools that look at crops: VIBE and PARE (joblib, a person each), and PyMAF-X.

VIBE and PARE: a dictionary of people with `pose` (72 numbers, or 24 matrices), `betas`, `pred_cam`
[s, tx, ty] in the crop, `bboxes` [cx, cy, h, …] and `orig_cam` [sx, sy, tx, ty], the same
weak-perspective camera on the whole picture, which is what they draw with. The picture's size
follows from the two cameras. Their networks were trained with a pinhole of 5000 pixels on a crop
of 224: the camera here has that perspective for a crop of the usual size.

PyMAF-X: one table with a row a detection, `smplx_params` in batches, and `orig_cam_t`, the
translation before a pinhole of 5000 pixels on the whole picture. Its person ids name detections.

Source: demo.py and lib/utils/demo_utils.py (`convert_crop_cam_to_orig_img`) of
    github.com/mkocabas/VIBE; pare/core/tester.py of github.com/mkocabas/PARE; apps/demo_smplx.py
    and models/pymaf_net.py of github.com/HongwenZhang/PyMAF (branch smplx).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .building import Motion, person_number
from .cameras import IN_CAMERA, pinhole
from .content import Content
from .fields import Array, entry, frame_numbers, full_pose, numbers, rotation_vectors
from .linking import link_places
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = ["read_crops", "read_pymafx", "recognises_crops", "recognises_pymafx"]

FOCAL_OF_224 = 5000.0
"""Focal length for a crop of 224 pixels."""
PYMAFX_FOCAL = 5000.0
_KEYS = {"pred_cam", "orig_cam", "pose", "betas", "bboxes", "frame_ids"}
_X_PARTS = (
    ("jaw_pose", 22, 1), ("leye_pose", 23, 1), ("reye_pose", 24, 1),
    ("left_hand_pose", 25, 15), ("right_hand_pose", 40, 15),
)  # fmt: skip


def recognises_crops(content: Content) -> bool:
    """Whether a file holds people as VIBE and PARE write them."""
    data = content.data
    return isinstance(data, dict) and any(
        isinstance(one, dict) and set(one) >= _KEYS for one in data.values()
    )


def read_crops(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a file of VIBE or PARE.

    Raises:
        ImporterError: an entry is not as they write it.
    """
    people = {key: one for key, one in content.data.items() if isinstance(one, dict)}
    sides = np.concatenate([_sides(one) for one in people.values()])
    focal = options.focal_px or FOCAL_OF_224 * float(np.median(sides)) / 224
    size = options.image_size or _picture_size(list(people.values()))
    return [
        _crop_person(key, one, k, focal, size, options)
        for k, (key, one) in enumerate(people.items())
    ]


def _crop_person(
    key: Any, data: Any, position: int, focal: float, size: tuple[int, int], options: ImportOptions
) -> ImportedPerson:
    name = f"person {key}"
    poses = rotation_vectors(entry(data, "pose", name), 24, "pose")
    count = len(poses)
    camera = numbers(entry(data, "orig_cam", name), (count, 4), "orig_cam")
    depth = 2 * focal / (camera[:, 0] * size[0])
    motion = Motion(
        poses=poses,
        trans=np.column_stack([camera[:, 2:], depth]),
        betas=numbers(entry(data, "betas", name), (count, 10), "betas"),
        label=name,
        frames=frame_numbers(entry(data, "frame_ids", name), count, "frame_ids"),
        intrinsics=pinhole(focal, size),
        world_to_camera=IN_CAMERA,
        image_size=size,
        notes=(
            f"the weak-perspective camera became a pinhole of {focal:.0f} px that agrees with it "
            "in the plane of the body's origin; distances follow the focal length (--focal)",
        ),
    )
    return motion.person(person_number(key, position), options)


def _sides(data: Any) -> Array:
    boxes = np.asarray(entry(data, "bboxes", "the person"), np.float64)
    if boxes.ndim != 2 or boxes.shape[1] < 3 or not len(boxes) or not np.isfinite(boxes).all():
        raise ImporterError(f"bboxes is {boxes.shape}, expected rows of [cx, cy, size]")
    return boxes[:, 2]


def _picture_size(people: list[Any]) -> tuple[int, int]:
    """Width and height for which the crops' cameras are those of the whole picture."""
    ratios = []
    for data in people:
        scale = np.asarray(data["pred_cam"], np.float64)[:, 0] * _sides(data)
        ratios.append(scale[:, None] / np.asarray(data["orig_cam"], np.float64)[:, :2])
    width, height = np.rint(np.median(np.concatenate(ratios), axis=0))
    if not (1 <= width <= 65535 and 1 <= height <= 65535):
        raise ImporterError(
            f"pred_cam, orig_cam and bboxes belong to pictures of {width:.0f} x {height:.0f} "
            "pixels, which is no size: give the footage (--footage)"
        )
    return int(width), int(height)


def recognises_pymafx(content: Content) -> bool:
    """Whether a file is PyMAF-X's table."""
    return content.has("orig_cam_t", "smplx_params", "person_ids", "frame_ids")


def read_pymafx(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a file of PyMAF-X.

    Raises:
        ImporterError: an entry is not as it writes it.
    """
    data = content.data
    parameters = _batches(data["smplx_params"])
    frames = np.asarray(data["frame_ids"]).reshape(-1)
    count = len(frames)
    frames = frame_numbers(frames, count, "frame_ids")
    body = rotation_vectors(_part(parameters, "body_pose", count), -1, "body_pose")
    if body.shape[1] < 22:
        raise ImporterError(f"body_pose has {body.shape[1]} joints, expected SMPL's 24")
    poses = full_pose(body[:, :1], body[:, 1:22], "smplx")
    for key, first, joints in _X_PARTS:
        if key in parameters:
            part = rotation_vectors(_part(parameters, key, count), joints, key)
            poses[:, first : first + joints] = part
    trans = numbers(data["orig_cam_t"], (count, 3), "orig_cam_t")
    size = options.image_size or _size_of_translations(data, trans)
    places = trans / trans[:, 2:] * PYMAFX_FOCAL / max(size)
    people = np.array(link_places(frames.tolist(), places[:, :2], farthest=0.1))
    motion = Motion(
        poses=poses,
        trans=trans,
        betas=numbers(_part(parameters, "shape", count), (count, 10), "shape"),
        label="",
        frames=frames,
        intrinsics=pinhole(PYMAFX_FOCAL, size),
        world_to_camera=IN_CAMERA,
        image_size=size,
        model_type="smplx",
        expression=_part(parameters, "expression", count) if "expression" in parameters else None,
        notes=("PyMAF-X's ids name detections: people were linked from frame to frame by place",),
    )
    return [_some(motion, people == one, int(one), options) for one in np.unique(people)]


def _some(motion: Motion, rows: np.ndarray, number: int, options: ImportOptions) -> ImportedPerson:
    frames, expression = motion.frames, motion.expression
    return motion.person(
        number, options, poses=motion.poses[rows], trans=motion.trans[rows],
        betas=motion.betas[rows], frames=None if frames is None else frames[rows],
        expression=None if expression is None else expression[rows], label=f"person {number}",
    )  # fmt: skip


def _batches(batches: Any) -> dict[str, Array]:
    """Parameters of all rows, from a list of batches."""
    if not isinstance(batches, list) or not all(isinstance(one, dict) for one in batches):
        raise ImporterError("smplx_params is no list of batches: check the file")
    keys = set.intersection(*(set(one) for one in batches)) if batches else set()
    return {
        key: np.concatenate([np.asarray(one[key], np.float64) for one in batches]) for key in keys
    }


def _part(parameters: dict[str, Array], key: str, count: int) -> Array:
    values = entry(parameters, key, "smplx_params")
    if len(values) != count:
        raise ImporterError(f"{key} has {len(values)} rows, expected {count} as frame_ids has")
    return values


def _size_of_translations(data: Any, trans: Array) -> tuple[int, int]:
    """Width and height from how far crops are off the picture's middle."""
    count = len(trans)
    weak = numbers(entry(data, "pred_cam", "the file"), (count, 3), "pred_cam")
    boxes = np.asarray(entry(data, "bboxes", "the file"), np.float64)
    if boxes.shape[:1] != (count,) or boxes.shape[-1] < 2:
        raise ImporterError(f"bboxes is {boxes.shape}, expected rows of [cx, cy, …]")
    off_middle = (trans[:, :2] - weak[:, 1:]) * PYMAFX_FOCAL / trans[:, 2:]
    width, height = np.rint(np.median(2 * (boxes[:, :2] - off_middle), axis=0))
    if not (1 <= width <= 65535 and 1 <= height <= 65535):
        raise ImporterError("the picture's size cannot be worked out: give the footage (--footage)")
    return int(width), int(height)
