# SPDX-License-Identifier: Apache-2.0
"""Arrays of a sequence file, in the forms and under the names that tools write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import rotations
from .skeleton import model_type_from_joint_count

__all__ = [
    "SequenceError",
    "finite_array",
    "fits",
    "model_type_of",
    "read_poses",
    "read_translation",
    "read_word",
    "shape_words",
]


class SequenceError(ValueError):
    """A sequence or shot that cannot be read or made; the message says what to do."""


def read_poses(data: dict[str, np.ndarray]) -> np.ndarray:
    """Rotation vectors (T, J, 3) under whichever names and in whichever form a file has them.

    Raises:
        SequenceError: there are none, or their parts do not fit each other.
    """
    if "poses" in data:
        return _as_rotvecs(data["poses"], "poses")
    if "global_orient" not in data or "body_pose" not in data:
        raise SequenceError("no poses found: expected poses, or global_orient and body_pose")
    root = _as_rotvecs(data["global_orient"], "global_orient")
    body = _as_rotvecs(data["body_pose"], "body_pose")
    parts = [root, body]
    for name in ("jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose"):
        if name in data:
            parts.append(_as_rotvecs(data[name], name))
    lengths = {len(part) for part in parts}
    if len(lengths) != 1:
        raise SequenceError(f"the pose parts have {sorted(lengths)} frames, expected equal numbers")
    return np.concatenate(parts, axis=1)


def _as_rotvecs(values: np.ndarray, name: str) -> np.ndarray:
    """(T, J, 3) from (T, 3J), (T, J, 3), or rotation matrices (T, J, 3, 3)."""
    if not np.issubdtype(values.dtype, np.number):
        raise SequenceError(f"{name} is of type {values.dtype}, expected numbers")
    if values.ndim == 4 and values.shape[2:] == (3, 3):
        if not np.isfinite(values).all():
            raise SequenceError(f"{name} holds NaN or infinity, expected finite rotations")
        return rotations.matrix_to_rotvec(values)
    if values.ndim == 2 and values.shape[1] % 3 == 0 and values.shape[1] > 0:
        return values.reshape(len(values), values.shape[1] // 3, 3)
    if values.ndim == 3 and values.shape[2] == 3:
        return values
    raise SequenceError(
        f"{name} is {values.shape}, expected (frames, 3·joints), (frames, joints, 3) or "
        "(frames, joints, 3, 3)"
    )


def read_translation(data: dict[str, np.ndarray], frames: int) -> np.ndarray:
    """Translations (T, 3), zeros where a file has none."""
    for name in ("trans", "transl"):
        if name in data:
            return data[name]
    return np.zeros((frames, 3), np.float32)


def finite_array(value: Any, dtype: Any, name: str) -> np.ndarray:
    """An array of a type.

    Raises:
        SequenceError: it is none, or not all of it is finite.
    """
    try:
        array = np.array(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SequenceError(f"{name} is not an array of numbers: {error}") from error
    if not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array))[0][0]) if array.ndim else 0
        raise SequenceError(
            f"{name} holds NaN or infinity (first at frame {bad}), expected finite numbers: "
            "mend or cut those frames"
        )
    return array


def model_type_of(joints: int) -> str:
    """`smpl`, `smplh` or `smplx`, by the number of joints.

    Raises:
        SequenceError: no model has so many.
    """
    try:
        return model_type_from_joint_count(joints)
    except ValueError as error:
        raise SequenceError(str(error)) from error


def fits(shape: tuple[int, ...], allowed: tuple[int, ...]) -> bool:
    """Whether a shape is the allowed one; −1 stands for any number."""
    return len(shape) == len(allowed) and all(
        b in (-1, a) for a, b in zip(shape, allowed, strict=True)
    )


def shape_words(allowed: tuple[tuple[int, ...], ...]) -> str:
    """Shapes as people read them."""

    def one(shape: tuple[int, ...]) -> str:
        return "(" + ", ".join("N" if n == -1 else str(n) for n in shape) + ")"

    return " or ".join(one(shape) for shape in allowed)


def read_word(value: np.ndarray) -> str:
    """A text of a file; empty where it is none."""
    item = value.item() if value.size == 1 else ""
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
