# SPDX-License-Identifier: Apache-2.0
"""Texture coordinates for bodies whose file has none, as the official SMPL files have none.

Each joint's part of the surface is unrolled as a cylinder around its bone, and the rectangles are
packed into the unit square. Hands and feet are no cylinders: a few of their faces share texels.
The result depends on the rest body alone, so the same file always gets the same coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["unwrap_body"]

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

_GUTTER = 2.0 / 256
"""Space around each rectangle, of the map's side."""
_ROUNDING = 1 << 20
"""Coordinates are rounded to this grid, so that no computer's last bit changes their hash."""


@dataclass(frozen=True)
class _Chart:
    """One part, unrolled."""

    faces: Ids
    """Which faces it has."""
    corners: Array
    """(faces, 3, 2) metres along the girth and along the bone, from the rectangle's corner."""
    size: Array
    """(2,) of the rectangle, metres."""


def unwrap_body(
    v_template: npt.NDArray[np.floating],
    faces: npt.NDArray[np.integer],
    lbs_weights: npt.NDArray[np.floating],
    joints: npt.NDArray[np.floating],
    parents: npt.NDArray[np.integer],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Texture coordinates of a body at rest.

    Args:
        v_template: (V, 3) mean body, metres.
        faces: (F, 3) triangles.
        lbs_weights: (V, J) share of each joint in each vertex.
        joints: (J, 3) at rest, metres.
        parents: (J,) of each joint; the root's is negative.

    Returns:
        vt (U, 2), 0 to 1, and ft (F, 3), the coordinate of each face corner.
    """
    points, triangles = np.asarray(v_template, np.float64), np.asarray(faces, np.int64)
    part_of_face = np.asarray(lbs_weights, np.float64)[triangles].sum(1).argmax(1)
    bones = np.asarray(joints, np.float64)
    axes = _bone_axes(bones, np.asarray(parents, np.int64))
    charts = [
        _unroll(points, triangles, np.flatnonzero(part_of_face == joint), bones[joint], axes[joint])
        for joint in np.unique(part_of_face)
    ]
    corners = np.zeros((len(triangles), 3, 2))
    scale, places = _pack(np.stack([chart.size for chart in charts]))
    for chart, place in zip(charts, places, strict=True):
        corners[chart.faces] = place + scale * chart.corners
    rounded = np.round(corners.reshape(-1, 2) * _ROUNDING).astype(np.int64)
    unique, indices = np.unique(rounded, axis=0, return_inverse=True)
    return (unique / _ROUNDING).astype(np.float32), indices.reshape(-1, 3).astype(np.int64)


def _bone_axes(joints: Array, parents: Ids) -> Array:
    """(J, 3) unit directions: to the mean child, or onwards from the parent at the tips."""
    axes = np.zeros_like(joints)
    for joint in range(len(joints)):
        children = np.flatnonzero(parents == joint)
        if len(children):
            axes[joint] = joints[children].mean(0) - joints[joint]
        elif parents[joint] >= 0:
            axes[joint] = joints[joint] - joints[parents[joint]]
    # the pelvis' children surround it, and bones of no length point nowhere: take the body's axis
    short = np.linalg.norm(axes, axis=1) < 0.02
    short[parents < 0] = True
    axes[short] = (0.0, 1.0, 0.0)
    return axes / np.linalg.norm(axes, axis=1, keepdims=True)


def _unroll(points: Array, faces: Ids, own: Ids, origin: Array, axis: Array) -> _Chart:
    corner_points = points[faces[own]]
    # around the part's own middle line, which need not run through the joint
    middle = corner_points.reshape(-1, 3).mean(0)
    middle = middle - axis * np.dot(middle - origin, axis)
    behind = np.array([0.0, 0.0, -1.0]) if abs(axis[2]) < 0.9 else np.array([0.0, -1.0, 0.0])
    ahead = -(behind - axis * np.dot(behind, axis))
    ahead /= np.linalg.norm(ahead)
    side = np.cross(axis, ahead)
    offset = corner_points - middle
    turns = np.arctan2(offset @ side, offset @ ahead) / (2 * np.pi)  # the seam is at the back
    crosses = turns.max(1) - turns.min(1) > 0.5
    turns[crosses] += turns[crosses] < 0
    radial = offset - (offset @ axis)[..., None] * axis
    girth = 2 * np.pi * np.linalg.norm(radial, axis=-1).mean()
    flat = np.stack([turns * girth, offset @ axis], axis=-1)
    low = flat.reshape(-1, 2).min(0)
    return _Chart(own, flat - low, flat.reshape(-1, 2).max(0) - low)


def _pack(sizes: Array) -> tuple[float, Array]:
    """Scale, and the lower left corner of each rectangle, so that all lie in the unit square."""
    order = np.argsort(-sizes[:, 1], kind="stable")
    scale = float(np.sqrt(1.0 / max(float(np.prod(sizes, axis=1).sum()), 1e-9)))
    while True:
        places = _shelves(sizes[order] * scale + _GUTTER)
        if places is not None:
            break
        scale *= 0.97
    back = np.empty_like(places)
    back[order] = places + _GUTTER / 2
    return scale, back


def _shelves(sizes: Array) -> Array | None:
    """Rectangles, tallest first, side by side on shelves; None where they do not fit."""
    places = np.zeros_like(sizes)
    x = y = shelf = 0.0
    for k, (width, height) in enumerate(sizes):
        if x + width > 1.0:
            x, y, shelf = 0.0, y + shelf, 0.0
        if width > 1.0 or y + height > 1.0:
            return None
        places[k] = (x, y)
        x, shelf = x + width, max(shelf, height)
    return places
