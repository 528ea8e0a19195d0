# SPDX-License-Identifier: Apache-2.0
"""`python -m posefit.server`: a backend with every setting on the command line."""

from __future__ import annotations

import logging
import sys

import tyro

from . import ServeConfig, ServeError, serve


def main() -> int:
    """Run a backend; 0 after an orderly end, 2 if it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return serve(tyro.cli(ServeConfig, prog="python -m posefit.server"))
    except ServeError as error:
        sys.stderr.write(f"posefit: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
