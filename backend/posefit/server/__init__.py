# SPDX-License-Identifier: Apache-2.0
"""The backend's broker process: sockets, sessions, queue and workers; bytes in, bytes out.

`broker` is the loop; `front_desk` hears clients, `sessions` writes to them, `job_desk` leads jobs
from submission to their end, `schedule` says which is next, `supervisor` keeps the workers running,
`store` and `media_paths` say which files jobs may use. Nothing here imports torch.
"""

from .broker import serve
from .config import ServeConfig, ServeError, ServeLimits

__all__ = ["ServeConfig", "ServeError", "ServeLimits", "serve"]
