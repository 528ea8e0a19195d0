# SPDX-License-Identifier: Apache-2.0
"""A file that says what went wrong, for whoever can mend it, without anybody's pictures.

It holds versions, the job's kind and settings, the sizes of its arrays, the traceback, and the
last lines of the log. Pictures, poses and names of footage stay out; the user's home is cut from
paths. Whoever may give the footage away adds it by hand.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import platform
import secrets
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from posefit_shared.messages import MediaReference, Request
from posefit_shared.sequence import Sequence
from posefit_shared.settings import RefineSettings

from .. import __version__

__all__ = ["LastLines", "write_crash_report"]

logger = logging.getLogger(__name__)

KEPT_REPORTS = 20
"""Reports in the folder; the oldest go."""
_PACKAGES = ("torch", "numpy", "warp-lang", "av", "pyzmq", "msgpack", "pillow", "openvino")
_LINES = 200


class LastLines(logging.Handler):
    """Keeps the last lines of a process's log in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=_LINES)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self._lines.append(self.format(record))

    @property
    def lines(self) -> list[str]:
        """Oldest first."""
        return list(self._lines)


def write_crash_report(
    folder: Path,
    cause: str,
    *,
    job: str = "",
    kind: str = "",
    request: Request | None = None,
    traceback: str = "",
    device: str = "",
    lines: list[str] | None = None,
) -> Path | None:
    """Write a report; the file, or None where it could not be written, which the log says.

    Args:
        folder: where reports go.
        cause: one sentence.
        job: its id.
        kind: of the job.
        request: what was asked, of which kinds and sizes are told.
        traceback: of the error, or what the process last did.
        device: what it computed on.
        lines: of the log.
    """
    now = datetime.now(UTC)
    home = str(Path.home())
    report = {
        "posefit_crash_report": 1,
        "cause": cause,
        "time": now.isoformat(timespec="seconds"),
        "posefit": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device,
        "packages": _versions(),
        "job": job,
        "kind": kind,
        "request": None if request is None else _described(request),
        "traceback": traceback.replace(home, "~").splitlines(),
        "log": [line.replace(home, "~") for line in lines or []],
        "pictures": "none are in this file; add the footage yourself if you may give it away",
    }
    path = folder / f"crash-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1), encoding="utf-8")
        for old in sorted(folder.glob("crash-*.json"))[:-KEPT_REPORTS]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.error("no crash report could be written to %s: %s", folder, error)
        return None
    logger.error("a crash report lies at %s", path)
    return path


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _described(value: Any) -> Any:
    """What a value is, without what it holds."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, RefineSettings):
        return value.to_map()
    if isinstance(value, MediaReference):
        name = value.path or value.name or ""
        return f"{'path' if value.path else 'upload'} *{Path(name).suffix.lower()[:8]}"
    if isinstance(value, Sequence | Request):
        fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        return {name: _described(one) for name, one in fields.items() if one is not None}
    if isinstance(value, tuple | list) and len(value) > 8:
        return f"{len(value)} entries"
    if isinstance(value, str):
        return value if len(value) <= 8 else f"{len(value)} characters"
    return value if isinstance(value, bool | int | float | tuple | list) else type(value).__name__
