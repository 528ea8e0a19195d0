# SPDX-License-Identifier: Apache-2.0
"""The backend's broker process: sockets, sessions, queue and workers; bytes in, bytes out.

`broker` is the loop; `front_desk` hears clients, `sessions` writes to them, `job_desk` leads jobs
from submission to their end, `schedule` says which is next, `supervisor` keeps the workers running,
`store` and `media_paths` say which files jobs may use. `keeper` is a process of its own that starts
the broker again when it dies. Nothing here imports torch, and the keeper no ZeroMQ either: what is
listed here is loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .broker import serve
    from .config import ServeConfig, ServeError, ServeLimits

__all__ = ["ServeConfig", "ServeError", "ServeLimits", "serve"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'posefit.server' has no attribute {name!r}")
    home = ".broker" if name == "serve" else ".config"
    return getattr(importlib.import_module(home, __name__), name)
