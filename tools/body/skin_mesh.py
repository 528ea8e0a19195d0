# SPDX-License-Identifier: Apache-2.0
"""The closed triangle mesh of the skin, cut out of MakeHuman's base mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from source_model import SourceModel

__all__ = ["SkinMesh", "build_skin_mesh", "smooth_over_mesh", "triangulate"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_EYE_BULGE = 0.32
"""How far an eye's middle stands out of its lids' plane, as a share of the opening's radius."""


@dataclass(frozen=True)
class SkinMesh:
    """Triangles of the skin, and which source vertices they use."""

    source_vertices: Indices
    """(S,) vertices of the base mesh; the skin's first S vertices."""
    faces: Indices
    """(F, 3) counter-clockwise from outside."""
    texture_faces: Indices
    """(F, 3) texture coordinate of each corner."""
    uvs: Array
    """(U, 2)"""
    openings: tuple[Indices, ...]
    """Rims that were closed, as skin vertices in order, counter-clockwise from outside."""
    eye_openings: tuple[int, int]
    """Which openings are the left and the right eye; each got a vertex in its middle."""

    @property
    def num_vertices(self) -> int:
        """Skin vertices: those of the source, then the middles of the eyes."""
        return len(self.source_vertices) + len(self.eye_openings)

    def take(self, values: Array) -> Array:
        """Values at the skin's vertices, from values at the base mesh's (…, V, C).

        The middle of an eye takes the mean of its lids' rim.
        """
        own = values[..., self.source_vertices, :]
        middles = [
            own[..., self.openings[opening], :].mean(axis=-2, keepdims=True)
            for opening in self.eye_openings
        ]
        return np.concatenate([own, *middles], axis=-2)

    def take_points(self, points: Array) -> Array:
        """As `take`, for positions (N, V, 3): the eyes bulge."""
        taken = self.take(points)
        for k, opening in enumerate(self.eye_openings):
            rim = taken[:, self.openings[opening]]
            spokes = rim - rim.mean(axis=1, keepdims=True)
            normal = np.cross(spokes, np.roll(spokes, -1, axis=1)).sum(axis=1)
            normal /= np.linalg.norm(normal, axis=1, keepdims=True)
            radius = np.linalg.norm(spokes, axis=2).mean(axis=1)[:, None]
            taken[:, len(self.source_vertices) + k] += _EYE_BULGE * radius * normal
        return taken


def build_skin_mesh(source: SourceModel, mean_points: Array, head_height: float) -> SkinMesh:
    """The outer skin as one watertight surface.

    Mouth, nostrils and eye sockets are cut away and their rims closed: eyes by a fan, the others
    by a strip across.

    Args:
        source: the base mesh.
        mean_points: (V, 3) T-posed mean of the base mesh, y up, metres.
        head_height: y above which openings are looked for as eyes.

    Returns:
        The mesh.
    """
    is_inner = np.isin(source.quads, source.inner_vertices).all(axis=1)
    quads, quad_uvs = source.quads[~is_inner], source.quad_uvs[~is_inner]
    faces, texture_faces = triangulate(quads, quad_uvs, mean_points)
    rims = _rims(faces)
    eyes = _find_eyes(rims, mean_points, head_height)
    used = np.unique(faces)
    remap = np.full(len(mean_points), -1)
    remap[used] = np.arange(len(used))
    texture_of = dict(zip(faces.ravel().tolist(), texture_faces.ravel().tolist(), strict=True))
    caps, texture_caps, uvs = [remap[faces]], [texture_faces], source.uvs
    for index, rim in enumerate(rims):
        rim_uvs = np.array([texture_of[vertex] for vertex in rim.tolist()])
        if index in eyes:
            middle, middle_uv = len(used) + eyes.index(index), len(uvs)
            uvs = np.concatenate([uvs, uvs[rim_uvs].mean(axis=0, keepdims=True)])
            caps.append(_fan(remap[rim], middle))
            texture_caps.append(_fan(rim_uvs, middle_uv))
        else:
            strip = _strip(mean_points[rim])
            caps.append(remap[rim][strip])
            texture_caps.append(rim_uvs[strip])
    all_texture = np.concatenate(texture_caps)
    used_uvs, texture_faces = np.unique(all_texture, return_inverse=True)
    return SkinMesh(
        source_vertices=used,
        faces=np.concatenate(caps),
        texture_faces=texture_faces.reshape(all_texture.shape),
        uvs=uvs[used_uvs],
        openings=tuple(remap[rim] for rim in rims),
        eye_openings=eyes,
    )


def triangulate(quads: Indices, corners: Indices, points: Array) -> tuple[Indices, Indices]:
    """Quads cut along their shorter diagonal; all first halves, then all second halves.

    Args:
        quads: (Q, 4) vertices.
        corners: (Q, 4) what each corner carries besides (texture coordinates).
        points: (V, 3) positions that decide.

    Returns:
        Triangles (2Q, 3), and what their corners carry.
    """
    first = np.linalg.norm(points[quads[:, 0]] - points[quads[:, 2]], axis=1)
    second = np.linalg.norm(points[quads[:, 1]] - points[quads[:, 3]], axis=1)
    is_first = (first <= second)[:, None]

    def cut(values: Indices) -> Indices:
        upper = np.where(is_first, values[:, [0, 1, 2]], values[:, [0, 1, 3]])
        lower = np.where(is_first, values[:, [0, 2, 3]], values[:, [1, 2, 3]])
        return np.concatenate([upper, lower])

    return cut(quads), cut(corners)


def smooth_over_mesh(values: Array, faces: Indices, strength: Array, rounds: int) -> Array:
    """Values at vertices, drawn towards their neighbours' mean.

    Args:
        values: (V, C).
        faces: triangles that say who neighbours whom.
        strength: (V,) 0…1, how far one round draws each vertex.
        rounds: how many.

    Returns:
        (V, C) smoothed values.
    """
    count = len(values)
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    ones = np.ones(len(edges))
    links = sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()
    links = ((links + links.T) > 0).astype(np.float64)
    mean = sparse.diags(1 / np.asarray(links.sum(axis=1)).ravel()) @ links
    for _ in range(rounds):
        values = values + strength[:, None] * (mean @ values - values)
    return values


def _rims(faces: Indices) -> list[Indices]:
    """Boundary loops, in the order that makes caps face outwards."""
    edges = {
        edge for face in faces.tolist() for edge in zip(face, face[1:] + face[:1], strict=True)
    }
    following = {b: a for a, b in edges if (b, a) not in edges}
    rims = []
    while following:
        start = min(following)
        rim = [start]
        vertex = following.pop(start)
        while vertex != start:
            rim.append(vertex)
            vertex = following.pop(vertex)
        rims.append(np.array(rim))
    return rims


def _find_eyes(rims: list[Indices], points: Array, head_height: float) -> tuple[int, int]:
    middles = np.array([points[rim].mean(axis=0) for rim in rims])
    sizes = np.array([len(rim) for rim in rims])
    is_candidate = (middles[:, 1] > head_height) & (np.abs(middles[:, 0]) > 0.02)
    if is_candidate.sum() < 2:
        raise RuntimeError(f"found {is_candidate.sum()} openings beside the nose, expected 2 eyes")
    left = max(np.flatnonzero(is_candidate & (middles[:, 0] > 0)), key=lambda i: sizes[i])
    right = max(np.flatnonzero(is_candidate & (middles[:, 0] < 0)), key=lambda i: sizes[i])
    return int(left), int(right)


def _fan(rim: Indices, middle: int) -> Indices:
    return np.stack([rim, np.roll(rim, -1), np.full(len(rim), middle)], axis=1)


def _strip(points: Array) -> Indices:
    """Triangles across a rim the short way, as places in the rim."""
    count = len(points)
    start = int(np.argmax(np.linalg.norm(points - points.mean(axis=0), axis=1)))
    order = np.roll(np.arange(count), -start)
    low, high, from_low, triangles = 0, count - 1, True, []
    while high - low > 1:
        if from_low:
            triangles.append((order[low], order[low + 1], order[high]))
            low += 1
        else:
            triangles.append((order[low], order[high - 1], order[high]))
            high -= 1
        from_low = not from_low
    return np.array(triangles)
