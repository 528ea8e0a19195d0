# SPDX-License-Identifier: Apache-2.0
"""Rotations: every form undoes every other, also near zero and near half a turn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posefit_shared import rotations

ANGLES = [0.0, 1e-9, 1e-4, 0.3, 2.0, np.pi - 1e-4, np.pi - 1e-9, np.pi]


def axes() -> np.ndarray:
    rng = np.random.default_rng(3)
    random = rng.normal(size=(20, 3))
    every = np.concatenate([np.eye(3), -np.eye(3), random])
    return every / np.linalg.norm(every, axis=1, keepdims=True)


@pytest.mark.parametrize("angle", ANGLES)
def test_matrix_and_back_gives_the_same_rotation(angle):
    rotvec = axes() * angle
    matrix = rotations.rotvec_to_matrix(rotvec)
    again = rotations.rotvec_to_matrix(rotations.matrix_to_rotvec(matrix))
    np.testing.assert_allclose(again, matrix, atol=1e-9)
    np.testing.assert_allclose(
        matrix @ matrix.swapaxes(-1, -2), np.eye(3)[None] + 0 * matrix, atol=1e-12
    )


@pytest.mark.parametrize("angle", ANGLES[:-1])
def test_rotation_vector_survives_the_quaternion(angle):
    rotvec = axes() * angle
    again = rotations.wxyz_to_rotvec(rotations.rotvec_to_wxyz(rotvec))
    np.testing.assert_allclose(again, rotvec, atol=1e-8)


def test_a_quarter_turn_about_z_sends_x_to_y():
    matrix = rotations.rotvec_to_matrix([0, 0, np.pi / 2])
    np.testing.assert_allclose(matrix @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(
        rotations.matrix_to_wxyz(matrix), [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-12
    )


@given(st.lists(st.floats(-6, 6), min_size=3, max_size=3))
def test_six_numbers_give_back_the_matrix(rotvec):
    matrix = rotations.rotvec_to_matrix(rotvec)
    again = rotations.matrix_from_6d(rotations.matrix_to_6d(matrix))
    np.testing.assert_allclose(again, matrix, atol=1e-9)


def test_leading_shapes_are_free():
    rotvec = np.random.default_rng(0).normal(size=(2, 5, 3))
    assert rotations.rotvec_to_matrix(rotvec).shape == (2, 5, 3, 3)
    assert rotations.matrix_to_wxyz(rotations.rotvec_to_matrix(rotvec)).shape == (2, 5, 4)


def test_a_slow_spin_past_half_a_turn_does_not_jump():
    true = np.linspace(0, 4 * np.pi, 200)[:, None] * np.array([0.6, 0.0, 0.8])
    wrapped = rotations.matrix_to_rotvec(rotations.rotvec_to_matrix(true))
    assert np.abs(np.diff(wrapped, axis=0)).max() > 3
    smooth = rotations.continuous_rotvecs(wrapped)
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.1
    np.testing.assert_allclose(
        rotations.rotvec_to_matrix(smooth), rotations.rotvec_to_matrix(true), atol=1e-9
    )


def test_a_wrong_shape_says_what_was_expected():
    with pytest.raises(ValueError, match=r"\(4,\), expected \(…, 3\)"):
        rotations.rotvec_to_matrix(np.zeros(4))
