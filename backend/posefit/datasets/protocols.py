# SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols as published: which recordings and frames, which joints, which alignment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .bedlam import read_bedlam
from .emdb import read_emdb
from .human36m import read_human36m
from .recording import DatasetError, Recording
from .rich import read_rich
from .threedpw import read_3dpw

__all__ = ["PROTOCOLS", "READERS", "Protocol", "protocol_named", "recordings_of"]

READERS: dict[str, Callable[[Path, str], Iterator[Recording]]] = {
    "3dpw": read_3dpw,
    "emdb": read_emdb,
    "rich": read_rich,
    "h36m": read_human36m,
    "bedlam": read_bedlam,
}
"""Each data set's reader: (root, split) → recordings."""


@dataclass(frozen=True)
class Protocol:
    """One published way to compare predictions with a data set."""

    name: str
    """As given on the command line."""
    dataset: str
    """Which reader."""
    split: str
    """Which part of the data set."""
    joint_set: str
    """Name in `joint_sets.JOINT_SETS`."""
    with_vertices: bool
    """Whether PVE is part of it."""
    stride: int = 1
    """Every so many-th frame."""
    tags: frozenset[str] = frozenset()
    """Only recordings that have one of these tags; all if empty."""
    needs_keypoints: bool = False
    """Only frames with annotated 2D joints."""
    in_world: bool = False
    """Whether W-MPJPE, WA-MPJPE and RTE are part of it."""
    converts_mesh: bool = False
    """Whether SMPL-X references are turned into SMPL meshes."""
    source: str = ""
    """Where it is defined."""

    def frames(self, recording: Recording) -> npt.NDArray[np.int64]:
        """Places in a recording's sequence that count.

        Args:
            recording: of the protocol's data set.
        """
        usable = recording.valid.copy()
        if self.needs_keypoints and recording.has_keypoints is not None:
            usable &= recording.has_keypoints
        if recording.joints is not None and self.joint_set.startswith("h36m"):
            usable = np.ones(len(recording), bool)
        on_stride = np.asarray(recording.sequence.frame_indices) % self.stride == 0
        return np.flatnonzero(usable & on_stride)


_3DPW_EVAL = "3DPW's evaluation code (github.com/aymenmir1/3dpw-eval): 24 SMPL joints, hips' middle"
_SPIN = "Kolotouros et al., SPIN, ICCV 2019, eval.py: 14 LSP joints by J_regressor_h36m, pelvis"
_HMR = "Kanazawa et al., HMR, CVPR 2018, section 4: S9 and S11"
_EMDB = "Kaufmann et al., EMDB, ICCV 2023: evaluation_metrics.py, 24 SMPL joints, hips' middle"
_WHAM = "Shin et al., WHAM, CVPR 2024: lib/eval/evaluate_emdb.py, pieces of 100 frames"

_ALL = (
    Protocol("3dpw-24", "3dpw", "test", "smpl24", True, needs_keypoints=True, source=_3DPW_EVAL),
    Protocol("3dpw-14", "3dpw", "test", "lsp14", True, source=_SPIN),
    Protocol(
        "emdb-1", "emdb", "emdb1", "smpl24", True, tags=frozenset(["emdb1"]), source=_EMDB,
    ),
    Protocol(
        "emdb-2", "emdb", "emdb2", "smpl24", True, tags=frozenset(["emdb2"]), in_world=True,
        source=_WHAM,
    ),
    Protocol(
        "rich-24", "rich", "test", "smpl24", True, converts_mesh=True,
        source="as WHAM evaluates RICH: SMPL-X made SMPL by smplx2smpl, then as EMDB",
    ),
    Protocol(
        "rich-22", "rich", "test", "body22", False,
        source="posefit's own: the 22 kinematic joints that SMPL and SMPL-X share",
    ),
    Protocol("h36m-p1", "h36m", "test", "h36m14", False, stride=5, source=f"{_HMR}, all cameras"),
    Protocol(
        "h36m-p2", "h36m", "test", "h36m14", False, stride=5, tags=frozenset(["60457274"]),
        source=f"{_HMR}, frontal camera",
    ),
    Protocol(
        "h36m-17", "h36m", "test", "h36m17", False, stride=5,
        source="Martinez et al., ICCV 2017: 17 joints at the pelvis (its protocols 1 and 2 are "
        "this MPJPE and PA-MPJPE); every fifth frame here",
    ),
    Protocol(
        "bedlam-22", "bedlam", "validation", "body22", True,
        source="posefit's own: BEDLAM publishes no evaluation on these labels",
    ),
)  # fmt: skip

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
"""Protocols by name; the first of a data set is its default."""


def protocol_named(dataset: str, name: str | None) -> Protocol:
    """A data set's protocol.

    Args:
        dataset: name in `READERS`.
        name: of the protocol; None takes the data set's first.

    Raises:
        DatasetError: there is none of that name.
    """
    own = [protocol for protocol in _ALL if protocol.dataset == dataset]
    if not own:
        raise DatasetError(f"no data set {dataset!r} is known: give {', '.join(READERS)}")
    if name is None:
        return own[0]
    chosen = [protocol for protocol in own if protocol.name == name]
    if not chosen:
        names = ", ".join(protocol.name for protocol in own)
        raise DatasetError(f"{dataset} has no protocol {name!r}, it has {names}")
    return chosen[0]


def recordings_of(protocol: Protocol, root: Path, split: str | None = None) -> Iterator[Recording]:
    """The recordings that a protocol looks at.

    Args:
        protocol: which.
        root: folder of the data set.
        split: instead of the protocol's own (the table then says so).

    Raises:
        DatasetError: the data set does not lie as published.
    """
    for recording in READERS[protocol.dataset](root, split or protocol.split):
        if not protocol.tags or protocol.tags & recording.tags or split is not None:
            yield recording
