# SPDX-License-Identifier: Apache-2.0
"""Public data sets as they are distributed: samples for training, protocols for evaluation.

A reader a data set (`threedpw`, `emdb`, `rich`, `human36m`, `bedlam`) gives `Recording`s;
`protocols` says what published evaluations compare, `evaluation` does it, and `real_samples` makes
training batches. Nothing is downloaded: docs/datasets.md says where files belong.
"""

from .bodies import Bodies
from .evaluation import evaluate_dataset, export_references
from .gravity import upright
from .joint_sets import Regressors
from .protocols import PROTOCOLS, READERS, Protocol, protocol_named, recordings_of
from .recording import DatasetError, FrameSample, Pictures, Recording
from .tables import markdown_table, write_results

__all__ = [
    "PROTOCOLS",
    "READERS",
    "Bodies",
    "DatasetError",
    "FrameSample",
    "Pictures",
    "Protocol",
    "Recording",
    "Regressors",
    "evaluate_dataset",
    "export_references",
    "markdown_table",
    "protocol_named",
    "recordings_of",
    "upright",
    "write_results",
]
