# SPDX-License-Identifier: Apache-2.0
"""Inputs that fuzzing found, each of which once ended in a traceback: refused in words now."""

import sys
from pathlib import Path

import pytest

CASES = sorted((Path(__file__).parent / "fuzz_cases").glob("*/*"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools/fuzz"))

from targets import TARGETS, one_input  # noqa: E402


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_a_found_input_is_refused_in_words(case):
    assert one_input(TARGETS[case.parent.name], case.read_bytes()) is False


@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzers_seeds_are_read_so_that_mutations_get_far(name):
    target = TARGETS[name]
    assert any([one_input(target, seed) for seed in target.seeds()])
