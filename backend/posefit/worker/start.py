# SPDX-License-Identifier: Apache-2.0
"""A worker's process is started; what it is to do it reads from its standard input.

It may be started before anybody can tell it: `posefit serve` does so while the broker is still
being imported, so that torch loads on another core meanwhile. Imports nothing that takes long.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

__all__ = ["start_process"]


def start_process(preload: str = "") -> subprocess.Popen[bytes]:
    """Start a process of `posefit.worker.process`, which leads a process group of its own.

    Args:
        preload: module to import while nothing has been written to its standard input yet.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "posefit.worker.process", *([preload] if preload else [])],
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
        start_new_session=sys.platform != "win32",
        # Idle OpenMP threads that spin take the cores from those that work.
        env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
    )


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True
