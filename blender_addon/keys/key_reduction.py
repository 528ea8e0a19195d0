# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer keys for the same motion: how far joints stray decides, in millimetres (numpy only).

Between the keys that stay, values run linearly, each on its own, as Blender's linear curves do: for
quaternions that is a chord of the shortest turn, which Blender makes unit length. The error is
measured under that very interpolation, on the rig, so a degree at the hip counts for more than one
at the wrist.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..rigs import bone_rotations
from ..slices import chunks
from .rotation_values import rotation_size, to_matrices

Array = npt.NDArray[np.float64]
PositionsOf = Callable[[Array, npt.NDArray[np.intp]], Array]
"""Values (N, C) on the frames with these indices (N,) → positions (N, P, 3) in millimetres."""


@dataclass(frozen=True)
class BoneChain:
    """A rig at rest, root first."""

    rest: Array
    """(J, 4, 4) rest matrices, armature space."""
    parents: tuple[int, ...]
    """(J,) parent of each bone, −1 for the root."""
    lengths: Array
    """(J,) lengths of the bones, armature units."""
    units_per_metre: float
    """Armature units in a metre."""


@dataclass(frozen=True)
class ValueLayout:
    """What the columns of a motion's values are: the root's location, then rotations."""

    modes: tuple[str, ...]
    """(J,) rotation mode of each bone."""

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each bone's rotation lies among the columns."""
        ends = np.cumsum([3, *(rotation_size(mode) for mode in self.modes)]).tolist()
        return tuple(slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True))


def joint_positions(values: Array, layout: ValueLayout, chain: BoneChain) -> Array:
    """Where the heads and tails of all bones lie, (T, 2·J, 3) millimetres, armature space.

    Tails count as well: a hand has no joint below it, but turning it must not go unseen.

    Args:
        values: (T, C) columns as `layout` has them.
        layout: their meaning.
        chain: the rig.
    """
    count, bones = len(values), len(layout.modes)
    basis = np.zeros((count, bones, 4, 4))
    basis[..., 3, 3] = 1.0
    basis[:, 0, :3, 3] = values[:, :3]
    slices = layout.slices
    for mode in set(layout.modes):
        chosen = [bone for bone in range(bones) if layout.modes[bone] == mode]
        stacked = np.stack([values[:, slices[bone]] for bone in chosen], 1)
        turned = to_matrices(stacked.reshape(-1, stacked.shape[-1]), mode)
        basis[:, chosen, :3, :3] = turned.reshape(count, len(chosen), 3, 3)
    posed = bone_rotations.chain_posed_matrices(basis, chain.rest, chain.parents)
    heads = posed[..., :3, 3]
    tails = heads + posed[..., :3, 1] * chain.lengths[:, None]  # a bone lies along its y axis
    return np.concatenate([heads, tails], 1) * (1000.0 / chain.units_per_metre)


def fewest_keys(
    frames: npt.ArrayLike,
    values: Array,
    positions_of: PositionsOf,
    tolerance_mm: float,
    wanted: Sequence[int] | npt.NDArray[np.intp] = (),
) -> Generator[None, None, npt.NDArray[np.intp]]:
    """Which frames to key so that linear interpolation stays within a tolerance on all of them.

    From each key the next one is the furthest that is found by doubling the step and then halving
    the doubt, so the tolerance always holds; that no choice has fewer keys is not proven.

    Args:
        frames: (T,) in order of time.
        values: (T, C) what is interpolated.
        positions_of: what is measured.
        tolerance_mm: the largest distance of any position from where it belongs.
        wanted: indices of frames that get a key in any case.

    Yields:
        Where it may pause.

    Returns:
        Indices of frames, the first and the last among them.
    """
    frames = np.asarray(frames, np.float64)
    first = positions_of(values[:1], np.zeros(1, np.intp))
    aims = np.empty((len(frames), *first.shape[1:]))
    for rows in chunks(len(frames)):
        aims[rows] = positions_of(values[rows], rows)
        yield

    def fits(start: int, end: int) -> Generator[None, None, bool]:
        if end - start < 2:
            return True
        ends = [start, end]
        for rows in chunks(end - start - 1):
            between = rows + start + 1
            shown = _interpolated(frames[ends], values[ends], frames[between])
            apart = _largest_distance(positions_of(shown, between), aims[between])
            yield
            if apart > tolerance_mm:
                return False
        return True

    kept = [0]
    for stop in sorted({*(int(index) for index in wanted), len(frames) - 1}):
        while kept[-1] < stop:
            kept.append((yield from _furthest(fits, kept[-1], stop)))
    return np.array(kept, np.intp)


def reduction_error_mm(
    frames: npt.ArrayLike,
    values: Array,
    kept: Sequence[int] | npt.NDArray[np.intp],
    positions_of: PositionsOf,
) -> Generator[None, None, float]:
    """The largest distance, on any frame, between the motion and what is left of it.

    Yields:
        Where it may pause.
    """
    frames = np.asarray(frames, np.float64)
    kept = list(kept)
    largest = 0.0
    for rows in chunks(len(frames)):
        shown = _interpolated(frames[kept], values[kept], frames[rows])
        apart = _largest_distance(positions_of(shown, rows), positions_of(values[rows], rows))
        largest = max(largest, apart)
        yield
    return largest


def _furthest(
    fits: Callable[[int, int], Generator[None, None, bool]], start: int, last: int
) -> Generator[None, None, int]:
    good, step = start + 1, 2
    while good < last and (yield from fits(start, min(start + step, last))):
        good, step = min(start + step, last), 2 * step
    bad = min(start + step, last + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        if (yield from fits(start, middle)):
            good = middle
        else:
            bad = middle
    return good


def _interpolated(frames: Array, values: Array, at: Array) -> Array:
    return np.stack([np.interp(at, frames, column) for column in values.T], -1)


def _largest_distance(one: Array, other: Array) -> float:
    return float(np.linalg.norm(one - other, axis=-1).max(initial=0.0))
