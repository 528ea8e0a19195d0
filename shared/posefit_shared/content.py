# SPDX-License-Identifier: Apache-2.0
"""Content that is sent once and then named by its SHA-256."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from .slices import to_end

ContentKind = Literal["body", "character", "media", "texture"]
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Content:
    """Something that can be uploaded, read again whenever a backend lacks it."""

    source: bytes | Path
    content_hash: str
    size: int
    kind: ContentKind = "media"

    def open(self) -> BinaryIO:
        """The content from its beginning."""
        if isinstance(self.source, bytes):
            return io.BytesIO(self.source)
        return self.source.open("rb")


def read_content(source: bytes | str | Path, kind: ContentKind = "media") -> Content:
    """The content in `source`, hashed.

    Args:
        source: the bytes themselves, or the path of a file.
        kind: what it is, for people.

    Raises:
        OSError: the file cannot be read.
    """
    return to_end(content_slices(source, kind))


def content_slices(
    source: bytes | str | Path, kind: ContentKind = "media"
) -> Generator[None, None, Content]:
    """`read_content` with pauses: yields after each piece of a file, some milliseconds.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return Content(source, hashlib.sha256(source).hexdigest(), len(source), kind)
    path = Path(source)
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
            yield
    return Content(path, digest.hexdigest(), size, kind)
