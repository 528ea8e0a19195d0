# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of clothing and hair: how they hang on a body at rest and follow a posed one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.spatial import cKDTree

from .body_map import BodyMap, clip_by_field, vertex_normals

__all__ = ["Piece", "cut_piece", "pose_piece", "rigid_piece"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """One mesh that a person wears."""

    name: str
    """What it is."""
    rest: Array
    """(G, 3) where its vertices are at rest, metres; patterns are projected from here."""
    faces: npt.NDArray[np.int64]
    """(H, 3) triangles."""
    weights: Array
    """(G, J) skinning weights."""
    anchor: sparse.csr_array | None
    """(G, V) the point of the body below each vertex; None where it hangs on joints alone."""
    offset: Array
    """(G, 3) from that point to the vertex at rest."""
    material: dict
    """How it looks; see `cycles_materials`."""
    clearance_m: float = 0.004
    """Least distance from the skin."""
    smoothing: int = 3
    """How often a posed vertex moves towards its neighbours' mean."""
    thickness_m: float = 0.003
    """Of the cloth, towards the body."""
    wrinkle_m: float = 0.0
    """Height of folds that change with the pose."""
    covers: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """(F,) faces of the body that it hides at all times; empty for none."""


def cut_piece(
    name: str,
    body: BodyMap,
    region: Array,
    offset: Array,
    material: dict,
    *,
    hide_margin_m: float = 0.02,
    **options: float,
) -> Piece:
    """A piece cut out of the body's own surface.

    Args:
        name: what it is.
        body: the person's map.
        region: (V,) positive where the piece is, in metres from its border.
        offset: (V, 3) from the skin to the cloth at rest.
        material: how it looks.
        hide_margin_m: skin further than this from the border is hidden.
        options: other fields of `Piece`.
    """
    faces, pairs, share = clip_by_field(body.faces, region)
    rows = np.arange(len(pairs))
    anchor = sparse.csr_array(
        (
            np.concatenate([1 - share, share]),
            (np.concatenate([rows, rows]), np.concatenate([pairs[:, 0], pairs[:, 1]])),
        ),
        shape=(len(pairs), len(body.rest)),
    )
    covers = (region > hide_margin_m)[body.faces].all(1)
    return Piece(
        name=name,
        rest=anchor @ body.rest,
        faces=faces,
        weights=anchor @ body.weights,
        anchor=anchor,
        offset=anchor @ offset,
        material=material,
        covers=covers,
        **options,
    )


def rigid_piece(
    name: str, rest: Array, faces: npt.NDArray[np.int64], weights: Array, material: dict
) -> Piece:
    """A piece that hangs on joints alone: hair, a bag.

    Args:
        name: what it is.
        rest: (G, 3) vertices at rest.
        faces: (H, 3) triangles.
        weights: (G, J) or (J,) skinning weights.
        material: how it looks.
    """
    return Piece(
        name=name,
        rest=rest,
        faces=faces,
        weights=np.broadcast_to(weights, (len(rest), weights.shape[-1])),
        anchor=None,
        offset=np.zeros_like(rest),
        material=material,
        smoothing=0,
        thickness_m=0.0,
    )


def pose_piece(
    piece: Piece, body: BodyMap, posed: Array, joint_matrices: Array, phase: float
) -> Array:
    """Where a piece is on a posed body.

    Args:
        piece: the piece.
        body: the person's map.
        posed: (V, 3) posed skin, SMPL's axes or the world's.
        joint_matrices: (J, 4, 4) rest to posed.
        phase: what folds depend on, radians; changes with the pose.

    Returns:
        (G, 3) vertices in the frame that `posed` is in.
    """
    motion = np.einsum("gj,jab->gab", piece.weights, joint_matrices)
    if piece.anchor is None:
        hung = np.einsum("gab,gb->ga", motion[:, :3, :3], piece.rest) + motion[:, :3, 3]
        if piece.smoothing == 0:
            return hung
        return _clear_of_skin(piece, hung, posed, body)
    skin = piece.anchor @ posed
    normals = piece.anchor @ vertex_normals(posed, body.faces)
    cloth = skin + np.einsum("gab,gb->ga", motion[:, :3, :3], piece.offset)
    cloth += normals * (piece.wrinkle_m * _folds(piece.rest, phase))[:, None]
    cloth = _smooth(piece, cloth)
    height = ((cloth - skin) * normals).sum(1)
    return cloth + normals * np.maximum(piece.clearance_m - height, 0)[:, None]


def _clear_of_skin(piece: Piece, cloth: Array, posed: Array, body: BodyMap) -> Array:
    """Free cloth pushed out of the body it would cut through."""
    legs = body.arm_share < 0.2
    skin, normals = posed[legs], vertex_normals(posed, body.faces)[legs]
    tree = cKDTree(skin)
    for _ in range(2):
        cloth = _smooth(piece, cloth)
        nearest = tree.query(cloth)[1]
        height = ((cloth - skin[nearest]) * normals[nearest]).sum(1)
        cloth = cloth + normals[nearest] * np.maximum(piece.clearance_m - height, 0)[:, None]
    return cloth


def _folds(rest: Array, phase: float) -> Array:
    """Heights of folds between -1 and 1: a few waves across the cloth."""
    directions = np.array([[38.0, 61, 12], [-52, 44, 31], [27, -83, 40], [71, 20, -45]])
    phases = phase * np.array([1.0, -1.7, 2.3, 0.8])
    return np.sin(rest @ directions.T + phases).mean(1)


def _smooth(piece: Piece, vertices: Array) -> Array:
    """Vertices after some steps towards their neighbours' mean; borders stay borders."""
    edges = np.sort(piece.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, uses = np.unique(edges, axis=0, return_counts=True)
    border = unique[uses == 1]
    on_border = np.zeros(len(vertices), bool)
    on_border[border] = True
    inner = unique[~on_border[unique].all(1)]
    links = np.concatenate([inner, inner[:, ::-1], border, border[:, ::-1]])
    keep = ~on_border[links[:, 0]] | on_border[links[:, 1]]
    links = links[keep]
    matrix = sparse.csr_array(
        (np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(len(vertices),) * 2
    )
    degree = np.maximum(matrix.sum(1), 1)[:, None]
    for _ in range(piece.smoothing):
        vertices = 0.5 * vertices + 0.5 * (matrix @ vertices) / degree
    return vertices
