# SPDX-License-Identifier: Apache-2.0
"""Numbers out of a file's entries, with sentences where they are not what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from posefit_shared.rotations import matrix_from_6d, matrix_to_rotvec
from posefit_shared.skeleton import MODEL_JOINT_COUNTS

from .person import ImporterError

__all__ = ["Array", "entry", "first_of", "frame_numbers", "full_pose", "numbers", "one_shape",
           "rotation_vectors", "word"]  # fmt: skip

Array = npt.NDArray[np.float64]
_GENDERS = {"m": "male", "f": "female", "n": "neutral"}


def entry(data: Any, key: Any, where: str) -> Any:
    """One entry of a dictionary.

    Args:
        data: the dictionary.
        key: which entry.
        where: what the dictionary is, for the message.

    Raises:
        ImporterError: it is not there.
    """
    if not isinstance(data, Mapping) or key not in data:
        has = ", ".join(sorted(map(str, data))) if isinstance(data, Mapping) else "no entries"
        raise ImporterError(
            f"{where} lacks {key!r} (it has {has[:300]}): check that it is the file as the tool "
            "writes it"
        )
    return data[key]


def first_of(data: Mapping[Any, Any], names: Iterable[str]) -> Any:
    """The first of several entries that is there and not None; None without any."""
    return next((data[name] for name in names if data.get(name) is not None), None)


def numbers(value: Any, shape: tuple[int, ...], name: str) -> Array:
    """Finite numbers of a stated shape.

    Args:
        value: what the file holds; axes of length 1 may be missing or too many.
        shape: expected shape; −1 fits any length.
        name: of the entry, for the message.

    Raises:
        ImporterError: other numbers, or none.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ImporterError(f"{name} holds no numbers ({error}): check the file") from error
    if not _fits(array.shape, shape):
        known = int(np.prod([n for n in shape if n != -1]))
        if shape.count(-1) <= 1 and array.size and array.size % max(known, 1) == 0:
            squeezed = array.reshape(shape)
            if _squeezed(squeezed.shape) == _squeezed(array.shape):
                array = squeezed
    if not _fits(array.shape, shape):
        words = ", ".join("any" if n == -1 else str(n) for n in shape)
        raise ImporterError(f"{name} is {array.shape}, expected ({words}): check the file")
    if not np.isfinite(array).all():
        raise ImporterError(f"{name} holds NaN or infinity, expected finite numbers")
    return array


def rotation_vectors(value: Any, joints: int, name: str) -> Array:
    """(T, joints, 3) rotation vectors from vectors, matrices or the first two columns of matrices.

    Args:
        value: with 3, 9 or 6 numbers a joint, in any arrangement of axes.
        joints: how many joints; −1 finds out from the second axis, or from 3 numbers a joint.
        name: of the entry, for the message.

    Raises:
        ImporterError: it has other numbers.
    """
    array = _finite(value, name)
    if array.ndim == 4 and array.shape[2:] == (3, 3):
        joints = array.shape[1] if joints == -1 else joints
    elif joints == -1 and array.ndim == 3:
        joints = array.shape[1]
    elif joints == -1 and array.ndim == 2 and array.shape[1] % 3 == 0:
        joints = array.shape[1] // 3
    frames = len(array) if array.ndim > 1 else 1
    per_joint = array.size / max(frames * joints, 1)
    if joints < 1 or frames < 1 or per_joint not in (3, 6, 9):
        raise ImporterError(
            f"{name} is {array.shape}, expected rotations of {max(joints, 1)} joints in each frame "
            "(3 numbers as vectors, 9 as matrices, or 6)"
        )
    if per_joint == 3:
        return array.reshape(frames, joints, 3)
    try:
        if per_joint == 6:
            return matrix_to_rotvec(matrix_from_6d(array.reshape(frames, joints, 6)))
        return matrix_to_rotvec(array.reshape(frames, joints, 3, 3))
    except ValueError as error:
        raise ImporterError(f"{name} holds no rotations ({error}): check the file") from error


def full_pose(root: Array, body: Array, model_type: str) -> Array:
    """(T, J, 3) of a model from its root (T, 1, 3) and its first body joints; the rest is zero."""
    pose = np.zeros((len(root), MODEL_JOINT_COUNTS[model_type], 3))
    kept = min(
        body.shape[1], MODEL_JOINT_COUNTS[model_type] - 1, 23 if model_type == "smpl" else 21
    )
    pose[:, 0], pose[:, 1 : 1 + kept] = root[:, 0], body[:, :kept]
    return pose


def one_shape(betas: Array) -> Array:
    """(N,) where every frame has the same betas, otherwise (T, N) as they are."""
    if betas.ndim == 2 and (len(betas) == 1 or np.ptp(betas, axis=0).max(initial=0.0) < 1e-6):
        return betas[0]
    return betas


def frame_numbers(value: Any, frames: int, name: str) -> npt.NDArray[np.int64]:
    """(T,) whole frame numbers.

    Raises:
        ImporterError: they are negative, no whole numbers, or too many.
    """
    array = np.rint(numbers(value, (frames,), name)).astype(np.int64)
    if len(array) and (array.min() < 0 or array.max() > 1 << 31):
        raise ImporterError(f"{name} holds frame {array.min()} to {array.max()}: check the file")
    return array


def word(value: Any, default: str = "") -> str:
    """Text that may lie in an array; genders written out."""
    array = np.asarray(value)
    item = array.reshape(-1)[0] if array.size else default
    text = item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
    return _GENDERS.get(text.lower(), text)


def _finite(value: Any, name: str) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ImporterError(f"{name} holds no numbers ({error}): check the file") from error
    if not np.isfinite(array).all():
        raise ImporterError(f"{name} holds NaN or infinity, expected finite numbers")
    return array


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        want in (-1, have) for have, want in zip(shape, wanted, strict=True)
    )


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
