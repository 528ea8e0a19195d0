# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures → PNGs bit by bit, and images of the file that hold them.

Blender's own packing compresses a whole picture in one go: a tenth of a second for 1024 texels a
side. A PNG that is there already is packed at once, and read back when the image is looked at.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Mapping

import bpy
import numpy as np
import numpy.typing as npt

_BYTES_AT_ONCE = 1 << 17
"""Of a picture, between two pauses: some milliseconds."""


def png_slices(
    rgba: npt.NDArray[np.uint8], texts: Mapping[bytes, bytes] | None = None
) -> Generator[None, None, bytes]:
    """A picture (H, W, 4), its first row on top, as a PNG.

    Args:
        rgba: the picture.
        texts: what is written beside it, by keyword.

    Yields:
        Where it may pause.
    """
    height, width = rgba.shape[:2]
    at_once = max(1, _BYTES_AT_ONCE // (4 * width))
    compressor, parts = zlib.compressobj(1), []
    for start in range(0, height, at_once):
        some = rgba[start : start + at_once]
        rows = np.zeros((len(some), 1 + 4 * width), np.uint8)  # a row begins with its filter: none
        rows[:, 1:] = some.reshape(len(some), -1)
        parts.append(compressor.compress(rows))
        yield
    parts.append(compressor.flush())
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))]
    chunks += [(b"tEXt", key + b"\0" + text) for key, text in (texts or {}).items()]
    chunks += [(b"IDAT", b"".join(parts)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def fill_image(image: bpy.types.Image, png: bytes) -> None:
    """Have an image show a PNG, which is saved with the file; what it showed before is gone."""
    image.pack(data=png, data_len=len(png))
    image.source = "FILE"
    image.buffers_free()
    image.update_tag()
