# SPDX-License-Identifier: Apache-2.0
"""Footage: a video file, a folder of images or one image, as numbered RGB frames.

The first step of the path: everything that looks at pictures asks for decoded frame `i` here,
and frame `i` is the same picture whether it is read in order, at random or twice. Numbering starts
at 0 with the first frame that a player shows. Whose camera it was, or which person, is not known
here.

A footage object keeps a decoder open and belongs to one thread.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .frames import MAX_FRAMES, MAX_SIDE, Footage, FootageError
from .images import IMAGE_SUFFIXES, ImageFootage, images_in, natural_key

__all__ = [
    "MAX_FRAMES",
    "MAX_SIDE",
    "Footage",
    "FootageError",
    "ImageFootage",
    "check_size",
    "natural_key",
    "open_footage",
]


def open_footage(path: str | os.PathLike[str], *, fps: float | None = None) -> Footage:
    """The footage at a path.

    Args:
        path: a video file, a folder of images (in natural name order) or one image.
        fps: frames per second, instead of what the file states (images state none: 30).

    Raises:
        FootageError: nothing there, nothing that can be decoded, or too large.
    """
    path = Path(path)
    if fps is not None and not (np.isfinite(fps) and fps > 0):
        raise FootageError(f"the frame rate given is {fps}, expected more than 0")
    if path.is_dir():
        return ImageFootage(path, images_in(path), fps)
    if not path.is_file():
        raise FootageError(f"no footage at {path}: check the path")
    if path.stat().st_size == 0:
        raise FootageError(f"{path.name} is empty (0 bytes): copy or export it again")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFootage(path, [path], fps)
    from .video import VideoFootage  # PyAV takes its time, and a folder of pictures needs none

    return VideoFootage(path, fps)


def check_size(footage: Footage, image_size: tuple[int, int]) -> None:
    """Make sure that a camera and its footage speak of the same pixels.

    Raises:
        FootageError: the footage's frames are not `image_size` (width, height).
    """
    if tuple(footage.size) != tuple(image_size):
        raise FootageError(
            f"{footage.path.name} is {footage.size[0]}×{footage.size[1]} pixels, but the camera "
            f"is for {image_size[0]}×{image_size[1]}: use the footage that the camera was "
            f"calibrated for, or scale the intrinsics{footage.remark}"
        )
