# SPDX-License-Identifier: Apache-2.0
"""One person's landmarks through footage as a value, and its file.

What finds them is `keypoints`; the file lies beside results, so that nobody looks twice.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from posefit_shared.damaged_files import DAMAGED_ARRAYS

from ..footage import FootageError
from .blazepose import MODEL_FILE

__all__ = ["KEYPOINTS", "MASK_SIDE", "Keypoints", "read_keypoints", "write_keypoints"]

KEYPOINTS = 33
"""Landmarks of a person."""
MASK_SIDE = 128
"""Pixels a side of the stored person masks."""


@dataclass(frozen=True)
class Keypoints:
    """BlazePose landmarks of one person, frame by frame; zeros where the person was not found."""

    frame_indices: npt.NDArray[np.int64]
    """(T,) decoded frames of the footage."""
    pixels: npt.NDArray[np.float32]
    """(T, 33, 2) source pixels, lens distortion included."""
    confidence: npt.NDArray[np.float32]
    """(T, 33) 0–1, visibility × presence."""
    world: npt.NDArray[np.float32]
    """(T, 33, 3) metres from the hips' middle, OpenCV camera axes seen straight ahead."""
    person_box: npt.NDArray[np.float32]
    """(T, 4) x0 y0 x1 y1, source pixels."""
    found: npt.NDArray[np.bool_]
    """(T,) whether the person was found."""
    masks: npt.NDArray[np.uint8] | None = None
    """(T, 128, 128) 0–255 person masks, each over its `mask_box`."""
    mask_box: npt.NDArray[np.float32] | None = None
    """(T, 4) the square that each mask covers, source pixels."""

    def __len__(self) -> int:
        return len(self.frame_indices)

    def mask(self, frame: int, size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Person mask (H, W), 0–1, of a frame (index into this object) at `size` (width, height).

        Args:
            frame: index into these keypoints.
            size: width and height of the footage, pixels.
        """
        width, height = size
        if self.masks is None or self.mask_box is None or not self.found[frame]:
            return np.zeros((height, width), np.float32)
        x0, y0, x1, _ = self.mask_box[frame].astype(np.float64)
        scale = (x1 - x0) / MASK_SIDE
        shift = np.array([x0, y0]) + 0.5 * scale - 0.5
        affine = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        mask = self.masks[frame].astype(np.float32) / 255.0
        whole = cv2.warpAffine(mask, affine, (width, height), flags=cv2.INTER_LINEAR)
        return whole.astype(np.float32, copy=False)


def write_keypoints(path: str | os.PathLike[str], keypoints: Keypoints) -> None:
    """Write keypoints to an `.npz`, whole or not at all."""
    path = Path(path)
    arrays = {name: value for name, value in vars(keypoints).items() if value is not None}
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, detector=detector_name(), **arrays)
    partial.replace(path)


def read_keypoints(path: str | os.PathLike[str]) -> Keypoints:
    """Keypoints that `write_keypoints` wrote.

    Raises:
        FootageError: the file is none, or comes from another detector.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        if str(arrays.pop("detector", "")) != detector_name():
            raise FootageError(f"{path.name} comes from another pose detector: delete it")
        return Keypoints(**arrays)
    except FootageError:
        raise
    except DAMAGED_ARRAYS as error:
        raise FootageError(f"{path.name} holds no keypoints ({error}): delete it") from error


def detector_name() -> str:
    """Name of the detector with a hash of its networks, so that stale keypoints are known."""
    with MODEL_FILE.open("rb") as file:
        return "blazepose-full-" + hashlib.file_digest(file, "sha256").hexdigest()[:12]
