# SPDX-License-Identifier: Apache-2.0
"""Work done in slices, for programs that must not be held: generators that yield to pause."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


def to_end(slices: Generator[Any, None, Result]) -> Result:
    """What work in slices gives, done at once."""
    while True:
        try:
            next(slices)
        except StopIteration as done:
            return done.value
