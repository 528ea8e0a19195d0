# SPDX-License-Identifier: Apache-2.0
"""HumanData of MMHuman3D (`.npz`): data sets in its form, and `inference_result.npz` of its demo.

`smpl` or `smplx` is a dictionary with a row an image (`global_orient`, `body_pose`, `betas`,
`transl`, …). The demo adds `pred_cams` [s, tx, ty] in the crop, `bboxes_xyxy`, `person_id` and
`frame_id`; it draws with a pinhole of 5000 pixels on a crop of 224, whose side is 1.25 times the
longer side of the box. Rows belong together by the folder of `image_path` and by `person_id`.

Source: docs/human_data.md, demo/estimate_smpl.py, mmhuman3d/utils/demo_utils.py
    (`convert_bbox_to_intrinsic`) and mmhuman3d/core/visualization/visualize_smpl.py
    (`visualize_smpl_hmr`) of github.com/open-mmlab/mmhuman3d.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from .building import Motion, person_number
from .cameras import IN_CAMERA, pinhole, weak_to_full
from .content import Content
from .fields import Array, entry, full_pose, numbers, rotation_vectors, word
from .person import ImportedPerson, ImporterError, ImportOptions

__all__ = ["read_human_data", "recognises_human_data"]

FOCAL_OF_224 = 5000.0
BOX_SCALE = 1.25
_NUMBER = re.compile(r"(\d+)\D*$")
_X_PARTS = (
    ("jaw_pose", 22, 1), ("leye_pose", 23, 1), ("reye_pose", 24, 1),
    ("left_hand_pose", 25, 15), ("right_hand_pose", 40, 15),
)  # fmt: skip


def recognises_human_data(content: Content) -> bool:
    """Whether a file is HumanData with a body's parameters."""
    data = content.data
    if not isinstance(data, dict) or not any(isinstance(data.get(k), dict) for k in _MODELS):
        return False
    return any(key in data for key in ("__key_strict__", "image_path", "pred_cams", "bbox_xywh"))


_MODELS = ("smplx", "smpl")


def read_human_data(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The motions of a file, one a person and folder of images.

    Raises:
        ImporterError: an entry is not as HumanData has it.
    """
    data = content.data
    model = next(key for key in _MODELS if isinstance(data.get(key), dict))
    poses, trans, betas, expression = _parameters(data[model], model)
    count = len(poses)
    camera, notes = _camera(data, count, options)
    if camera:
        trans = camera.pop("trans")
    groups, frames = _groups(data, count)
    gender = _gender(data.get("meta"))
    people = []
    for k, label in enumerate(dict.fromkeys(groups)):
        rows = np.array([one == label for one in groups])
        motion = Motion(
            poses=poses[rows], trans=trans[rows], betas=betas[rows], frames=frames[rows],
            label=" ".join(map(str, label)).strip() or content.path.stem, model_type=model,
            gender=gender, notes=notes,
            expression=None if expression is None else expression[rows], **camera,
        )  # fmt: skip
        people.append(motion.person(person_number(label[1], k), options))
    return people


def _parameters(data: Any, model: str) -> tuple[Array, Array, Array, Array | None]:
    root = rotation_vectors(entry(data, "global_orient", model), 1, "global_orient")
    count = len(root)
    joints = 21 if model == "smplx" else 23
    body = rotation_vectors(entry(data, "body_pose", model), joints, "body_pose")
    poses = full_pose(root, body, model)
    if model == "smplx":
        for key, first, number in _X_PARTS:
            value = data.get(key)
            if value is not None and np.asarray(value).size in (3 * number * count,
                                                                 9 * number * count):  # fmt: skip
                poses[:, first : first + number] = rotation_vectors(
                    np.reshape(value, (count, -1)), number, key
                )
    trans = data.get("transl")
    trans = np.zeros((count, 3)) if trans is None else numbers(trans, (count, 3), "transl")
    betas = np.asarray(data.get("betas", np.zeros((1, 10))), np.float64)
    betas = np.broadcast_to(np.atleast_2d(betas), (count, betas.shape[-1]))
    expression = data.get("expression") if model == "smplx" else None
    if expression is not None:
        expression = numbers(np.reshape(expression, (count, -1)), (count, -1), "expression")
    return poses, trans, betas, expression


def _camera(
    data: Any, count: int, options: ImportOptions
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The demo's camera, where the picture's size is known."""
    if "pred_cams" not in data or "bboxes_xyxy" not in data:
        return {}, ("the file has no camera",)
    if options.image_size is None:
        return {}, (
            "the file does not say how large the pictures are, so there is no camera: give the "
            "footage (--footage)",
        )
    weak = numbers(np.stack([np.asarray(c) for c in data["pred_cams"]]), (count, 3), "pred_cams")
    boxes = np.stack([np.asarray(b, np.float64)[:4] for b in data["bboxes_xyxy"]])
    if boxes.shape != (count, 4):
        raise ImporterError(f"bboxes_xyxy is {boxes.shape}, expected ({count}, 4)")
    sides = BOX_SCALE * (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    focal = options.focal_px or FOCAL_OF_224 * float(np.median(sides)) / 224
    middle = np.array(options.image_size) / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    camera = {
        "trans": weak_to_full(weak, centres, sides, focal, middle),
        "intrinsics": pinhole(focal, options.image_size),
        "world_to_camera": IN_CAMERA,
        "image_size": options.image_size,
    }
    return camera, (
        f"the crops' cameras became one pinhole of {focal:.0f} px that agrees with them in the "
        "plane of the body's origin; distances follow the focal length (--focal)",
    )


def _groups(data: Any, count: int) -> tuple[list[tuple[str, Any]], np.ndarray]:
    """What each row belongs to, and its frame."""
    paths = [str(path) for path in np.asarray(data.get("image_path", [""] * count)).reshape(-1)]
    people = np.asarray(data.get("person_id", [""] * count)).reshape(-1).tolist()
    if len(paths) != count or len(people) != count:
        raise ImporterError(
            f"image_path has {len(paths)} and person_id {len(people)} rows, expected {count}"
        )
    folders = [str(PurePosixPath(path).parent) if path else "" for path in paths]
    groups = list(zip(folders, people, strict=True))
    if "frame_id" in data:
        frames = np.asarray(data["frame_id"]).reshape(-1)
        if frames.shape == (count,) and frames.dtype.kind in "iuf":
            return groups, frames.astype(np.int64)
    matches = [_NUMBER.search(PurePosixPath(path).stem) for path in paths]
    frames = [k if match is None else int(match[1]) for k, match in enumerate(matches)]
    places = list(zip(groups, frames, strict=True))
    if len(set(places)) < count:
        return groups, np.arange(count)
    return groups, np.array(frames)


def _gender(meta: Any) -> str:
    value = meta.get("gender") if isinstance(meta, dict) else None
    if value is None or len({str(one) for one in np.asarray(value).reshape(-1)}) != 1:
        return "neutral"
    return word(value, "neutral")
