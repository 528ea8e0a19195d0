# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys are cut and joined without moving the curve; runs without Blender."""

import numpy as np
import pytest
from blender_addon.keys import curve_keys
from blender_addon.keys.curve_keys import BEZIER, CONSTANT, LINEAR, Keys


def make_keys(times, values, interpolation=LINEAR, reach=1.0):
    points = np.array([times, values], np.float32).T
    kinds = np.zeros((len(points), 5), np.int32)
    kinds[:, 0], kinds[:, 1:3] = interpolation, curve_keys.AUTO_CLAMPED
    offset = np.array([reach, 0.4], np.float32)
    return Keys(points, points - offset, points + offset, kinds)


def value_at(keys, frame):
    """A curve's value by the equations of Blender's curves, handles not shortened."""
    after = int(np.clip(np.searchsorted(keys.times, frame), 1, len(keys) - 1))
    (x0, y0), (x3, y3) = keys.points[after - 1].astype(float), keys.points[after].astype(float)
    kind = keys.kinds[after - 1, 0]
    if kind == CONSTANT:
        return y0
    if kind == LINEAR:
        return y0 + (y3 - y0) * (frame - x0) / (x3 - x0)
    (x1, y1), (x2, y2) = keys.right[after - 1].astype(float), keys.left[after].astype(float)
    t = np.linspace(0, 1, 20001)
    weights = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
    x, y = (
        sum(w * c for w, c in zip(weights, p, strict=True))
        for p in ((x0, x1, x2, x3), (y0, y1, y2, y3))
    )
    return float(np.interp(frame, x, y))


@pytest.mark.parametrize("kind", [CONSTANT, LINEAR, BEZIER])
@pytest.mark.parametrize("frame", [2.0, 7.5, 18.0])
def test_a_cut_leaves_the_curve_where_it_was(kind, frame):
    keys = make_keys([1, 10, 20], [0, 3, -1], kind, reach=3.0)
    cut = curve_keys.split_keys(keys, frame, lambda at: value_at(keys, at))
    assert len(cut) == 4
    for at in np.linspace(1, 19.9, 50):
        if kind != CONSTANT or abs(at - frame) > 0.01:
            assert value_at(cut, at) == pytest.approx(value_at(keys, at), abs=1e-3)


def test_an_easing_is_cut_into_linear_keys_on_every_frame():
    keys = make_keys([1, 5, 9], [0, 4, 0], 12)
    cut = curve_keys.split_keys(keys, 3, lambda at: at**2)
    assert cut.points.tolist() == [[1, 0], [2, 4], [3, 9], [4, 16], [5, 4], [9, 0]]
    assert cut.kinds[:, 0].tolist() == [LINEAR] * 4 + [12, 12]


def test_a_key_that_is_there_is_not_cut_again():
    keys = make_keys([1, 10, 20], [0, 3, -1], BEZIER)
    assert curve_keys.split_keys(keys, 10, lambda at: 99.0) is keys


def test_a_curve_without_keys_gets_one():
    cut = curve_keys.split_keys(curve_keys.no_keys(), 4, lambda at: 7.0)
    assert cut.points.tolist() == [[4, 7]]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [([], None), ([2], (2, 4)), ([0], (1, 2)), ([5], (5, 6)), ([1, 4], (1, 6)), ([3, 5], (3, 6))],
)
def test_a_change_reaches_to_the_nearest_keys_that_both_have(changed, expected):
    before = make_keys(range(1, 7), range(6))
    after = curve_keys.merge_keys(before, np.array(changed) + 1, np.full(len(changed), 9.0))
    assert curve_keys.changed_span(before, after) == expected
    assert curve_keys.changed_span(after, before) == expected


def test_added_keys_change_the_curve_between_their_neighbours():
    before = make_keys([1, 10, 20], [0, 0, 0])
    after = curve_keys.merge_keys(before, [12, 13], [1, 1])
    assert curve_keys.changed_span(before, after) == (10, 20)
    assert curve_keys.changed_span(curve_keys.no_keys(), after) == (1, 20)
    assert curve_keys.changed_span(curve_keys.no_keys(), curve_keys.no_keys()) is None


def test_handles_count_only_where_the_curve_uses_them():
    for kind, expected in ((LINEAR, None), (BEZIER, (2, 4))):
        keys = make_keys(range(1, 6), range(5), kind)
        handles = keys.left.copy()
        handles[2] += 0.2
        moved = Keys(keys.points, handles, keys.right, keys.kinds)
        found = curve_keys.changed_span(keys, moved)
        assert (found is None) == (expected is None)


def test_keys_between_come_from_one_curve_and_all_others_from_another():
    outside, inside = make_keys(range(1, 9), range(8)), make_keys([3, 4.5], [50, 60])
    joined = curve_keys.put_between(outside, inside, 3, 5)
    assert joined.times.tolist() == [1, 2, 3, 4.5, 6, 7, 8]
    assert joined.points[2:4, 1].tolist() == [50, 60]
    frozen = (joined.kinds[:, 1] == curve_keys.FREE).tolist()
    assert frozen == [False, True, True, True, True, False, False]
