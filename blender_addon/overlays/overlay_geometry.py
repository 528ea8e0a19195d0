# SPDX-License-Identifier: GPL-3.0-or-later
"""What is drawn over a body, as arrays: colours, a skinned ghost, arrows (numpy only).

Colours run from orange (look here) through a pale grey to blue (fine): the pair that people with
any of the common colour blindnesses tell apart. Nothing known is a middle grey.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

BAD, MIDDLE, GOOD = (0.84, 0.32, 0.0), (0.93, 0.92, 0.87), (0.0, 0.38, 0.66)
"""sRGB; the ends are vermilion and blue of Okabe and Ito's palette, a little darker."""
_FROM_MIDDLE = np.array([BAD, GOOD], np.float32) - np.float32(MIDDLE)
UNKNOWN = (0.45, 0.45, 0.45)
GHOST = (0.94, 0.89, 0.26)
"""sRGB; the palette's yellow, which neither the ramp nor Blender's selection uses."""

_LIGHT = np.array([0.35, -0.55, 0.76])
"""Where the light of the drawn bodies comes from, world: in front, above, to one side."""
_SHADE = 0.35
"""How much darker than lit skin the far side is."""
_CLEAR, _DENSE = 0.06, 0.85
"""Opacity of a ghost where it faces the view, and at its outline."""
_HEAD_SHARE, _HEAD_WIDTH = 0.3, 0.12
"""Length of an arrow's head, and half its width, in shares of the arrow."""


def goodness_of_confidence(confidence: npt.ArrayLike, threshold: float) -> Array:
    """Places on the ramp, 0 (bad) to 1: the pale middle lies at the threshold.

    Args:
        confidence: 0 to 1, NaN where not known.
        threshold: what is doubtful below, above 0.
    """
    threshold = min(max(threshold, 1e-3), 1 - 1e-3)
    return np.interp(np.asarray(confidence, np.float64), [0.0, threshold, 1.0], [0.0, 0.5, 1.0])


def goodness_of_change(moved_mm: npt.ArrayLike, limit_mm: float) -> Array:
    """Places on the ramp: 1 (blue) for what stayed, 0 (orange) from the limit on."""
    return 1.0 - np.clip(np.asarray(moved_mm, np.float64) / limit_mm, 0.0, 1.0)


def ramp_colours(goodness: npt.ArrayLike) -> FloatArray:
    """sRGB colours (N, 3) for places on the ramp (N,); grey where they are NaN."""
    goodness = np.asarray(goodness, np.float32)
    sides = np.stack([1 - 2 * goodness, 2 * goodness - 1], -1)  # how far to either end
    found = np.float32(MIDDLE) + np.clip(sides, 0, 1) @ _FROM_MIDDLE
    found[np.isnan(goodness)] = UNKNOWN
    return found


def skin_colours(weights: FloatArray, goodness: npt.ArrayLike) -> FloatArray:
    """sRGB colours (V, 3) of skin: those of the places that its joints have on the ramp, blended.

    Args:
        weights: (V, J) skinning weights, summing to one or all zero.
        goodness: (J,) places on the ramp; as far as a joint with NaN moves a vertex, that is grey.
    """
    goodness = np.asarray(goodness, np.float64)
    is_known = np.isfinite(goodness)
    both = np.stack([np.where(is_known, goodness, 0.0), is_known], -1).astype(np.float32)
    total, known = (weights @ both).T
    colours = ramp_colours(total / np.maximum(known, 1e-6))
    grey = np.float32(UNKNOWN)
    return grey + np.minimum(known, 1)[:, None] * (colours - grey)


def shaded(colours: npt.ArrayLike, normals: npt.ArrayLike, opacity: float) -> FloatArray:
    """RGBA (V, 4) of colours (3,) or (V, 3) under a light that stands still, so that form shows.

    Args:
        colours: sRGB.
        normals: (V, 3) world, of any length.
        opacity: alpha of all.
    """
    normals = np.asarray(normals, np.float32)
    length = np.maximum(np.sqrt(np.einsum("vi,vi->v", normals, normals)), 1e-9)
    lit = normals @ (_LIGHT / np.linalg.norm(_LIGHT)).astype(np.float32) / length
    result = np.empty((len(normals), 4), np.float32)
    result[:, :3] = np.asarray(colours, np.float32) * (1 - _SHADE * (1 - lit[:, None]) / 2)
    result[:, 3] = opacity
    return result


def rim_colours(
    colour: tuple[float, float, float],
    points: npt.ArrayLike,
    normals: npt.ArrayLike,
    view_matrix: npt.ArrayLike,
    is_perspective: bool,
) -> FloatArray:
    """RGBA (V, 4) of a body like a soap bubble: clear in the middle, dense at its outline.

    Args:
        colour: sRGB.
        points: (V, 3) world.
        normals: (V, 3) world, of any length.
        view_matrix: (4, 4) world to view; the view looks along −z.
        is_perspective: whether lines of sight meet in the view's origin.
    """
    view_matrix = np.asarray(view_matrix, np.float32)
    normals = np.asarray(normals, np.float32) @ view_matrix[:3, :3].T
    sight = np.float32([[0, 0, 1]])
    if is_perspective:
        sight = np.asarray(points, np.float32) @ view_matrix[:3, :3].T + view_matrix[:3, 3]
    lengths = np.einsum("vi,vi->v", normals, normals) * np.einsum("vi,vi->v", sight, sight)
    facing = np.abs(np.einsum("vi,vi->v", *np.broadcast_arrays(normals, sight)))
    facing /= np.sqrt(np.maximum(lengths, 1e-18))
    result = np.empty((len(normals), 4), np.float32)
    result[:, :3] = colour
    result[:, 3] = _CLEAR + (_DENSE - _CLEAR) * np.clip(1 - facing, 0, 1) ** 2
    return result


def skinned(
    rest: npt.ArrayLike, normals: npt.ArrayLike, weights: FloatArray, transforms: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Vertices (V, 3) and normals (V, 3) that bones move, by linear blend skinning.

    Args:
        rest: (V, 3) where vertices lie while bones rest.
        normals: (V, 3) there.
        weights: (V, J) summing to one where a vertex is moved at all; others stay where they are.
        transforms: (J, 4, 4) of each bone against its rest, P · R⁻¹.
    """
    rows = np.asarray(transforms, np.float64)[:, :3].reshape(-1, 12)
    still = np.eye(4)[:3].reshape(12)
    blended = weights @ (rows - still).astype(np.float32) + still.astype(np.float32)
    blended = blended.reshape(-1, 3, 4)
    rest, normals = np.asarray(rest, np.float32), np.asarray(normals, np.float32)
    moved = np.einsum("vab,vb->va", blended[..., :3], rest) + blended[..., 3]
    return moved, np.einsum("vab,vb->va", blended[..., :3], normals)


def bone_lines(heads: npt.ArrayLike, tails: npt.ArrayLike, parents: tuple[int, ...]) -> IntArray:
    """Pairs (N, 2) among heads and tails (2·J points, heads first): each joint to its parent.

    Joints without children are drawn to the tail of their bone.
    """
    count = len(np.asarray(heads))
    assert len(np.asarray(tails)) == count
    pairs = [(parent, joint) for joint, parent in enumerate(parents) if parent >= 0]
    ends = [(joint, count + joint) for joint in range(count) if joint not in parents]
    return np.array([*pairs, *ends], np.int32)


def arrow_lines(starts: npt.ArrayLike, ends: npt.ArrayLike, shortest: float) -> FloatArray:
    """Arrows as pairs of points (N, 6, 3): a shaft and the two sides of its head.

    Args:
        starts: (J, 3).
        ends: (J, 3).
        shortest: arrows shorter than this are left out.
    """
    starts, ends = np.asarray(starts, np.float64), np.asarray(ends, np.float64)
    along = ends - starts
    length = np.linalg.norm(along, axis=-1)
    chosen = np.flatnonzero(length >= max(shortest, 1e-9))
    starts, ends, along = starts[chosen], ends[chosen], along[chosen]
    # Across the arrow, and as level as can be: seen from the side, the head stays open.
    level = np.cross(along, (0.0, 0.0, 1.0))
    is_upright = np.linalg.norm(level, axis=-1) < 1e-3 * length[chosen]
    level[is_upright] = np.cross(along[is_upright], (0.0, 1.0, 0.0))
    level /= np.maximum(np.linalg.norm(level, axis=-1, keepdims=True), 1e-12)
    level *= _HEAD_WIDTH * length[chosen][:, None]
    back = ends - _HEAD_SHARE * along
    points = np.stack([starts, ends, ends, back + level, ends, back - level], 1)
    return points.astype(np.float32)
