# SPDX-License-Identifier: Apache-2.0
"""What tests of every folder share; loads in Blender's Python too, so nothing heavy at the top."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a seed of its own for each test."""
    return np.random.default_rng(20261122)


@pytest.fixture(scope="session")
def free_body():
    """The free body on the CPU."""
    return pytest.importorskip("posefit.body", reason="needs torch").load_body("free")
