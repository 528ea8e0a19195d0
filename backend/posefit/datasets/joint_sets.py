# SPDX-License-Identifier: Apache-2.0
"""Which joints protocols compare, and how they come from a body.

`smpl24` and `body22` are joints of the kinematic chain. `h36m17`, `h36m14` and `lsp14` are linear
in the vertices of SMPL's mesh: the user's `J_regressor_h36m.npy` (17 × 6890), which SPIN and its
successors ship. SMPL-X bodies get SMPL's mesh through the user's `smplx2smpl.pkl` (6890 × 10475).

Source: joint orders: Kolotouros et al., SPIN, ICCV 2019 (constants.py: H36M_TO_J17, of which the
    first 14 are LSP's).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared.sequence import Sequence

from ..body import BodyModel, pose_body
from ..parameters import parameters_of_sequence
from .files import array_of, entry, read_npz, read_pickle
from .recording import DatasetError

__all__ = [
    "H36M_TO_LSP14",
    "JOINT_SETS",
    "JointSet",
    "Posed",
    "Regressors",
    "pose_in_chunks",
    "regress",
]

Array = npt.NDArray[np.float64]

H36M_TO_LSP14 = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10)
"""LSP's 14 joints (right ankle … left ankle, right wrist … left wrist, neck, head top) among the
17 of Human3.6M."""
CHUNK = 64
"""Frames posed at once."""


@dataclass(frozen=True)
class JointSet:
    """Joints that are compared, and the point that aligns them."""

    regressed: bool
    """From the vertices through the Human3.6M regressor; otherwise kinematic."""
    chosen: tuple[int, ...]
    """Which of the 17 regressed, or of the kinematic joints."""
    root: tuple[int, ...]
    """Joints whose mean is the origin, in the numbering that `chosen` has."""


JOINT_SETS: dict[str, JointSet] = {
    "smpl24": JointSet(False, tuple(range(24)), (1, 2)),
    "body22": JointSet(False, tuple(range(22)), (1, 2)),
    "lsp14": JointSet(True, H36M_TO_LSP14, (0,)),
    "h36m14": JointSet(True, H36M_TO_LSP14, (0,)),
    "h36m17": JointSet(True, tuple(range(17)), (0,)),
}
"""Joint sets by name; the kinematic ones are aligned at the middle of the hips, the regressed
ones at the regressed pelvis."""


@dataclass(frozen=True)
class Regressors:
    """The user's files that turn meshes into joints."""

    h36m: Path | None = None
    """J_regressor_h36m.npy: (17, vertices)."""
    smplx_to_smpl: Path | None = None
    """smplx2smpl.pkl with `matrix`: (6890, 10475)."""

    def joint_regressor(self, vertices: int) -> Array:
        """(17, vertices) from the user's file.

        Args:
            vertices: of the mesh that it is for.

        Raises:
            DatasetError: no file was given, or it is for another mesh.
        """
        if self.h36m is None:
            raise DatasetError(
                "this protocol regresses joints from the mesh: give J_regressor_h36m.npy with "
                "--regressor (docs/datasets.md says where it comes from)"
            )
        return array_of(self._h36m_matrix, (17, vertices), "the joint regressor", self.h36m)

    def mesh_regressor(self, vertices: int) -> Array | None:
        """(SMPL vertices, vertices) for an SMPL-X mesh; None where no file was given.

        Args:
            vertices: of the SMPL-X mesh.

        Raises:
            DatasetError: the file is for another mesh.
        """
        if self.smplx_to_smpl is None:
            return None
        shape = (-1, vertices)
        return array_of(self._mesh_matrix, shape, "the mesh regressor", self.smplx_to_smpl)

    @functools.cached_property
    def _h36m_matrix(self) -> object:
        return None if self.h36m is None else _load(self.h36m)

    @functools.cached_property
    def _mesh_matrix(self) -> object:
        if self.smplx_to_smpl is None:
            return None
        return np.asarray(_load(self.smplx_to_smpl), np.float64)


@dataclass(frozen=True)
class Posed:
    """Some frames of a body in its world, metres."""

    vertices: Array
    """(T, V, 3)."""
    joints: Array
    """(T, J, 3) kinematic."""


def pose_in_chunks(sequence: Sequence, body: BodyModel) -> Iterator[tuple[slice, Posed]]:
    """A sequence's body, a few frames at a time.

    Args:
        sequence: what to pose.
        body: its model.
    """
    parameters = parameters_of_sequence(sequence, body)
    for start in range(0, len(sequence), CHUNK):
        part = slice(start, min(start + CHUNK, len(sequence)))
        with torch.no_grad():
            posed = pose_body(body, parameters[part])
        yield (
            part,
            Posed(posed.vertices.cpu().double().numpy(), posed.joints.cpu().double().numpy()),
        )


def regress(matrix: Array, vertices: Array) -> Array:
    """(T, N, 3) linear combinations of vertices.

    Args:
        matrix: (N, V).
        vertices: (T, V, 3).
    """
    frames, count, _ = vertices.shape
    columns = matrix @ np.ascontiguousarray(vertices.transpose(1, 0, 2)).reshape(count, -1)
    return columns.reshape(len(matrix), frames, 3).transpose(1, 0, 2)


def _load(path: Path) -> object:
    """The matrix in an .npy, .npz or .pkl file."""
    if path.suffix.lower() == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f"{path} cannot be read as an .npy array ({error})") from error
    if path.suffix.lower() == ".npz":
        return entry(dict(read_npz(path, ["matrix"])), "matrix", path)
    return entry(read_pickle(path, ["matrix"]), "matrix", path)
