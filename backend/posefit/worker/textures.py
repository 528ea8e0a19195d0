# SPDX-License-Identifier: Apache-2.0
"""Uploaded textures, read once: an artist's next frame wears the one of the last."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..texture import Texture, load_png

__all__ = ["forget_textures", "uploaded_texture"]


def uploaded_texture(path: Path) -> Texture:
    """The texture of a picture file; the same object until the file changes.

    Args:
        path: as `JobContext.content` gives it.

    Raises:
        TextureError: it cannot be read.
    """
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


def forget_textures() -> None:
    """Give their memory back, also a GPU's."""
    _read.cache_clear()


@lru_cache(maxsize=4)
def _read(path: Path, changed_ns: int, size: int) -> Texture:
    return load_png(path)
