# SPDX-License-Identifier: Apache-2.0
"""What a kept result depends on: code and assets that it was made by."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

import posefit

__all__ = ["sources_digest"]

_ELSEWHERE = {"datasets", "report", "server", "training"}
"""Folders of the package that no refinement runs through."""
_ASSETS = ("assets/displacement/network.safetensors", "assets/priors/pose_prior.npz")
GATES = "assets/gate/gates.json"


def sources_digest(*others: Path, left_out: Collection[str] = ()) -> str:
    """Changes with all code that refinements run through, and with the assets that they read.

    Args:
        others: files beside them.
        left_out: files of the package that the result does not depend on, by their place in it.
    """
    package = Path(posefit.__file__).parent
    files = [
        path
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).parts[0] not in _ELSEWHERE
    ]
    files += [package / name for name in (*_ASSETS, GATES)]
    digest = hashlib.sha256()
    for path in files:
        if path.relative_to(package).as_posix() not in left_out:
            digest.update(path.read_bytes())
    for path in others:
        digest.update(path.read_bytes())
    return digest.hexdigest()
