# SPDX-License-Identifier: GPL-3.0-or-later
"""Bones' numbers mean rotations in every mode, and blend without jumps; runs without Blender."""

import itertools

import numpy as np
import pytest
from blender_addon.keys.rotation_values import blend_rotations, from_matrices, to_matrices

from posefit_shared import rotations

EULER = ["".join(order) for order in itertools.permutations("XYZ")]
MODES = [*EULER, "QUATERNION", "AXIS_ANGLE"]


def random_values(rng, mode, count=50, size=2.0):
    if mode in EULER:
        return rng.uniform(-size, size, (count, 3))
    values = rng.normal(size=(count, 4))
    if mode == "QUATERNION":
        return values / np.linalg.norm(values, axis=-1, keepdims=True)
    values[:, 1:] /= np.linalg.norm(values[:, 1:], axis=-1, keepdims=True)
    return values


def test_the_first_euler_axis_turns_first():
    quarter = np.pi / 2
    turned = to_matrices([[quarter, quarter, 0]], "XYZ")[0] @ (0, 1, 0)
    assert turned == pytest.approx((1, 0, 0))  # y → z about x, then z → x about y


@pytest.mark.parametrize("mode", MODES)
def test_values_near_others_mean_the_same_rotation_and_are_those(rng, mode):
    values = random_values(rng, mode)
    found = from_matrices(to_matrices(values, mode), mode, values)
    assert found == pytest.approx(values, abs=1e-6)
    turns = values.copy()
    if mode == "QUATERNION":
        turns = -turns
    else:
        turns[:, 0] += 4 * np.pi
    found = from_matrices(to_matrices(values, mode), mode, turns)
    assert found == pytest.approx(turns, abs=1e-6)


@pytest.mark.parametrize("mode", EULER)
def test_gimbal_lock_keeps_the_rotation(rng, mode):
    values = rng.uniform(-2, 2, (20, 3))
    values[:, "XYZ".index(mode[1])] = np.pi / 2
    matrices = to_matrices(values, mode)
    assert to_matrices(from_matrices(matrices, mode, values), mode) == pytest.approx(matrices)


@pytest.mark.parametrize("mode", MODES)
def test_blending_turns_at_one_rate_along_the_shortest_way(rng, mode):
    before = random_values(rng, mode)
    after = from_matrices(
        to_matrices(before, mode) @ rotations.rotvec_to_matrix(rng.normal(size=(50, 3)) * 0.5),
        mode,
        before,
    )
    start, end = to_matrices(before, mode), to_matrices(after, mode)
    whole = rotations.matrix_to_rotvec(np.swapaxes(start, -1, -2) @ end)
    for amount in (0.0, 0.25, 0.5, 1.0):
        between = to_matrices(blend_rotations(before, after, amount, mode), mode)
        turn = rotations.matrix_to_rotvec(np.swapaxes(start, -1, -2) @ between)
        assert turn == pytest.approx(amount * whole, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_blended_values_run_smoothly_over_time(mode):
    time = np.linspace(0, 5, 200)[:, None]
    rotvec = np.concatenate([0.3 * np.sin(time), time, 0.2 * np.cos(time)], -1)
    start = rotations.rotvec_to_matrix(rotvec)
    end = start @ rotations.rotvec_to_matrix([0.4, 0.3, -0.2])
    size = 3 if mode in EULER else 4
    before, after, near = np.zeros((200, size)), np.zeros((200, size)), np.eye(size)[0]
    for values, matrices in ((before, start), (after, end)):
        near = np.eye(size)[1]
        for t in range(200):
            near = values[t] = from_matrices(matrices[t : t + 1], mode, near[None])[0]
    steps = np.abs(np.diff(before, axis=0)).max(), np.abs(np.diff(after, axis=0)).max()
    blended = blend_rotations(before, after, 0.5, mode)
    assert np.abs(np.diff(blended, axis=0)).max() < 3 * max(steps)


def test_what_is_the_same_on_both_sides_is_not_computed_anew():
    odd = np.array([[2.0, 1.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]])  # an artist's, of no unit length
    assert np.array_equal(blend_rotations(odd, odd, 0.5, "QUATERNION"), odd)
