# SPDX-License-Identifier: Apache-2.0
"""The run's log: figures gathered on the device, a JSON line now and then."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..displacement.losses import LossReport
from .board import Board
from .config import TrainingConfig
from .processes import Team

__all__ = ["TrainingLog", "append_line"]

logger = logging.getLogger(__name__)


class TrainingLog:
    """Gathers figures on the device and writes a line now and then."""

    def __init__(self, config: TrainingConfig, team: Team, board: Board) -> None:
        """Makes the output folder.

        Args:
            config: the run.
            team: whose leader writes.
            board: takes the figures too.
        """
        self._config, self._team, self._board = config, team, board
        self.generator_speed: float | None = None
        """Samples a second that one process's generator makes on its own."""
        self._rows: list[Tensor] = []
        self._since = self._start = time.monotonic()
        config.output.mkdir(parents=True, exist_ok=True)

    def add(self, report: LossReport, norm: Tensor, steps: int, rate: float) -> None:
        """Takes one step's figures.

        Args:
            report: the loss and what it says beside it.
            norm: of the gradients.
            steps: of the whole training.
            rate: the learning rate.
        """
        values = (report.loss, report.endpoint_error, report.visible_endpoint_error,
                  report.visibility_accuracy, norm)  # fmt: skip
        self._rows.append(torch.stack([v.float() for v in values]))
        if len(self._rows) < self._config.log_every:
            return
        loss, epe, visible, accuracy, size = torch.stack(self._rows).mean(0).tolist()
        now = time.monotonic()
        batch = self._config.generator.people * self._config.generator.frames
        speed = len(self._rows) * batch * self._team.size / (now - self._since)
        self._rows, self._since = [], now
        line = {
            "seconds": round(now - self._start, 1), "steps": steps, "loss": round(loss, 3),
            "epe": round(epe, 3), "epe_visible": round(visible, 3),
            "visibility": round(accuracy, 3), "norm": round(size, 2), "rate": round(rate, 6),
            "samples_per_s": round(speed),
        }  # fmt: skip
        if self.generator_speed is not None:
            line["generator_samples_per_s"] = round(self.generator_speed * self._team.size)
        if self._team.leads:
            append_line(self._config.output / "log.jsonl", line)
            self._board.scalars("training", line, steps)


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Adds a JSON line to a file, and tells it.

    Args:
        path: the file.
        line: what to write.
    """
    text = json.dumps(line)
    logger.info("%s", text)
    with path.open("a") as file:
        file.write(f"{text}\n")
