# SPDX-License-Identifier: Apache-2.0
"""`python -m posefit.training`: what `posefit train` does, also under torchrun."""

from __future__ import annotations

import logging
import os
import sys

import tyro

from ..errors import PosefitError
from .command import train, with_config_file


def main() -> int:
    """Reads the settings and trains.

    Returns:
        Exit status: 0 done, 2 refused in words, 128 + n ended by signal n with its weights saved.
    """
    rank = os.environ.get("RANK", "0")
    level = logging.INFO if rank == "0" else logging.WARNING
    logging.basicConfig(level=level, format=f"%(asctime)s [{rank}] %(message)s", datefmt="%H:%M:%S")
    try:
        return tyro.cli(train, args=with_config_file(sys.argv[1:]))
    except PosefitError as error:
        sys.stderr.write(f"posefit: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
