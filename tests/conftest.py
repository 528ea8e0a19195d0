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


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--forbid-skips`, for runs in which everything must be there."""
    parser.addoption("--forbid-skips", action="store_true", help="a skipped test is a failure")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that skipped something where nothing may be skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not session.config.getoption("--forbid-skips") or reporter is None:
        return
    skipped = len(reporter.stats.get("skipped", ()))
    if skipped and exitstatus == 0:
        reporter.write_line(f"{skipped} tests were skipped, and here a skip is a failure")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
