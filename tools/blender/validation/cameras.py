# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the pictures are taken from: a hand-held camera that goes around a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Shot", "look_at", "place_cameras"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shot:
    """How one person is filmed."""

    azimuth: float
    """Where the camera is at first, radians about z, seen from the person."""
    sweep: float
    """Radians that it goes around over all frames."""
    height_m: float = 1.5
    """Of the camera above the ground."""
    distance_m: float = 4.5
    """From the person."""
    size: float = 0.68
    """The person's longer side in the picture, as a share of the picture's side."""
    aim: tuple[float, float] = (0.0, 0.0)
    """Where the person's middle is, right and down of the picture's, in shares of its side."""
    shake: float = 0.02
    """Spread of the aim from frame to frame, in shares of the side."""
    roll: float = 0.03
    """Spread of the camera's roll, radians."""


def look_at(position: Array, target: Array, roll: float) -> Array:
    """`world_to_camera` (4, 4) of an OpenCV camera that looks at a point, z up.

    Args:
        position: (3,) where it is.
        target: (3,) what its axis goes through.
        roll: radians about its axis.
    """
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0, 1])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cosine, sine = np.cos(roll), np.sin(roll)
    right, down = cosine * right + sine * down, cosine * down - sine * right
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, down, forward])
    matrix[:3, 3] = -matrix[:3, :3] @ position
    return matrix


def place_cameras(
    shot: Shot, vertices: Array, side: int, random: np.random.Generator
) -> tuple[Array, Array]:
    """Cameras for all frames of a person.

    Args:
        shot: how it is filmed.
        vertices: (T, V, 3) the person, world.
        side: of the square pictures, pixels.
        random: source of shake.

    Returns:
        Intrinsics (3, 3), one lens for all frames, and `world_to_camera` (T, 4, 4).
    """
    count = len(vertices)
    middles = (vertices.min(1) + vertices.max(1)) / 2
    followed = _smooth(middles)
    turns = shot.azimuth + shot.sweep * np.linspace(0, 1, count)
    away = np.stack([np.cos(turns), np.sin(turns), 0 * turns], 1) * shot.distance_m
    positions = followed * [1, 1, 0] + away + [0, 0, shot.height_m]
    positions += random.normal(0, 0.03, (count, 3))
    rolls = random.normal(0, shot.roll, count)
    centred = np.stack([look_at(*pair) for pair in zip(positions, middles, rolls, strict=True)])
    spans = [_span(view, points) for view, points in zip(centred, vertices, strict=True)]
    focal = shot.size * side / float(np.median(spans))
    aims = np.array(shot.aim) + random.normal(0, shot.shake, (count, 2))
    views = []
    for view, position, middle, roll, aim in zip(
        centred, positions, middles, rolls, aims, strict=True
    ):
        depth = np.linalg.norm(middle - position)
        shift = view[:3, :3].T @ np.array([*(-aim * side / focal * depth), 0.0])
        views.append(look_at(position, middle + shift, roll))
    intrinsics = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1.0]])
    return intrinsics, np.stack(views)


def _smooth(values: Array) -> Array:
    """Values averaged over three frames."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def _span(view: Array, points: Array) -> float:
    """The longer side of the points' box in an image of focal length 1."""
    local = points @ view[:3, :3].T + view[:3, 3]
    pixels = local[:, :2] / local[:, 2:]
    return float((pixels.max(0) - pixels.min(0)).max())
