# SPDX-License-Identifier: Apache-2.0
"""`python -m posefit.training`: trains the displacement network; docs/training.md tells how."""

from __future__ import annotations

import logging
import os
import time

import tyro

from .config import TrainingConfig
from .loop import train


def main() -> None:
    """Reads the settings from the command line and trains."""
    started = time.monotonic()
    rank = os.environ.get("RANK", "0")
    level = logging.INFO if rank == "0" else logging.WARNING
    logging.basicConfig(level=level, format=f"%(asctime)s [{rank}] %(message)s", datefmt="%H:%M:%S")
    train(tyro.cli(TrainingConfig), started)


if __name__ == "__main__":
    main()
