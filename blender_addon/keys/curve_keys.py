# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of one F-curve as arrays: put among each other, cut, joined (numpy only).

What `fcurves` reads from Blender in bulk and writes back. Functions give new keys and change none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

CONSTANT, LINEAR, BEZIER = 0, 1, 2
"""Blender's numbers of these interpolations."""
FREE, AUTO_CLAMPED = 0, 4
"""Blender's numbers of these handle types."""
KINDS = ("interpolation", "handle_left_type", "handle_right_type", "easing", "type")
"""What a key has beside its place, in the order of `Keys.kinds`."""
SAME_FRAME = 1e-3
"""Keys nearer to a frame than this lie on it."""
SAME_VALUE = 1e-6
"""Values that differ by less are taken to be one, and are not computed anew."""


@dataclass(frozen=True)
class Keys:
    """All keys of one curve, in order of time."""

    points: npt.NDArray[np.float32]
    """(N, 2) frame and value."""
    left: npt.NDArray[np.float32]
    """(N, 2) left handle."""
    right: npt.NDArray[np.float32]
    """(N, 2) right handle."""
    kinds: npt.NDArray[np.int32]
    """(N, 5) `KINDS`, Blender's numbers."""

    @property
    def times(self) -> npt.NDArray[np.float32]:
        """(N,) frames."""
        return self.points[:, 0]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, chosen: slice | npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Keys:
        return Keys(self.points[chosen], self.left[chosen], self.right[chosen], self.kinds[chosen])


def no_keys() -> Keys:
    """The keys of a curve that has none."""
    pairs = np.zeros((0, 2), np.float32)
    return Keys(pairs, pairs, pairs, np.zeros((0, len(KINDS)), np.int32))


def join_keys(*parts: Keys) -> Keys:
    """Keys of several parts, in order of time."""
    every = Keys(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.left for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.kinds for part in parts]),
    )
    return every[np.argsort(every.times, kind="stable")]


def merge_keys(keys: Keys, frames: npt.ArrayLike, values: npt.ArrayLike) -> Keys:
    """Keys with `values` (N,) at `frames` (N,): moved where there is a key, added where not.

    A key that is moved takes its handles along; an added one takes the interpolation of the key
    before it (linear where there is none); all others stay as they are.
    """
    frames, values = np.asarray(frames, np.float32), np.asarray(values, np.float32)
    place, is_there = _places(keys.times, frames)
    shift = np.zeros_like(keys.points)
    shift[place[is_there], 1] = values[is_there] - keys.points[place[is_there], 1]
    moved = Keys(keys.points + shift, keys.left + shift, keys.right + shift, keys.kinds)
    if is_there.all():
        return moved
    added = np.stack([frames, values], -1)[~is_there]
    kinds = np.zeros((len(added), len(KINDS)), np.int32)
    kinds[:, 0], kinds[:, 1:3] = LINEAR, AUTO_CLAMPED
    if len(keys):
        before = np.searchsorted(keys.times, added[:, 0], side="right") - 1
        kinds[:, 0] = keys.kinds[np.maximum(before, 0), 0]
    return join_keys(moved, Keys(added, added, added, kinds))


def move_points(
    points: npt.NDArray[np.float32], frames: npt.ArrayLike, values: npt.ArrayLike
) -> npt.NDArray[np.float32] | None:
    """Points (N, 2) of keys with `values` at `frames`; none where a frame has no key to move."""
    place, is_there = _places(points[:, 0], np.asarray(frames, np.float32))
    if not is_there.all():
        return None
    moved = points.copy()
    moved[place, 1] = np.asarray(values, np.float32)
    return moved


def values_on_keys(
    points: npt.NDArray[np.float32], frames: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64] | None:
    """Values (T,) of those keys (N, 2) that lie on frames (T,); none where a frame has no key."""
    place, is_there = _places(points[:, 0], frames)
    return points[place, 1].astype(np.float64) if is_there.all() else None


def keys_at(keys: Keys, frames: npt.ArrayLike) -> Keys:
    """Those keys that lie on one of these frames."""
    place, is_there = _places(keys.times, np.asarray(frames, np.float32))
    return keys[np.unique(place[is_there])]


def changed_span(before: Keys, after: Keys) -> tuple[float, float] | None:
    """The frames between which two curves may differ; none where their keys are the same.

    The span ends on the nearest keys that both have, or on the first and last of either.
    """
    either = np.concatenate([before.times, after.times])
    one, other = _course(before), _course(after)
    prefix = _equal_rows(one, other)
    if prefix == len(before) == len(after):
        return None
    suffix = min(_equal_rows(one[::-1], other[::-1]), len(before) - prefix, len(after) - prefix)
    first = before.times[prefix - 1] if prefix else either.min()
    last = before.times[len(before) - suffix] if suffix else either.max()
    return float(first), float(last)


def split_keys(keys: Keys, frame: float, value_at: Callable[[float], float]) -> Keys:
    """Keys with one more at `frame` that leaves the curve's course as it is.

    Bezier handles on both sides are shortened to the same curve and set free. A segment with an
    easing cannot be cut: it gets a linear key on every frame.

    Args:
        keys: of a curve.
        frame: where to cut it; nothing happens where there is a key.
        value_at: the curve's value at a frame.
    """
    if _places(keys.times, np.array([frame], np.float32))[1][0]:
        return keys
    added = merge_keys(no_keys(), [frame], [value_at(frame)])
    after = int(np.searchsorted(keys.times, frame))
    for neighbour in {max(after - 1, 0), min(after, len(keys) - 1)}:
        keys = with_free_handles(keys, neighbour)
    if after in (0, len(keys)):
        return join_keys(keys, added)
    kind = int(keys.kinds[after - 1, 0])
    if kind == BEZIER:
        return _split_bezier(keys, after, frame)
    if kind not in (CONSTANT, LINEAR):
        return _with_key_on_every_frame(keys, after, value_at)
    added.kinds[0, 0] = kind
    return join_keys(keys, added)


def _split_bezier(keys: Keys, after: int, frame: float) -> Keys:
    """De Casteljau's cut of the segment that ends on key `after`."""
    first, out, into, last = _segment(keys, after)
    t = _bezier_parameter(first[0], out[0], into[0], last[0], frame)
    a, b, c = (p + t * (q - p) for p, q in ((first, out), (out, into), (into, last)))
    d, e = a + t * (b - a), b + t * (c - b)
    left, right, kinds = keys.left.copy(), keys.right.copy(), keys.kinds.copy()
    right[after - 1], left[after] = a, c
    kinds[after - 1 : after + 1, 1:3] = FREE
    middle, before, behind = (p[None].astype(np.float32) for p in (d + t * (e - d), d, e))
    added = Keys(middle, before, behind, np.array([[BEZIER, FREE, FREE, 0, 0]], np.int32))
    return join_keys(Keys(keys.points, left, right, kinds), added)


def _with_key_on_every_frame(keys: Keys, after: int, value_at: Callable[[float], float]) -> Keys:
    first, last = keys.times[after - 1], keys.times[after]
    frames = np.arange(np.floor(first) + 1, np.ceil(last))
    kinds = keys.kinds.copy()
    kinds[after - 1, 0] = LINEAR
    return merge_keys(replace(keys, kinds=kinds), frames, [value_at(float(f)) for f in frames])


def put_between(
    outside: Keys,
    inside: Keys,
    first: float,
    last: float,
    freeze: tuple[bool, bool] = (True, True),
) -> Keys:
    """Keys from `first` to `last` taken from one curve, all others from another.

    Args:
        outside: keys of which those before `first` and after `last` are kept.
        inside: keys from `first` to `last`.
        first, last: frames, both inside.
        freeze: whether handles at the start and at the end keep their place, so that the curve
            outside stays exactly as it was.
    """
    left = outside[outside.times < first - SAME_FRAME]
    right = outside[outside.times > last + SAME_FRAME]
    if freeze[0]:
        left, inside = with_free_handles(left, -1), with_free_handles(inside, 0)
    if freeze[1]:
        inside, right = with_free_handles(inside, -1), with_free_handles(right, 0)
    return join_keys(left, inside, right)


def with_free_handles(keys: Keys, index: int) -> Keys:
    """Keys of which one keeps its handles where they lie, whatever its neighbours become."""
    if not len(keys):
        return keys
    kinds = keys.kinds.copy()
    kinds[index, 1:3] = FREE
    return replace(keys, kinds=kinds)


def linear_keys(keys: Keys) -> Keys:
    """Keys with straight lines between them; what the last one leads on to stays."""
    kinds = keys.kinds.copy()
    kinds[:-1, 0] = LINEAR
    return replace(keys, kinds=kinds)


def _course(keys: Keys) -> npt.NDArray[np.float32]:
    """What makes a curve what it is (N, 8); handles count only where a Bezier segment has them."""
    leaves = keys.kinds[:, :1] == BEZIER
    arrives = np.concatenate([np.zeros((1, 1), bool), leaves[:-1]])[: len(keys)]
    kinds = keys.kinds[:, [0, 3]].astype(np.float32)
    return np.concatenate([keys.points, kinds, keys.left * arrives, keys.right * leaves], -1)


def _equal_rows(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> int:
    """How many rows are the same from the start."""
    size = min(len(one), len(other))
    same = np.isclose(one[:size], other[:size], rtol=0, atol=SAME_VALUE).all(-1)
    return size if same.all() else int(same.argmin())


def _segment(keys: Keys, after: int) -> list[npt.NDArray[np.float64]]:
    """The four control points between a key and the one before it, as Blender draws them.

    Handles that reach past the other key are shortened (Blender's BKE_fcurve_correct_bezpart).
    """
    first, last = keys.points[after - 1].astype(float), keys.points[after].astype(float)
    out, into = keys.right[after - 1].astype(float), keys.left[after].astype(float)
    length = last[0] - first[0]
    reach_out, reach_in = abs(first[0] - out[0]), abs(last[0] - into[0])
    if reach_out + reach_in > length:
        shorter = length / (reach_out + reach_in)
        out, into = first + shorter * (out - first), last + shorter * (into - last)
    return [first, out, into, last]


def _bezier_parameter(a: float, b: float, c: float, d: float, wanted: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        t = (low + high) / 2
        at = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        low, high = (t, high) if at < wanted else (low, t)
    return (low + high) / 2


def _places(
    times: npt.NDArray[np.float32], frames: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Of each frame (N,) the nearest key and whether that lies on it."""
    if len(times) == 0:
        return np.zeros(len(frames), np.intp), np.zeros(len(frames), bool)
    right = np.clip(np.searchsorted(times, frames), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    is_left = np.abs(times[left] - frames) < np.abs(times[right] - frames)
    place = np.where(is_left, left, right)
    return place, np.abs(times[place] - frames) < SAME_FRAME
