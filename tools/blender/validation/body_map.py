# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are on one person's body at rest: what clothes are cut and draped by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posefit_shared.body_arrays import BodyArrays

__all__ = ["BodyMap", "clip_by_field", "map_body", "vertex_normals"]

Array = npt.NDArray[np.float64]
Faces = npt.NDArray[np.int64]

ARM_JOINTS = (16, 17, 18, 19, 20, 21, 22, 23)
LEG_JOINTS = (1, 2, 4, 5, 7, 8, 10, 11)
HEAD = 15


@dataclass(frozen=True)
class BodyMap:
    """One person at rest: y up, facing +z, arms along x, metres."""

    rest: Array
    """(V, 3) shaped surface, no pose."""
    normals: Array
    """(V, 3) its normals."""
    joints: Array
    """(J, 3) shaped joints."""
    faces: Faces
    """(F, 3) triangles."""
    weights: Array
    """(V, J) skinning weights."""
    landmarks: dict[str, int]
    """Named vertices."""

    @property
    def arm_share(self) -> Array:
        """(V,) how much each vertex belongs to an arm, 0 to 1."""
        return self.weights[:, ARM_JOINTS].sum(1)

    @property
    def leg_coordinate(self) -> Array:
        """(V,) 0 at the hips' height, 1 at the knees', 2 at the ankles', 3 a shin further down."""
        hip, knee, ankle = (self.joints[[left, left + 1], 1].mean() for left in (1, 4, 7))
        levels = [ankle - (knee - ankle), ankle, knee, hip, hip + (hip - knee)]
        return np.interp(self.rest[:, 1], levels, [3.0, 2.0, 1.0, 0.0, -1.0])

    @property
    def arm_coordinate(self) -> Array:
        """(V,) 0 at the shoulders, 1 at the elbows, 2 at the wrists, by distance from the middle;
        -1 in the middle."""
        shoulder, elbow, wrist = (np.abs(self.joints[[i, i + 1], 0]).mean() for i in (16, 18, 20))
        across = np.abs(self.rest[:, 0])
        return np.interp(across, [0, shoulder, elbow, wrist, 2 * wrist], [-1.0, 0, 1, 2, 4])


def map_body(body: BodyArrays, betas: npt.ArrayLike) -> BodyMap:
    """The map of one person.

    Args:
        body: the body model.
        betas: (N,) shape.
    """
    rest = body.v_template.astype(np.float64) + body.shapedirs.astype(np.float64) @ np.asarray(
        betas, np.float64
    )
    faces = body.faces.astype(np.int64)
    return BodyMap(
        rest=rest,
        normals=vertex_normals(rest, faces),
        joints=body.J_regressor.astype(np.float64) @ rest,
        faces=faces,
        weights=body.lbs_weights.astype(np.float64),
        landmarks=dict(body.landmarks),
    )


def vertex_normals(vertices: Array, faces: Faces) -> Array:
    """Unit normals (V, 3), each the area-weighted mean of its faces'."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def clip_by_field(faces: Faces, field: Array) -> tuple[Faces, npt.NDArray[np.int64], Array]:
    """The part of a mesh where a field is positive, cut along the field's zero line.

    Args:
        faces: (F, 3) triangles.
        field: (V,) value at each vertex, taken as linear along edges.

    Returns:
        The part's triangles, and for each of its vertices the two source vertices (N, 2) and the
        share (N,) of the second.
    """
    inside = field > 0
    count = inside[faces].sum(1)
    triangles: list[tuple[tuple[int, int], ...]] = [
        ((a, a), (b, b), (c, c)) for a, b, c in faces[count == 3].tolist()
    ]
    for face in faces[(count == 1) | (count == 2)].tolist():
        lone = [v for v in face if inside[v] == (inside[face].sum() == 1)][0]
        start = face.index(lone)
        a, b, c = face[start], face[(start + 1) % 3], face[(start + 2) % 3]
        ab, ac = (min(a, b), max(a, b)), (min(a, c), max(a, c))
        if inside[a]:
            triangles.append(((a, a), ab, ac))
        else:
            triangles += [(ab, (b, b), (c, c)), (ab, (c, c), ac)]
    pairs, corner = np.unique(np.array(triangles).reshape(-1, 2), axis=0, return_inverse=True)
    start, end = field[pairs[:, 0]], field[pairs[:, 1]]
    step = np.where(pairs[:, 0] == pairs[:, 1], 1.0, start - end)
    share = np.where(pairs[:, 0] == pairs[:, 1], 0.0, start / step)
    return corner.reshape(-1, 3), pairs, share
