# SPDX-License-Identifier: Apache-2.0
"""Displacement: for each body pixel, how far the surface point shown there is from its place.

An estimator sees frame crops and renderings of the current body. `flow` is classical optical flow,
the named baseline; `net` is the learned one, `net-large` unless its weights are missing; `net-fast`
answers seven times sooner on a CPU and is less exact.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch

from ..errors import PosefitError
from .field import DisplacementEstimator, DisplacementField

__all__ = [
    "ESTIMATORS",
    "DisplacementError",
    "DisplacementEstimator",
    "DisplacementField",
    "load_estimator",
]

ESTIMATORS: dict[str, tuple[str, str]] = {
    "flow": (".flow", "FlowEstimator"),
    "net": (".inference", "NetworkEstimator"),
    "net-large": (".inference", "large_estimator"),
    "net-fast": (".inference", "fast_estimator"),
}
"""Module and maker of each estimator; imported when first asked for."""


class DisplacementError(PosefitError):
    """An estimator that cannot be had; the message says why and what to do."""


def load_estimator(name: str, device: torch.device | str = "cpu") -> DisplacementEstimator:
    """The estimator of that name, ready on a device.

    Args:
        name: `flow`, `net`, `net-large`, `net-fast`, or `auto`: `net` where its weights are
            installed, `flow` elsewhere.
        device: where it computes.

    Raises:
        DisplacementError: there is none of that name, or its weights are not installed.
    """
    if name == "auto":
        from .weights import has_weights

        name = "net" if has_weights() else "flow"
    if name not in ESTIMATORS:
        known = ", ".join(("auto", *ESTIMATORS))
        raise DisplacementError(f"no displacement estimator {name!r}, expected one of {known}")
    module, attribute = ESTIMATORS[name]
    make: Callable[[torch.device], DisplacementEstimator] = getattr(
        import_module(module, __package__), attribute
    )
    return make(torch.device(device))
