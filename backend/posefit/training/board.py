# SPDX-License-Identifier: Apache-2.0
"""TensorBoard, where its package is installed; the JSON log is written without it as well."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Board", "open_board"]

logger = logging.getLogger(__name__)


class Board:
    """Curves and pictures of one run; does nothing without a writer."""

    def __init__(self, writer: Any | None = None) -> None:
        """Takes the writer.

        Args:
            writer: a `SummaryWriter`, or None.
        """
        self._writer = writer

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Points of some curves.

        Args:
            group: what they are shown under.
            values: by name.
            step: of the whole training.
        """
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)
            self._writer.flush()

    def picture(self, name: str, pixels: npt.NDArray[np.uint8], step: int) -> None:
        """A picture (height, width, 3), RGB."""
        if self._writer is not None:
            self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            self._writer.close()


def open_board(folder: Path, step: int, *, wanted: bool) -> Board:
    """The board of a run.

    Args:
        folder: where its files go.
        step: the first; later points of a run that was cut are taken off the curves.
        wanted: whether to write one.
    """
    if not wanted:
        return Board()
    if importlib.util.find_spec("tensorboard") is None:
        logger.info("no TensorBoard (pip install 'posefit[train]'): figures go to log.jsonl alone")
        return Board()
    from torch.utils.tensorboard import SummaryWriter

    return Board(SummaryWriter(str(folder), purge_step=step))
