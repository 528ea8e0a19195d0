# SPDX-License-Identifier: Apache-2.0
"""The journal of a batch: one line of JSON for each thing that happened, only ever added to.

A line is on the disk before the batch goes on. A process that is killed while writing leaves half
a line, which the next one takes away. What has been done is not read from here but from the results
themselves (`folder`): the journal says how it went, and why jobs failed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Journal", "read_journal"]


class Journal:
    """An open journal.

    Args:
        path: made if it is not there.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._handle = path.open("ab+", buffering=0)
        self._take_away_half_a_line()

    def write(self, event: str, job: str = "", **more: Any) -> None:
        """Add one record and wait until it is on the disk.

        Args:
            event: `opened`, `started`, `done`, `failed` or `closed`.
            job: whom it is about.
            more: what else is to be said, as plain values.
        """
        record: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event}
        if job:
            record["job"] = job
        line = json.dumps({**record, **more}, ensure_ascii=False) + "\n"
        # A name that is no UTF-8 becomes an escape, which JSON reads back.
        data = line.encode("utf-8", "backslashreplace")
        while data:
            data = data[self._handle.write(data) :]
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Let the file go."""
        self._handle.close()

    def _take_away_half_a_line(self) -> None:
        size = self._handle.seek(0, os.SEEK_END)
        step = 1 << 16
        end = size
        while end > 0:
            start = max(0, end - step)
            self._handle.seek(start)
            place = self._handle.read(end - start).rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        if end < size:
            self._handle.truncate(end)
        self._handle.seek(0, os.SEEK_END)


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal in order; lines that are no records are passed over."""
    if not path.is_file():
        return
    with path.open("rb") as handle:
        for line in handle:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record
