# SPDX-License-Identifier: Apache-2.0
"""AMASS, and plain files of SMPL's parameters (.npz, .pkl) under the names that are common.

AMASS: `poses` (T, 156 or 165), `trans`, `betas`, `gender`, `mocap_framerate` (SMPL-H) or
`mocap_frame_rate` (SMPL-X), z up. Plain files have the whole pose under one name, or its parts:
smplx's (`global_orient`, `body_pose`, …) or AMASS's (`root_orient`, `pose_body`, …), as rotation
vectors, matrices or 6 numbers (the first two columns). Where they also have `intrinsics` and
`world_to_camera` they are posefit's own.

Source: https://amass.is.tue.mpg.de; smplx/body_models.py of github.com/vchoutas/smplx; the README
    of github.com/nghorbani/amass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from posefit_shared.sequence import SequenceError, sequence_from_arrays
from posefit_shared.skeleton import MODEL_JOINT_COUNTS

from .building import Motion
from .content import Content
from .fields import Array, first_of, numbers, rotation_vectors, word
from .person import ImportedPerson, ImporterError, ImportOptions
from .worlds import TO_Z_UP, turned

__all__ = ["read_amass", "read_smpl", "recognises_amass", "recognises_smpl"]

_WHOLE = ("poses", "pose", "full_pose", "fullpose", "thetas", "smpl_pose")
_ROOT = ("global_orient", "root_orient")
_BODY = ("body_pose", "pose_body")
_TRANS = ("trans", "transl", "translation", "root_trans")
_BETAS = ("betas", "shape", "beta", "smpl_betas")
_RATE = ("mocap_framerate", "mocap_frame_rate", "fps", "frame_rate", "framerate")
_PARTS = (
    ("jaw", ("jaw_pose", "pose_jaw"), 22, 1),
    ("left eye", ("leye_pose",), 23, 1),
    ("right eye", ("reye_pose",), 24, 1),
    ("eyes", ("pose_eye",), 23, 2),
    ("left hand", ("left_hand_pose",), 25, 15),
    ("right hand", ("right_hand_pose",), 40, 15),
    ("hands", ("pose_hand",), 25, 30),
)
"""Parts beyond the body: their names, first joint in SMPL-X, number of joints."""


def recognises_amass(content: Content) -> bool:
    """Whether a file is AMASS's: a pose of its widths with a rate under its names."""
    if content.kind != "npz" or not content.has("poses"):
        return False
    has_rate = first_of(content.data, ("mocap_framerate", "mocap_frame_rate")) is not None
    return has_rate and np.asarray(content.data["poses"]).shape[-1:] in ((156,), (165,))


def read_amass(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The person of a file.

    Raises:
        ImporterError: the numbers make no sequence.
    """
    arrays = {key: value for key, value in content.data.items() if _is_plain(value)}
    if "gender" in arrays:
        arrays["gender"] = np.array(word(arrays["gender"], "neutral"))
    if "betas" in arrays and np.asarray(arrays["betas"]).ndim == 2:
        arrays["betas"] = np.asarray(arrays["betas"])
    try:
        sequence = sequence_from_arrays(arrays)
    except SequenceError as error:
        raise ImporterError(f"{content.path.name}: {error}") from error
    if options.frame_rate:
        sequence = sequence.replace(mocap_framerate=options.frame_rate)
    if options.up not in ("auto", "z"):
        sequence = turned(sequence, TO_Z_UP[options.up], options)
    notes = () if sequence.has_camera else ("the file has no camera",)
    return [ImportedPerson(sequence, content.path.stem, notes)]


def recognises_smpl(content: Content) -> bool:
    """Whether a file has a whole pose, or root and body, under a common name."""
    data = _body_of(content.data)
    if data is None:
        return False
    whole = first_of(data, _WHOLE)
    if whole is not None and _is_plain(whole) and np.asarray(whole).ndim > 0:
        return True
    return first_of(data, _ROOT) is not None and first_of(data, _BODY) is not None


def read_smpl(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The person of a file.

    Raises:
        ImporterError: the numbers make no sequence, or the pose is in a form that needs a model.
    """
    data = _body_of(content.data)
    if data is None:
        raise ImporterError(
            f"{content.path.name} has no SMPL pose: expected poses or global_orient"
        )
    if "posefit_schema" in data or {"intrinsics", "world_to_camera"} <= set(data):
        return read_amass(content, options)
    notes: list[str] = []
    poses, model_type = _pose(data, notes)
    count = len(poses)
    trans = first_of(data, _TRANS)
    if trans is None:
        notes.append("the file has no translation: the body stays in one place")
    betas = first_of(data, _BETAS)
    expression = first_of(data, ("expression",)) if model_type == "smplx" else None
    rate = first_of(data, _RATE)
    motion = Motion(
        poses=poses,
        trans=np.zeros((count, 3)) if trans is None else numbers(trans, (count, 3), "trans"),
        betas=np.zeros(10) if betas is None else _betas(betas, count),
        label=content.path.stem,
        model_type=model_type,
        gender=word(data.get("gender", "neutral"), "neutral"),
        world="gravity",
        frame_rate=30.0 if rate is None else float(numbers(rate, (1,), "frame rate")[0]),
        expression=None if expression is None else _rows(expression, count),
        notes=(*notes, "the file has no camera", _up_words(options)),
    )
    person = motion.person(0, options)
    if options.up in ("auto", "z"):
        return [person]
    sequence = turned(person.sequence, TO_Z_UP[options.up], options)
    return [ImportedPerson(sequence, person.label, person.notes)]


def _up_words(options: ImportOptions) -> str:
    if options.up == "auto":
        return "the file does not say what is up: z was taken (--up y if the body lies)"
    return f"{options.up} was taken to be up"


def _pose(data: Mapping[str, Any], notes: list[str]) -> tuple[Array, str]:
    """Rotation vectors (T, J, 3) and the model they are for."""
    whole = first_of(data, _WHOLE)
    if whole is not None and (first_of(data, _ROOT) is None or first_of(data, _BODY) is None):
        return _whole_pose(np.asarray(whole), data, notes)
    root = rotation_vectors(first_of(data, _ROOT), 1, "global_orient")
    body_value = np.asarray(first_of(data, _BODY))
    width = body_value.size // max(len(root), 1)
    joints = {63: 21, 126: 21, 189: 21, 69: 23, 138: 23, 207: 23}.get(width)
    if joints is None:
        hint = ", which is VPoser's code and no pose: decode it first" if width == 32 else ""
        raise ImporterError(
            f"body_pose has {width} numbers a frame{hint}; expected rotations of 21 or 23 joints"
        )
    body = rotation_vectors(body_value, joints, "body_pose")
    parts = [(words, first_of(data, names), at, n) for words, names, at, n in _PARTS]
    is_x = any(value is not None for words, value, _, _ in parts if words in _FACE) or word(
        data.get("model_type", data.get("surface_model_type", ""))
    ).startswith("smplx")
    has_hands = any(value is not None for words, value, _, _ in parts if "hand" in words)
    model_type = "smpl" if joints == 23 else "smplx" if is_x else "smplh" if has_hands else "smpl"
    poses = np.zeros((len(root), MODEL_JOINT_COUNTS[model_type], 3))
    poses[:, 0], poses[:, 1 : 1 + joints] = root[:, 0], body
    if model_type != "smpl":
        _put_parts(poses, parts, 0 if model_type == "smplx" else 3, notes)
    return poses, model_type


_FACE = ("jaw", "left eye", "right eye", "eyes")


def _put_parts(poses: Array, parts: list[Any], earlier: int, notes: list[str]) -> None:
    for words, value, first, joints in parts:
        if value is None or (earlier and words in _FACE):
            continue
        size = np.asarray(value).size // len(poses)
        if size not in (3 * joints, 6 * joints, 9 * joints):
            notes.append(
                f"the {words} has {size} numbers a frame, which are coefficients of a model: left "
                "at rest"
            )
            continue
        start = first - earlier
        poses[:, start : start + joints] = rotation_vectors(value, joints, words)


def _whole_pose(whole: np.ndarray, data: Mapping[str, Any], notes: list[str]) -> tuple[Array, str]:
    if whole.ndim == 1:
        whole = whole[None]
    count = int(np.prod(whole.shape[1:]))
    for model_type, joints in MODEL_JOINT_COUNTS.items():
        if count in (3 * joints, 9 * joints, 6 * joints):
            # 165 and 156 numbers are rotation vectors; 144 are 24 joints of 6.
            return rotation_vectors(whole.reshape(len(whole), -1), joints, "poses"), model_type
    if count == 66:
        body = rotation_vectors(whole.reshape(len(whole), -1), 22, "poses")
        poses = np.zeros((len(body), 24, 3))
        poses[:, :22] = body
        notes.append("22 joints became SMPL's 24 with hands at rest")
        return poses, "smpl"
    raise ImporterError(
        f"the pose is {whole.shape}, expected rotations of 24 (SMPL), 52 (SMPL-H) or 55 (SMPL-X) "
        "joints in each frame"
    )


def _betas(value: Any, count: int) -> Array:
    array = np.atleast_2d(numbers(value, np.asarray(value).shape, "betas"))
    array = array.reshape(-1, array.shape[-1])
    if len(array) not in (1, count):
        raise ImporterError(f"betas is {np.asarray(value).shape}, expected one row or {count}")
    return array


def _rows(value: Any, count: int) -> Array:
    array = np.atleast_2d(numbers(value, np.asarray(value).shape, "expression"))
    return np.broadcast_to(array, (count, array.shape[-1])) if len(array) == 1 else array


def _body_of(data: Any) -> Mapping[str, Any] | None:
    """The dictionary of parameters: the file's own, or one under a model's name in it."""
    if not isinstance(data, dict):
        return None
    for key in ("smplx", "smplh", "smpl", "smpl_params", "smplx_params"):
        inner = data.get(key)
        if isinstance(inner, dict) and first_of(inner, (*_WHOLE, *_ROOT)) is not None:
            return inner
    return data


def _is_plain(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | int | float | str | bool) and (
        np.asarray(value).dtype != object
    )
