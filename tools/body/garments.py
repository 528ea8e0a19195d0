# SPDX-License-Identifier: Apache-2.0
"""MakeHuman's garment helpers (tights, skirt, hair) as clothes of the free body.

They dress the people of training pictures. Tights take their weights and correctives from the skin
below, so skin does not come through where it bends; the skirt hangs between the legs and keeps
MakeHuman's weights; hair is cut away from the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from skin_mesh import smooth_over_mesh, triangulate
from skin_weights import four_joints_a_vertex
from source_model import SourceModel

__all__ = ["Garment", "Wearer", "build_garments", "garment_fields", "vertex_normals"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_CLOSE_M = 0.06
_NEIGHBOURS = 6


@dataclass(frozen=True)
class Wearer:
    """The finished body, T-posed."""

    v_template: Array
    """(V, 3) metres."""
    faces: Indices
    """(F, 3)"""
    lbs_weights: Array
    """(V, 24)"""
    posedirs: Array
    """(V, 3, 207)"""
    betas: Array
    """(N, 10) coefficients of the sample that the body was made from."""
    landmarks: dict[str, int]
    """Surface points by name."""


@dataclass(frozen=True)
class Garment:
    """One garment as a body of its own: same joints, same coefficients."""

    vertices: Array
    """(G, 3) on the mean body, T-posed."""
    faces: Indices
    """(H, 3)"""
    uvs: Array
    """(U, 2)"""
    texture_faces: Indices
    """(H, 3)"""
    shapedirs: Array
    """(G, 3, 10)"""
    weights: Array
    """(G, 24)"""
    posedirs: Array
    """(G, 3, 207)"""
    covering_face: Indices
    """(F,) for each face of the body, the garment's face over it; −1 where it is bare."""


def build_garments(
    source: SourceModel, samples: npt.NDArray[np.float32], weights: Array, wearer: Wearer
) -> dict[str, Garment]:
    """Tights, skirt and hair.

    Args:
        source: the base mesh with its helpers.
        samples: (N, base vertices, 3) T-posed bodies with all helpers, metres.
        weights: (base vertices, 24) MakeHuman's weights.
        wearer: the finished body.

    Returns:
        The garments by name.
    """
    return {name: _build(name, source, samples, weights, wearer) for name in source.helpers}


def _build(
    name: str,
    source: SourceModel,
    samples: npt.NDArray[np.float32],
    weights: Array,
    wearer: Wearer,
) -> Garment:
    quads, corners = source.helpers[name]
    mean = samples.mean(axis=0, dtype=np.float64)
    faces, texture_faces = triangulate(quads, corners, mean)
    if name == "hair":
        kept = _off_the_face(mean[faces].mean(axis=1), wearer)
        faces, texture_faces = faces[kept], texture_faces[kept]
    used, faces = np.unique(faces, return_inverse=True)
    used_uvs, texture_faces = np.unique(texture_faces, return_inverse=True)
    faces, texture_faces = faces.reshape(-1, 3), texture_faces.reshape(-1, 3)
    vertices, shapedirs = _shape(samples[:, used], wearer.betas)
    own_weights = weights[used]
    posedirs = np.zeros((len(used), 3, wearer.posedirs.shape[2]))
    if name == "tights":
        own_weights, posedirs = _from_skin(vertices, faces, wearer)
    else:
        own_weights = smooth_over_mesh(own_weights, faces, np.full(len(used), 0.5), 3)
    return Garment(
        vertices=vertices,
        faces=faces,
        uvs=source.helper_uvs[used_uvs],
        texture_faces=texture_faces,
        shapedirs=shapedirs,
        weights=four_joints_a_vertex(own_weights),
        posedirs=posedirs,
        covering_face=_COVERS[name](vertices, faces, wearer),
    )


def _shape(samples: npt.NDArray[np.float32], betas: Array) -> tuple[Array, Array]:
    flat = samples.reshape(len(samples), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    directions = np.linalg.lstsq(betas, flat - mean, rcond=None)[0]
    shape = samples.shape[1:]
    return mean.reshape(shape), directions.T.reshape(*shape, betas.shape[1])


def _off_the_face(middles: Array, wearer: Wearer) -> npt.NDArray[np.bool_]:
    """Hair that leaves face and throat free and ends at the shoulders."""
    points, landmarks = wearer.v_template, wearer.landmarks
    ear = points[landmarks["left_ear"]]
    eye_height = points[landmarks["left_eye"], 1]
    hairline = eye_height + 0.055
    chin_to_shoulder = points[landmarks["nose"], 1] - 0.16
    is_front = middles[:, 2] > ear[2] - 0.005
    is_below_hairline = middles[:, 1] < hairline
    return ~(is_front & is_below_hairline) & (middles[:, 1] > chin_to_shoulder)


def _from_skin(vertices: Array, faces: Indices, wearer: Wearer) -> tuple[Array, Array]:
    """Weights and correctives of the nearest skin that faces the same way."""
    skin_normals = vertex_normals(wearer.v_template, wearer.faces)
    normals = vertex_normals(vertices, faces)
    distance, index = cKDTree(wearer.v_template).query(vertices, k=24)
    agrees = np.einsum("gkc,gc->gk", skin_normals[index], normals) > 0.3
    closeness = np.where(agrees, 1 / (distance + 2e-3) ** 2, 0)
    closeness[~agrees.any(axis=1)] = 1
    rank = np.argsort(np.argsort(-closeness, axis=1), axis=1)
    closeness[rank >= _NEIGHBOURS] = 0
    closeness /= closeness.sum(axis=1, keepdims=True)
    weights = np.einsum("gk,gkj->gj", closeness, wearer.lbs_weights[index])
    flat = wearer.posedirs.reshape(len(wearer.posedirs), -1)
    posedirs = sum(closeness[:, k, None] * flat[index[:, k]] for k in range(24))
    return weights, posedirs.reshape(len(vertices), 3, -1)


def _close_over(vertices: Array, faces: Indices, wearer: Wearer) -> Indices:
    """The garment's face just above each face of the body, for garments that lie close."""
    skin = wearer.v_template[wearer.faces]
    middles = skin.mean(axis=1)
    normals = np.cross(skin[:, 1] - skin[:, 0], skin[:, 2] - skin[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    cloth = vertices[faces]
    cloth_middles = cloth.mean(axis=1)
    radius = np.linalg.norm(cloth - cloth_middles[:, None], axis=2).max(axis=1)
    distance, index = cKDTree(cloth_middles).query(middles, k=12)
    offset = cloth_middles[index] - middles[:, None]
    height = np.einsum("fkc,fc->fk", offset, normals)
    aside = np.linalg.norm(offset - height[..., None] * normals[:, None], axis=2)
    is_over = (height > -0.01) & (distance < _CLOSE_M) & (aside < 0.8 * radius[index])
    first = np.argmax(is_over, axis=1)
    chosen = index[np.arange(len(index)), first]
    return np.where(is_over.any(axis=1), chosen, -1)


def _inside_tube(vertices: Array, faces: Indices, wearer: Wearer) -> Indices:
    """The garment's face around each face of the body, for a garment that hangs about an axis."""
    middles = wearer.v_template[wearer.faces].mean(axis=1)
    cloth_middles = vertices[faces].mean(axis=1)
    centre = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))[[0, 2]]

    def around(points: Array) -> tuple[Array, Array]:
        flat = points[:, [0, 2]] - centre
        angle = np.arctan2(flat[:, 1], flat[:, 0])
        place = np.stack([0.3 * np.cos(angle), 0.3 * np.sin(angle), points[:, 1]], axis=1)
        return place, np.linalg.norm(flat, axis=1)

    skin_place, skin_radius = around(middles)
    cloth_place, cloth_radius = around(cloth_middles)
    _, index = cKDTree(cloth_place).query(skin_place)
    low, high = vertices[:, 1].min() + 0.02, vertices[:, 1].max() - 0.035
    is_level = (middles[:, 1] > low) & (middles[:, 1] < high)
    return np.where(is_level & (skin_radius < cloth_radius[index] + 0.01), index, -1)


def _covers_nothing(_vertices: Array, _faces: Indices, wearer: Wearer) -> Indices:
    """Hair has gaps, and moves with the head alone: the scalp below must stay."""
    return np.full(len(wearer.faces), -1)


_COVERS = {"tights": _close_over, "skirt": _inside_tube, "hair": _covers_nothing}


def vertex_normals(vertices: Array, faces: Indices) -> Array:
    """(V, 3) unit normals, weighted by face area."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)


def garment_fields(garments: dict[str, Garment]) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of the garment file: `NAME_v`, `NAME_f`, `NAME_weights`, …"""
    fields: dict[str, npt.NDArray[np.generic]] = {}
    for name, garment in garments.items():
        fields |= {
            f"{name}_v": garment.vertices.astype(np.float32),
            f"{name}_f": garment.faces.astype(np.int32),
            f"{name}_uv": garment.uvs.astype(np.float32),
            f"{name}_uv_f": garment.texture_faces.astype(np.int32),
            f"{name}_shapedirs": garment.shapedirs.astype(np.float16),
            f"{name}_weights": garment.weights.astype(np.float32),
            f"{name}_posedirs": garment.posedirs.astype(np.float16),
            f"{name}_covering_face": garment.covering_face.astype(np.int32),
        }
    return fields
