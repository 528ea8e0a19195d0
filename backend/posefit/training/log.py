# SPDX-License-Identifier: Apache-2.0
"""The run's log: figures gathered on the device, a JSON line now and then."""

from __future__ import annotations

import json
import logging
import time

import torch
from torch import Tensor

from ..displacement.losses import LossReport
from .config import TrainingConfig
from .processes import Team

__all__ = ["TrainingLog"]

logger = logging.getLogger(__name__)


class TrainingLog:
    """Gathers figures on the device and writes a line now and then."""

    def __init__(self, config: TrainingConfig, team: Team) -> None:
        self._config, self._team = config, team
        self._rows: list[Tensor] = []
        self._since = self._start = time.monotonic()
        config.output.mkdir(parents=True, exist_ok=True)

    def add(self, report: LossReport, norm: Tensor, steps: int, rate: float) -> None:
        """Takes one step's figures."""
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
        if self._team.leads:
            line = {
                "seconds": round(now - self._start, 1), "steps": steps, "loss": round(loss, 3),
                "epe": round(epe, 3), "epe_visible": round(visible, 3),
                "visibility": round(accuracy, 3), "norm": round(size, 2), "rate": round(rate, 6),
                "samples_per_s": round(speed),
            }  # fmt: skip
            logger.info("%s", json.dumps(line))
            with (self._config.output / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
