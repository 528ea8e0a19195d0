# SPDX-License-Identifier: Apache-2.0
"""Uploaded content on disk, each file under its SHA-256.

A file appears under its hash only after its bytes have been checked. The longest unused go first
when space runs out, but never one that a job still needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ContentStore", "IncomingContent", "StoreError"]

logger = logging.getLogger(__name__)


class StoreError(ValueError):
    """An upload that cannot be taken; the message says why."""


@dataclass
class IncomingContent:
    """An upload under way."""

    content_hash: str
    path: Path
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def discard(self) -> None:
        """Forget what has arrived."""
        self.path.unlink(missing_ok=True)


class ContentStore:
    """Contents in one folder; used by the broker's thread only."""

    def __init__(self, folder: Path, total_bytes: int, file_bytes: int) -> None:
        """Use an empty folder.

        Args:
            folder: where contents lie; made if it is not there.
            total_bytes: disk space for all of them, unfinished ones included.
            file_bytes: largest single content.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._total_bytes, self._file_bytes = total_bytes, file_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self._incoming_bytes = 0
        self._serial = 0

    @property
    def usage(self) -> tuple[int, int]:
        """Stored contents and the bytes they take, unfinished ones included."""
        return len(self._sizes), sum(self._sizes.values()) + self._incoming_bytes

    def lacks(self, hashes: Iterable[str]) -> tuple[str, ...]:
        """Those of the hashes that are not here; the others count as used just now."""
        missing = []
        for content_hash in hashes:
            if content_hash in self._sizes:
                self._sizes.move_to_end(content_hash)
            else:
                missing.append(content_hash)
        return tuple(missing)

    def pin(self, hashes: Iterable[str]) -> None:
        """Keep these until they are unpinned as often."""
        self._pins.update(hashes)

    def unpin(self, hashes: Iterable[str]) -> None:
        """Let go of these once."""
        self._pins.subtract(hashes)

    def begin(self, content_hash: str) -> IncomingContent:
        """A new upload with nothing in it."""
        self._serial += 1
        return IncomingContent(content_hash, self.folder / f"incoming-{self._serial}")

    def append(self, incoming: IncomingContent, offset: int, data: memoryview) -> None:
        """Add one piece.

        Raises:
            StoreError: the piece is out of order, too much, or the disk is full.
        """
        if offset != incoming.size:
            raise StoreError(
                f"a piece of an upload came at offset {offset}, expected {incoming.size}"
            )
        if incoming.size + len(data) > self._file_bytes:
            raise StoreError(
                f"the upload is larger than {self._file_bytes >> 20} MiB, which is the limit"
            )
        self._make_room(len(data))
        try:
            with incoming.path.open("ab") as file:
                file.write(data)
        except OSError as error:
            raise StoreError(f"the upload cannot be stored ({error.strerror})") from error
        incoming.digest.update(data)
        incoming.size += len(data)
        self._incoming_bytes += len(data)

    def finish(self, incoming: IncomingContent, size: int) -> None:
        """Check an upload and put it under its hash.

        Raises:
            StoreError: bytes are missing or differ from what was promised.
        """
        self._incoming_bytes -= incoming.size
        if incoming.size == 0:
            incoming.path.touch()
        if incoming.size != size or incoming.digest.hexdigest() != incoming.content_hash:
            incoming.discard()
            raise StoreError(
                f"the uploaded bytes do not have the hash {incoming.content_hash[:12]}… that was "
                "promised: the file changed while it was sent; upload it again"
            )
        os.replace(incoming.path, self.folder / incoming.content_hash)
        self._sizes[incoming.content_hash] = incoming.size
        self._sizes.move_to_end(incoming.content_hash)

    def abandon(self, incoming: IncomingContent) -> None:
        """Forget an upload that will not be finished."""
        self._incoming_bytes -= incoming.size
        incoming.discard()

    def _make_room(self, size: int) -> None:
        while sum(self._sizes.values()) + self._incoming_bytes + size > self._total_bytes:
            oldest = next((key for key in self._sizes if self._pins[key] <= 0), None)
            if oldest is None:
                raise StoreError(
                    f"the backend's {self._total_bytes >> 20} MiB for uploads are in use: wait "
                    "for its jobs to end"
                )
            del self._sizes[oldest]
            with contextlib.suppress(OSError):
                (self.folder / oldest).unlink()
            logger.info("content %s… made room for another", oldest[:12])
