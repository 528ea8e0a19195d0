# SPDX-License-Identifier: Apache-2.0
"""Picture files that may come from anywhere: read within bounds, or refused in words.

A picture of a few kilobytes can unpack to gigabytes; its size is looked at before it is decoded.
Damaged files make decoders raise whatever happened to fail inside; here that is one error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image

__all__ = ["MAX_PIXELS", "PictureError", "read_picture"]

MAX_PIXELS = 16384 * 8192
"""Largest picture that is decoded: 16K by 8K."""
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError,
    ArithmeticError, AssertionError, NotImplementedError, MemoryError, RecursionError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's decoders raise on damaged files (its own fuzzers expect the same list)."""
_Value = TypeVar("_Value")


class PictureError(ValueError):
    """A file that is no picture, damaged or too large; says why, without the file's name."""


def read_picture(path: str | Path, convert: Callable[[Image.Image], _Value]) -> _Value:
    """What `convert` makes of the picture in a file; decoding happens inside it.

    Raises:
        PictureError: it is no picture, damaged, or of more than `MAX_PIXELS`.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
                raise PictureError(
                    f"it is {width}×{height} pixels, expected 1 to {MAX_PIXELS // 10**6} megapixels"
                )
            return convert(image)
    except PictureError:
        raise
    except _DAMAGE as error:
        raise PictureError(f"{error}" or type(error).__name__) from error
