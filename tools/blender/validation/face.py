# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours of the skin: lips, brows and eyes where the body's landmarks say they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .body_map import BodyMap

__all__ = ["skin_colors"]

Array = npt.NDArray[np.float64]


def skin_colors(body: BodyMap, tone: Array) -> Array:
    """Linear colour of each vertex of the skin.

    Args:
        body: whose skin.
        tone: (3,) its colour.

    Returns:
        (V, 3); the plain tone where the body names no eyes or nose.
    """
    colors = np.tile(tone, (len(body.rest), 1))
    if not {"nose", "left_eye", "right_eye"} <= body.landmarks.keys():
        return colors
    nose = body.rest[body.landmarks["nose"]]
    eyes = [body.rest[body.landmarks[name]] for name in ("left_eye", "right_eye")]
    apart = np.linalg.norm(eyes[0] - eyes[1])
    front = body.rest[:, 2] > eyes[0][2] - 0.03
    below = nose + [0, -0.62 * apart, 0]
    _paint(colors, body.rest, front, below, (0.42, 0.16), apart, tone * [0.85, 0.5, 0.5])
    for eye in eyes:
        brow = eye + [0, 0.35 * apart, 0]
        _paint(colors, body.rest, front, brow, (0.34, 0.10), apart, tone * 0.15)
        _paint(colors, body.rest, front, eye, (0.22, 0.14), apart, np.array([0.6, 0.57, 0.54]))
        _paint(colors, body.rest, front, eye, (0.11, 0.13), apart, np.array([0.03, 0.02, 0.015]))
    return colors


def _paint(
    colors: Array, rest: Array, front: npt.NDArray[np.bool_], place: Array,
    radii: tuple[float, float], unit: float, color: Array,
) -> None:  # fmt: skip
    """Puts a colour on an ellipse of the face, in place; radii in units of the eyes' distance."""
    away = (rest[:, :2] - place[:2]) / (np.array(radii) * unit)
    colors[front & ((away**2).sum(1) < 1)] = color
