# SPDX-License-Identifier: Apache-2.0
"""From a part and its coordinates u, v to a place on the body's faces: the user's mapping.

DensePose's mapping from charts to SMPL's surface may not be passed on: its users have it as
`UV_Processed.mat`, which is read as it is. posefit's own layout holds the same for any body.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat
from scipy.spatial import KDTree

from ..body import BodyModel
from ..unwrap import unwrap_body
from .errors import EvidenceError

__all__ = [
    "PARTS",
    "SurfaceCharts",
    "made_up_charts",
    "read_surface_charts",
    "write_surface_charts",
]

PARTS = 24
"""DensePose's parts, numbered from 1; 0 is no person."""
_SAMPLES_A_SIDE = 6
"""Each chart triangle is looked up at the points of a grid with so many rows."""


@dataclass(frozen=True)
class SurfaceCharts:
    """Triangles in charts, and the body's vertices at their corners."""

    part: npt.NDArray[np.int64]
    """(F,) 1 to 24."""
    uv: npt.NDArray[np.float64]
    """(F, 3, 2) of each corner, 0 to 1 in its part's chart."""
    corners: npt.NDArray[np.int64]
    """(F, 3) vertex of the body at each corner."""
    num_vertices: int
    """Of the body that `corners` index."""

    def __post_init__(self) -> None:
        faces = len(self.part)
        if self.uv.shape != (faces, 3, 2) or self.corners.shape != (faces, 3) or not faces:
            raise EvidenceError(
                f"the IUV mapping has parts {self.part.shape}, uv {self.uv.shape} and corners "
                f"{self.corners.shape}, expected (F,), (F, 3, 2) and (F, 3)"
            )
        if self.part.min() < 1 or self.part.max() > PARTS or not np.isfinite(self.uv).all():
            raise EvidenceError(
                f"the IUV mapping names parts {self.part.min()} to {self.part.max()}, expected 1 "
                f"to {PARTS} with finite uv"
            )
        if self.corners.min() < 0 or self.corners.max() >= self.num_vertices:
            raise EvidenceError("the IUV mapping names vertices that its body does not have")

    def check_body(self, body: BodyModel) -> None:
        """Raises EvidenceError unless the mapping's vertices are this body's."""
        if self.num_vertices != body.num_vertices:
            raise EvidenceError(
                f"the IUV mapping is for a body of {self.num_vertices} vertices, {body.name!r} has "
                f"{body.num_vertices}: give the body that it belongs to (DensePose's own is SMPL's)"
            )

    def finder(self) -> ChartFinder:
        """The charts ready to be asked."""
        return ChartFinder.of(self)


@dataclass(frozen=True)
class ChartFinder:
    """Looks up places on the surface; made once a mapping."""

    charts: SurfaceCharts
    face: npt.NDArray[np.int64]
    """(N,) face of each sample."""
    shares: npt.NDArray[np.float64]
    """(N, 3) barycentric coordinates of each sample."""
    trees: dict[int, tuple[KDTree, npt.NDArray[np.int64]]]
    """For each part its samples in u, v, and which they are."""

    @classmethod
    def of(cls, charts: SurfaceCharts) -> ChartFinder:
        """Samples every triangle evenly."""
        n = _SAMPLES_A_SIDE
        grid = np.array([(i, j, n - 1 - i - j) for i in range(n) for j in range(n - i)]) / (n - 1)
        # Pulled inside a little: a corner's sample stands for its own face.
        grid = 0.94 * grid + 0.02
        face = np.repeat(np.arange(len(charts.part)), len(grid))
        shares = np.tile(grid, (len(charts.part), 1))
        places = np.einsum("fkc,sk->fsc", charts.uv, grid).reshape(-1, 2)
        trees = {}
        for part in np.unique(charts.part):
            own = np.flatnonzero(charts.part[face] == part)
            trees[int(part)] = KDTree(places[own]), own
        return cls(charts, face, shares, trees)

    def find(
        self, part: npt.NDArray[np.integer], uv: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Places on the surface.

        Args:
            part: (N,) 1 to 24.
            uv: (N, 2) 0 to 1.

        Returns:
            Corners (N, 3), barycentric shares (N, 3), and how far off in u, v the place is (N,);
            infinite for parts that the mapping lacks.
        """
        corners = np.zeros((len(part), 3), np.int64)
        shares = np.zeros((len(part), 3))
        off = np.full(len(part), np.inf)
        for key, (tree, own) in self.trees.items():
            asked = np.flatnonzero(part == key)
            if not len(asked):
                continue
            off[asked], nearest = tree.query(uv[asked])
            sample = own[nearest]
            corners[asked] = self.charts.corners[self.face[sample]]
            shares[asked] = self.shares[sample]
        return corners, shares, off


def read_surface_charts(path: Path) -> SurfaceCharts:
    """The user's mapping: posefit's `.npz`, or DensePose's `UV_Processed.mat` as it is.

    Raises:
        EvidenceError: the file is missing or of another layout.
    """
    if not path.is_file():
        raise EvidenceError(f"no IUV mapping at {path}: check the path (docs/evidence.md)")
    try:
        if path.suffix.lower() == ".mat":
            return _from_mat(path)
        with np.load(path, allow_pickle=False) as data:
            return SurfaceCharts(
                data["part"].astype(np.int64),
                data["uv"].astype(np.float64),
                data["corners"].astype(np.int64),
                int(data["num_vertices"]),
            )
    except (OSError, ValueError, KeyError, NotImplementedError, TypeError) as error:
        raise EvidenceError(
            f"{path.name} is no IUV mapping ({error}): expected part, uv, corners and num_vertices "
            "in an .npz, or DensePose's UV_Processed.mat"
        ) from error


def write_surface_charts(path: Path, charts: SurfaceCharts) -> None:
    """Writes posefit's layout."""
    np.savez_compressed(
        path,
        part=charts.part.astype(np.uint8),
        uv=charts.uv.astype(np.float32),
        corners=charts.corners.astype(np.int32),
        num_vertices=charts.num_vertices,
    )


def _from_mat(path: Path) -> SurfaceCharts:
    """DensePose's file: chart vertices with U, V, and the SMPL vertex that each one is.

    Source: DensePose's DensePoseMethods (All_Faces and All_vertices count from 1).
    """
    data = loadmat(path)
    faces = data["All_Faces"].astype(np.int64) - 1
    vertices = data["All_vertices"].reshape(-1).astype(np.int64) - 1
    uv = np.stack([data["All_U_norm"].reshape(-1), data["All_V_norm"].reshape(-1)], -1)
    return SurfaceCharts(
        part=data["All_FaceIndices"].reshape(-1).astype(np.int64),
        uv=uv[faces].astype(np.float64),
        corners=vertices[faces],
        num_vertices=int(vertices.max()) + 1,
    )


def made_up_charts(body: BodyModel) -> SurfaceCharts:
    """Charts of our own for tests and comparisons: a cylinder a joint. They are not DensePose's.

    Args:
        body: of 24 joints, or more: those beyond the 24th count as their parent's part.
    """
    joints = body.joint_template.double().cpu().numpy()
    parents = np.array(body.parents)
    weights = body.lbs_weights.double().cpu().numpy()
    owner = np.arange(len(parents))
    for joint in range(PARTS, len(parents)):
        owner[joint] = owner[parents[joint]]
    gathered = np.zeros((len(weights), PARTS))
    np.add.at(gathered.T, owner, weights.T)
    faces = body.faces.cpu().numpy()
    vt, ft = unwrap_body(
        body.v_template.cpu().numpy(), faces, gathered, joints[:PARTS], parents[:PARTS]
    )
    part = gathered[faces].sum(1).argmax(1)
    uv = vt.astype(np.float64)[ft]
    for key in np.unique(part):
        own = part == key
        low, high = uv[own].reshape(-1, 2).min(0), uv[own].reshape(-1, 2).max(0)
        uv[own] = (uv[own] - low) / np.maximum(high - low, 1e-9)
    return SurfaceCharts(part.astype(np.int64) + 1, uv, faces, body.num_vertices)
