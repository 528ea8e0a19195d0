# SPDX-License-Identifier: Apache-2.0
"""Validation while the run goes on: a few batches, always the same, and the best weights kept.

Only the process that leads does this; the others wait for it at their next step's sum.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
import time

from PIL import Image

from ..displacement.kinds import DisplacementNetwork
from ..displacement.weights import load_network, save_network
from ..whole_files import replace_file
from .batch import TrainingBatch
from .board import Board
from .checkpoint import BEST, Progress
from .config import TrainingConfig
from .learner import Learner
from .log import append_line
from .pictures import sample_sheet
from .processes import Team
from .supply import make_generator
from .validation import Validation, predict, validate_batches

__all__ = ["Watch"]

logger = logging.getLogger(__name__)

LARGEST_SHARE = 0.03
"""Of the time that validations on the way may take."""
SHOWN = 4
"""Samples in the picture."""


class Watch:
    """Looks at the averaged weights now and then."""

    def __init__(self, config: TrainingConfig, team: Team, board: Board) -> None:
        """Takes over the best weights of the run that is gone on with.

        Args:
            config: the run.
            team: the process; only one that leads may look.
            board: takes figures and pictures too.
        """
        self._config, self._team, self._board = config, team, board
        self._batches: list[TrainingBatch] = []
        self._next = time.monotonic() + 60 * config.watch_minutes
        self._best_epe: float | None = None
        self._path = config.output / BEST
        if self.wanted and config.resume is not None and (config.resume / BEST).is_file():
            source = config.resume / BEST
            if source.resolve() != self._path.resolve():
                replace_file(self._path, lambda path: shutil.copyfile(source, path))
        elif self.wanted:
            self._path.unlink(missing_ok=True)  # of another run into the same folder

    @property
    def wanted(self) -> bool:
        """Whether this process looks at all."""
        return (
            self._team.leads and self._config.watch_minutes > 0 and self._config.watch_batches > 0
        )

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return self.wanted and time.monotonic() >= self._next

    def look(self, learner: Learner, progress: Progress) -> float:
        """Measures the averaged weights and keeps them if they are the best so far.

        Args:
            learner: whose averaged weights.
            progress: how far the training is.

        Returns:
            Their end-point error, pixels.
        """
        began = time.monotonic()
        self._prepare(learner)
        result = self._measure(learner.averaged)
        epe = result.figures["epe"]
        # weights that answer with no number are never the best
        is_best = math.isfinite(epe) and (self._best_epe is None or epe < self._best_epe)
        if is_best:
            self._best_epe = epe
            self._keep(learner, progress, result)
        took = time.monotonic() - began
        line = {"steps": progress.steps, "is_best": is_best, "took_seconds": round(took, 2)}
        append_line(self._config.output / "watch.jsonl", {**line, **result.figures})
        self._board.scalars("validation", result.figures, progress.steps)
        self._show(learner.averaged, progress.steps)
        took = time.monotonic() - began
        self._next = time.monotonic() + max(60 * self._config.watch_minutes, took / LARGEST_SHARE)
        return epe

    def best_if_better(self, learner: Learner, progress: Progress) -> DisplacementNetwork | None:
        """At the end: the best weights, unless the last ones are as good.

        Args:
            learner: with the last weights.
            progress: at the end.
        """
        if not self.wanted:
            return None
        epe = self.look(learner, progress)
        if self._best_epe is None or epe <= self._best_epe:
            logger.info("the last weights are the best: %.3f px", epe)
            return None
        logger.info("the best weights came earlier: %.3f px, the last %.3f", self._best_epe, epe)
        return load_network(self._path, self._team.device)[0]

    @property
    def best_epe(self) -> float | None:
        """End-point error of the best weights so far, pixels."""
        return self._best_epe

    def _prepare(self, learner: Learner) -> None:
        """Makes the batches, and measures weights that were the best in an earlier run."""
        if self._batches:
            return
        generator = make_generator(self._config, self._team, Progress(), validation=True)
        self._batches = [generator.batch().to("cpu") for _ in range(self._config.watch_batches)]
        if self._path.is_file():
            best, _ = load_network(self._path, self._team.device)
            if best.config == learner.network.config:
                self._best_epe = self._measure(best).figures["epe"]

    def _measure(self, network: DisplacementNetwork) -> Validation:
        device = self._team.device
        return validate_batches(network, (batch.to(device) for batch in self._batches))

    def _keep(self, learner: Learner, progress: Progress, result: Validation) -> None:
        """Writes the averaged weights as the best."""
        notes = {"progress": json.dumps(dataclasses.asdict(progress))}
        replace_file(
            self._path,
            lambda path: save_network(
                path, learner.averaged, learner.network.config, result.calibration, notes
            ),
        )

    def _show(self, network: DisplacementNetwork, steps: int) -> None:
        """Draws one sample of each of the first people."""
        frames = self._config.generator.frames
        batch = self._batches[0].samples(slice(0, SHOWN * frames, frames)).to(self._team.device)
        sheet = sample_sheet(batch, predict(network, batch.render, batch.image))
        self._board.picture("frame, rendering, predicted, true, error", sheet, steps)
        path = self._config.output / "watch.jpg"
        replace_file(path, lambda p: Image.fromarray(sheet).save(p, "JPEG", quality=90))
