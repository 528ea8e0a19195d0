# SPDX-License-Identifier: Apache-2.0
"""Images as footage: a folder of them in natural order, or one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..picture_files import PictureError, read_picture
from .frames import DEFAULT_FPS, MAX_FRAMES, Footage, FootageError, RgbImage, check_pixels

__all__ = ["IMAGE_SUFFIXES", "ImageFootage", "images_in", "natural_key"]

_Value = TypeVar("_Value")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Files in a folder that count as frames."""


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, `frame2` before `frame10`.

    Raises:
        FootageError: there are none, or too many.
    """
    images = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    images = [p for p in images if not p.name.startswith(".")]
    if not images:
        raise FootageError(
            f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}): give a video file or a "
            "folder of images"
        )
    if len(images) > MAX_FRAMES:
        raise FootageError(f"{folder} holds {len(images)} images, at most {MAX_FRAMES} are read")
    return sorted(images, key=natural_key)


def natural_key(path: Path) -> list[Any]:
    """A sort key by which `frame2` comes before `frame10`."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in parts]


class ImageFootage(Footage):
    """Images as frames; each is read from its file when asked for."""

    def __init__(self, path: Path, images: list[Path], fps: float | None) -> None:
        self.path = path
        self.fps = fps or DEFAULT_FPS
        self._images = images
        self.size = self._of_picture(images[0], _shown_size)
        check_pixels(images[0].name, *self.size)

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        """The file name of a frame."""
        return self._images[index].name

    def read(self, index: int) -> RgbImage:
        self._check_index(index)
        image = self._of_picture(self._images[index], _to_rgb)
        if image.shape[1::-1] != self.size:
            raise FootageError(
                f"{self._images[index].name} is {image.shape[1]}×{image.shape[0]} pixels, the "
                f"first image is {self.size[0]}×{self.size[1]}: all frames need one size"
            )
        return image

    def _of_picture(self, path: Path, function: Callable[[Image.Image], _Value]) -> _Value:
        try:
            return read_picture(path, function)
        except PictureError as error:
            raise FootageError(
                f"{path.name} cannot be read as an image ({error}): export it again"
            ) from error


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(ExifTags.Base.Orientation, 1) != 1


def _shown_size(image: Image.Image) -> tuple[int, int]:
    """Width and height; of upright pictures without decoding them."""
    return ImageOps.exif_transpose(image).size if _is_turned(image) else image.size


def _to_rgb(image: Image.Image) -> RgbImage:
    if _is_turned(image):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = (np.asarray(image, np.float64) / 257.0).round().clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    # Both would copy a picture that is what it should be.
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
