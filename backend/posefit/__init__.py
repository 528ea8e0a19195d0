# SPDX-License-Identifier: Apache-2.0
"""posefit's engine: moves an SMPL body until it lies over the picture it came from.

`pipeline.refine` is the whole method in one short function; start reading there. The functions
listed here (docs/python.md) are loaded when first used, so that `import posefit` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posefit_shared.sequence import Sequence, read_sequence, write_sequence
    from posefit_shared.settings import RefineSettings

    from .api import (
        draw_motion,
        estimate_motion,
        evaluate_motion,
        import_motion,
        paint_texture,
        refine_motion,
    )
    from .batch.command import BatchConfig, run_batch
    from .body import load_body
    from .errors import PosefitError
    from .footage import open_footage

__version__ = "0.1.0"
__all__ = [
    "BatchConfig",
    "PosefitError",
    "RefineSettings",
    "Sequence",
    "draw_motion",
    "estimate_motion",
    "evaluate_motion",
    "import_motion",
    "load_body",
    "open_footage",
    "paint_texture",
    "read_sequence",
    "refine_motion",
    "run_batch",
    "write_sequence",
]

_HOMES = {
    "BatchConfig": "posefit.batch.command",
    "PosefitError": "posefit.errors",
    "RefineSettings": "posefit_shared.settings",
    "Sequence": "posefit_shared.sequence",
    "load_body": "posefit.body",
    "open_footage": "posefit.footage",
    "read_sequence": "posefit_shared.sequence",
    "run_batch": "posefit.batch.command",
    "write_sequence": "posefit_shared.sequence",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'posefit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "posefit.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
