# SPDX-License-Identifier: Apache-2.0
"""`python -m posefit.server`: a backend with every setting on the command line."""

from __future__ import annotations

import sys

import tyro

from ..commands.serving import run_backend
from .config import ServeConfig, ServeError


def main() -> int:
    """Run a backend; 0 after an orderly end, 2 if it cannot start."""
    config = tyro.cli(ServeConfig, prog="python -m posefit.server")
    try:
        return run_backend(config)
    except ServeError as error:
        sys.stderr.write(f"posefit: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
