# SPDX-License-Identifier: Apache-2.0
"""Predictions against a data set: every recording of a protocol, several predictions side by side.

A prediction is a folder of sequence files named after the recordings. The result is a plain
dictionary for JSON; `tables` turns it into markdown and a plot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from posefit_shared.sequence import read_sequence, write_sequence

from .bodies import Bodies
from .joint_sets import Regressors
from .protocols import Protocol, recordings_of
from .recording import DatasetError
from .scoring import METRICS, RecordingScore, score_recording

__all__ = ["evaluate_dataset", "export_references"]

Array = npt.NDArray[np.float64]


def evaluate_dataset(
    protocol: Protocol,
    root: Path,
    predictions: Mapping[str, Path],
    bodies: Bodies,
    *,
    regressors: Regressors | None = None,
    split: str | None = None,
    progress: Callable[[str], object] = lambda name: None,
) -> dict[str, Any]:
    """Errors of predictions as a protocol defines them.

    Args:
        protocol: what to compare, and over which frames.
        root: folder of the data set.
        predictions: folders of `RECORDING.npz`, by the name that tables show.
        bodies: the body models.
        regressors: the user's files, where the protocol needs them.
        split: another part of the data set than the protocol's.
        progress: called with each recording's name.

    Returns:
        `dataset`, `protocol`, `split`, `source`, `notes`, and for each of `predictions` its
        `metrics` (mean, median, p95, count over all frames), `recordings`, `frames`,
        `frames_missing`, `recordings_missing` and `left_out`.

    Raises:
        DatasetError: the data set does not lie as published, a needed file is missing, or a
            prediction has no file for any recording.
    """
    if not predictions:
        raise DatasetError("no predictions were given: name them with --predicted NAME=FOLDER")
    for folder in predictions.values():
        if not folder.is_dir():
            raise DatasetError(
                f"no folder of predictions at {folder}: it holds RECORDING.npz for each recording"
            )
    regressors = regressors or Regressors()
    scores: dict[str, dict[str, RecordingScore]] = {name: {} for name in predictions}
    absent: dict[str, list[str]] = {name: [] for name in predictions}
    expected = 0
    for recording in recordings_of(protocol, root, split):
        wanted = len(protocol.frames(recording))
        if not wanted:
            continue
        expected += wanted
        progress(recording.name)
        for name, folder in predictions.items():
            path = folder / f"{recording.name}.npz"
            if not path.is_file():
                absent[name].append(recording.name)
                continue
            scores[name][recording.name] = score_recording(
                recording, read_sequence(path), protocol, bodies, regressors
            )
    _check_found(scores, absent, predictions)
    return {
        "dataset": protocol.dataset,
        "protocol": protocol.name,
        "split": split or protocol.split,
        "source": protocol.source,
        "notes": _notes(protocol, split, bodies),
        "predictions": {
            name: _summary(scores[name], absent[name], expected) for name in predictions
        },
    }


def export_references(protocol: Protocol, root: Path, output: Path, split: str | None) -> int:
    """Writes each recording's reference as a sequence file, so that its name and frames are seen.

    Args:
        protocol: whose recordings.
        root: folder of the data set.
        output: folder for `RECORDING.npz`.
        split: another part of the data set than the protocol's.

    Returns:
        How many were written; recordings without body parameters are left out.
    """
    written = 0
    for recording in recordings_of(protocol, root, split):
        if recording.has_body:
            write_sequence(output / f"{recording.name}.npz", recording.sequence)
            written += 1
    return written


def _check_found(
    scores: dict[str, dict[str, RecordingScore]],
    absent: dict[str, list[str]],
    predictions: Mapping[str, Path],
) -> None:
    for name, folder in predictions.items():
        if scores[name]:
            continue
        if not absent[name]:
            raise DatasetError("the protocol looks at no frame of this data set: check the split")
        raise DatasetError(
            f"{folder} holds no prediction for any of {len(absent[name])} recordings: files are "
            f"called like {absent[name][0]}.npz"
        )


def _notes(protocol: Protocol, split: str | None, bodies: Bodies) -> list[str]:
    notes = []
    if bodies.is_free:
        notes.append(
            "The free body stands in for the data set's own: figures are not comparable with "
            "published ones."
        )
    elif not Path(bodies.source).is_dir() and protocol.dataset != "h36m":
        notes.append("One body file served every gender; give a folder with all of them.")
    if split is not None and split != protocol.split:
        notes.append(f"The protocol is defined on {protocol.split}, these are of {split}.")
    return notes


def _summary(scores: dict[str, RecordingScore], absent: list[str], expected: int) -> dict[str, Any]:
    frames = sum(score.frames for score in scores.values())
    metrics: dict[str, Any] = {}
    for metric in METRICS:
        parts = [score.values[metric] for score in scores.values() if metric in score.values]
        if parts:
            metrics[metric] = _statistics(np.concatenate(parts))
    left_out = {metric: why for score in scores.values() for metric, why in score.left_out.items()}
    return {
        "metrics": metrics,
        "frames": frames,
        "frames_missing": expected - frames,
        "recordings_missing": absent,
        "left_out": left_out,
        "recordings": {
            name: {
                "frames": score.frames,
                "frames_missing": score.missing,
                **{metric: float(values.mean()) for metric, values in score.values.items()},
            }
            for name, score in scores.items()
        },
    }


def _statistics(values: Array) -> dict[str, Any]:
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
        "count": len(values),
    }
