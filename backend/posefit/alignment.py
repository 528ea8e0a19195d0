# SPDX-License-Identifier: Apache-2.0
"""Where, and when, a motion belongs that was not shot with the footage.

The motion keeps its poses: what is sought is one shift in time, one turn about the up axis and one
shift in space that bring its landmarks over those that were found in the pictures. For each time a
linear system gives turn and place at once, as a landmark's ray is linear in the turn's cosine and
sine and in the shift; Gauss–Newton steps then lower the distance in the picture, robustly. The
motion's size is taken as it is: one camera does not tell it from distance.

Numpy only: which landmarks a body has, and which a picture shows, is known elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import PosefitError

__all__ = ["Alignment", "AlignmentError", "SeenLandmarks", "align_motion"]

Array = npt.NDArray[np.float64]

LEAST_PICTURES = 3
"""Fewer pictures of the person say too little."""
WIDEST_MISFIT = 0.15
"""Heights of the person; what fits no better in the median is another motion."""
KERNEL = 0.05
"""Heights of the person at which Geman–McClure has lost half of a landmark's pull, squared."""
STEPS = 8
"""Gauss–Newton steps for each time that is tried."""
CLEAR_RATIO = 1.15
"""So many times larger the cost of every other time has to be."""
_SAME_COST = 1e-6


class AlignmentError(PosefitError, ValueError):
    """Motion and footage that cannot be brought together; says why."""


@dataclass(frozen=True)
class SeenLandmarks:
    """A person's landmarks in P pictures, and the cameras that took them."""

    frames: npt.NDArray[np.int64]
    """(P,) scene frames that show the pictures, rising."""
    rays: Array
    """(P, L, 2) x/z and y/z of each landmark in its camera's frame, the lens taken out."""
    weights: Array
    """(P, L) 0 (not seen) to 1."""
    heights: Array
    """(P,) height of the person, in the units of `rays`."""
    world_to_camera: Array
    """(P, 4, 4) metres."""


@dataclass(frozen=True)
class Alignment:
    """What brings a motion over the footage."""

    offset: int
    """Frame f of the motion belongs to the picture of scene frame f + offset."""
    transform: Array
    """(4, 4) from the motion's world to the cameras', metres: a turn about z and a shift."""
    misfit: float
    """Median distance of landmarks, in heights of the person."""
    misfit_before: float | None
    """The same where nothing is moved; none where the motion was not in the picture then."""
    pictures: int
    """Pictures that it was found from."""
    is_offset_clear: bool
    """Whether no other time fits about as well; otherwise the one nearest to that which was known
    is taken."""

    @property
    def turn_deg(self) -> float:
        """The turn about the up axis, degrees."""
        return float(np.degrees(np.arctan2(self.transform[1, 0], self.transform[0, 0])))


@dataclass(frozen=True)
class _Pairs:
    """Landmarks of the motion beside those of the pictures, at one offset."""

    points: Array
    """(N, L, 3) the motion's world."""
    rays: Array
    weights: Array
    heights: Array
    world_to_camera: Array


@dataclass(frozen=True)
class _Fit:
    """What was found at one offset."""

    offset: int
    turn: float
    shift: Array
    cost: float
    """Mean robust cost of a landmark, 0 to 1."""


def align_motion(
    points: npt.ArrayLike,
    first_frame: int,
    seen: SeenLandmarks,
    *,
    offset: int = 0,
    search: int = 0,
    step: int = 4,
    progress: Callable[[float], None] | None = None,
) -> Alignment:
    """Bring a motion over a person in footage.

    Args:
        points: (T, L, 3) the motion's landmarks, metres, z up; one row for each scene frame.
        first_frame: scene frame of the first row.
        seen: the same landmarks in pictures.
        offset: which picture a frame belongs to, as far as is known.
        search: how many frames earlier or later it may be.
        step: frames between times that are tried first; about a sixth of a second.
        progress: called with the share that is done.

    Raises:
        AlignmentError: too few pictures show the person, motion and pictures share no time, or
            nothing fits.
    """
    points = np.asarray(points, np.float64)
    found = (seen.weights > 0).sum(1) >= 6
    if found.sum() < LEAST_PICTURES:
        raise AlignmentError(
            f"the person was found in {int(found.sum())} pictures, expected {LEAST_PICTURES} or "
            "more: choose another person, or footage that shows them from head to foot"
        )
    offsets = _offsets(len(points), first_frame, seen.frames[found], offset, search)
    coarse = sorted({offset, *offsets[:: max(step, 1)].tolist()}.intersection(offsets.tolist()))
    fits: dict[int, _Fit] = {}

    def fit(candidates: list[int], start: float, share: float) -> None:
        for k, candidate in enumerate(candidates):
            if candidate not in fits:
                fits[candidate] = _fit(_pairs(points, first_frame, seen, candidate), candidate)
            if progress is not None:
                progress(start + share * (k + 1) / len(candidates))

    fit(coarse, 0.0, 0.8)
    best = sorted(fits.values(), key=lambda one: one.cost)[:3]
    near = {o for one in best for o in range(one.offset - step, one.offset + step + 1)}
    fit(sorted(near.intersection(offsets.tolist())), 0.8, 0.2)
    return _judged(points, first_frame, seen, list(fits.values()), offset, step)


def _offsets(
    count: int, first_frame: int, frames: npt.NDArray[np.int64], offset: int, search: int
) -> npt.NDArray[np.int64]:
    """Offsets at which motion and pictures share at least half of what they can share at most."""
    candidates = np.arange(offset - search, offset + search + 1)
    first = np.searchsorted(frames, candidates + first_frame)
    last = np.searchsorted(frames, candidates + first_frame + count)
    shared = last - first
    most = int(shared.max(initial=0))
    if most < LEAST_PICTURES:
        raise AlignmentError(
            f"the motion covers frames {first_frame} to {first_frame + count - 1}, the pictures "
            f"that show the person frames {frames[0]} to {frames[-1]}: search further in time, or "
            "move the motion's keys"
        )
    return candidates[shared >= max(LEAST_PICTURES, most / 2)]


def _pairs(points: Array, first_frame: int, seen: SeenLandmarks, offset: int) -> _Pairs:
    rows = seen.frames - offset - first_frame
    taken = (rows >= 0) & (rows < len(points)) & (seen.weights > 0).any(1)
    return _Pairs(
        points[rows[taken]],
        seen.rays[taken],
        seen.weights[taken],
        seen.heights[taken],
        seen.world_to_camera[taken],
    )


def _fit(pairs: _Pairs, offset: int) -> _Fit:
    """The turn and shift at one offset."""
    turn, shift = _linear(pairs)
    damping, cost = 1e-3, _cost(pairs, turn, shift)
    for _ in range(STEPS):
        change = _gauss_newton_step(pairs, turn, shift, damping)
        tried = turn + float(change[0]), shift + change[1:]
        if (tried_cost := _cost(pairs, *tried)) < cost:
            is_settled = cost - tried_cost < 1e-6
            (turn, shift), cost, damping = tried, tried_cost, damping / 10
            if is_settled:
                break
        else:
            damping *= 10
    return _Fit(offset, turn, shift, cost)


def _linear(pairs: _Pairs) -> tuple[float, Array]:
    """Turn and shift from rays alone: (x − u z) and (y − v z) of every landmark are to be zero.

    With cosine, sine and shift as five unknowns this is linear. Rows are divided by the depth that
    the last solution gave, so that far landmarks do not count for more.
    """
    rotation, offset = pairs.world_to_camera[:, :3, :3], pairs.world_to_camera[:, :3, 3]
    count, landmarks = pairs.points.shape[:2]
    rows = np.zeros((count, landmarks, 2, 3))
    rows[..., 0, 0] = rows[..., 1, 1] = 1.0
    rows[..., 2] = -pairs.rays
    in_world = rows @ rotation[:, None]
    x, y, z = np.moveaxis(pairs.points, -1, 0)[..., None]
    columns = np.stack(
        [
            in_world[..., 0] * x + in_world[..., 1] * y,
            in_world[..., 1] * x - in_world[..., 0] * y,
            *np.moveaxis(in_world, -1, 0),
        ],
        -1,
    )
    wanted = -(in_world[..., 2] * z + (rows @ offset[:, None, :, None])[..., 0])
    depth = np.ones((count, landmarks))
    solution = np.array([1.0, 0, 0, 0, 0])
    for _ in range(3):
        weight = np.sqrt(pairs.weights)[..., None] / (depth * pairs.heights[:, None])[..., None]
        solution = np.linalg.lstsq(
            (columns * weight[..., None]).reshape(-1, 5), (wanted * weight).ravel(), rcond=None
        )[0]
        turn = float(np.arctan2(solution[1], solution[0]))
        # A turn has no length: the shift is found again for the one that was meant.
        direction = np.array([np.cos(turn), np.sin(turn)])
        left = wanted - columns[..., :2] @ direction
        shift = np.linalg.lstsq(
            (columns[..., 2:] * weight[..., None]).reshape(-1, 3),
            (left * weight).ravel(),
            rcond=None,
        )[0]
        depth = np.maximum(_in_camera(pairs, turn, shift)[..., 2], 0.1)
    return turn, shift


def _moved(points: Array, turn: float, shift: Array) -> Array:
    cosine, sine = np.cos(turn), np.sin(turn)
    rotation = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    return points @ rotation.T + shift


def _in_camera(pairs: _Pairs, turn: float, shift: Array) -> Array:
    """(N, L, 3) landmarks in their cameras' frames."""
    moved = _moved(pairs.points, turn, shift)
    rotation, offset = pairs.world_to_camera[:, :3, :3], pairs.world_to_camera[:, :3, 3]
    return np.einsum("nab,nlb->nla", rotation, moved) + offset[:, None]


def _residuals(pairs: _Pairs, turn: float, shift: Array) -> tuple[Array, Array]:
    """(N, L, 2) distances in heights of the person, and (N, L, 3) places in the cameras."""
    placed = _in_camera(pairs, turn, shift)
    depth = np.maximum(placed[..., 2:], 0.05)  # behind a camera: a very wrong ray, and finite
    return (placed[..., :2] / depth - pairs.rays) / pairs.heights[:, None, None], placed


def _robust(residual: Array) -> Array:
    """(N, L) squared distances as Geman–McClure sees them, 0 to 1."""
    squared = (residual**2).sum(-1)
    return squared / (squared + KERNEL**2)


def _cost(pairs: _Pairs, turn: float, shift: Array) -> float:
    residual, _ = _residuals(pairs, turn, shift)
    return float((pairs.weights * _robust(residual)).sum() / pairs.weights.sum())


def _gauss_newton_step(pairs: _Pairs, turn: float, shift: Array, damping: float) -> Array:
    """(4,) change of turn and shift."""
    residual, placed = _residuals(pairs, turn, shift)
    weights = pairs.weights * (KERNEL / ((residual**2).sum(-1) + KERNEL**2)) ** 2
    rotation = pairs.world_to_camera[:, None, :3, :3]
    moved = _moved(pairs.points, turn, shift) - shift
    turned = np.stack([-moved[..., 1], moved[..., 0], np.zeros(moved.shape[:2])], -1)
    motion = np.concatenate(
        [rotation @ turned[..., None], np.broadcast_to(rotation, (*moved.shape[:2], 3, 3))], -1
    )
    depth = np.maximum(placed[..., 2], 0.05)[..., None, None]
    projected = placed[..., :2, None] / depth
    jacobian = (motion[..., :2, :] - projected * motion[..., 2:, :]) / depth
    jacobian = jacobian / pairs.heights[:, None, None, None]
    rows = (jacobian * np.sqrt(weights)[..., None, None]).reshape(-1, 4)
    right = (residual * np.sqrt(weights)[..., None]).ravel()
    normal = rows.T @ rows
    normal[np.diag_indices(4)] *= 1 + damping
    normal[np.diag_indices(4)] += 1e-12
    return -np.linalg.solve(normal, rows.T @ right)


def _judged(
    points: Array, first_frame: int, seen: SeenLandmarks, fits: list[_Fit], offset: int, step: int
) -> Alignment:
    best = min(fits, key=lambda one: one.cost)
    as_good = [one for one in fits if one.cost <= CLEAR_RATIO * best.cost + _SAME_COST]
    is_clear = all(abs(one.offset - best.offset) <= 2 * step for one in as_good)
    if not is_clear:  # what was known beforehand decides
        best = min(as_good, key=lambda one: (abs(one.offset - offset), one.cost))
    pairs = _pairs(points, first_frame, seen, best.offset)
    misfit = _misfit(pairs, best.turn, best.shift)
    if misfit > WIDEST_MISFIT:
        raise AlignmentError(
            f"nothing fits: at best the motion lies {misfit:.0%} of the person's height beside "
            "them; choose another person, search further in time, or check that the footage shows "
            "this motion"
        )
    transform = np.eye(4)
    transform[:3, :3] = _moved(np.eye(3), best.turn, np.zeros(3)).T
    transform[:3, 3] = best.shift
    before = _pairs(points, first_frame, seen, offset)
    return Alignment(
        offset=best.offset,
        transform=transform,
        misfit=misfit,
        misfit_before=_misfit_before(before),
        pictures=len(pairs.points),
        is_offset_clear=is_clear,
    )


def _misfit(pairs: _Pairs, turn: float, shift: Array) -> float:
    residual, _ = _residuals(pairs, turn, shift)
    return float(np.median(np.linalg.norm(residual, axis=-1)[pairs.weights > 0]))


def _misfit_before(pairs: _Pairs) -> float | None:
    if not len(pairs.points) or (_in_camera(pairs, 0.0, np.zeros(3))[..., 2] < 0.05).any():
        return None
    return _misfit(pairs, 0.0, np.zeros(3))
