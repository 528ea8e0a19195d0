# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer keys say the same, to the millimetre; runs without Blender."""

import numpy as np
import pytest
from blender_addon.keys import key_reduction
from blender_addon.keys.key_reduction import BoneChain, ValueLayout
from blender_addon.slices import to_end

from posefit_shared import skeleton

PARENTS = skeleton.SMPL_PARENTS
LAYOUTS = {
    "quaternions": ValueLayout(("QUATERNION",) * 24),
    "mixed": ValueLayout(("XYZ", "QUATERNION", "AXIS_ANGLE", "ZXY") * 6),
}


def make_chain(units=1.0):
    rng = np.random.default_rng(1)
    rest = np.tile(np.eye(4), (24, 1, 1))
    for joint, parent in enumerate(PARENTS):
        offset = rng.normal(size=3) * 0.15 * units
        rest[joint, :3, 3] = offset + (rest[parent, :3, 3] if parent >= 0 else 0)
    return BoneChain(rest, PARENTS, np.full(24, 0.1 * units), units)


def smooth_values(layout, count=120, noise=0.0):
    """A motion of every bone, as its values."""
    from blender_addon.keys.rotation_values import from_matrices

    from posefit_shared import rotations

    rng = np.random.default_rng(2)
    time = np.linspace(0, 4, count)[:, None, None]
    rotvec = 0.4 * np.sin(time + rng.uniform(0, 6, (1, 24, 3)))
    matrices = rotations.rotvec_to_matrix(rotvec + noise * rng.normal(size=(count, 24, 3)))
    columns = [0.3 * np.concatenate([np.sin(time[:, 0]), time[:, 0], np.cos(time[:, 0])], -1)]
    for bone, mode in enumerate(layout.modes):
        near = np.tile([1.0, 0, 0, 0] if mode == "QUATERNION" else [0.0] * 3, (count, 1))
        near = np.tile([0.0, 0, 1, 0], (count, 1)) if mode == "AXIS_ANGLE" else near
        columns.append(from_matrices(matrices[:, bone], mode, near))
    return np.concatenate(columns, -1)


def fewest_keys(*given):
    return to_end(key_reduction.fewest_keys(*given))


def reduction_error_mm(*given):
    return to_end(key_reduction.reduction_error_mm(*given))


def measure(layout, chain):
    return lambda values, indices: key_reduction.joint_positions(values, layout, chain)


def test_positions_are_those_of_the_chain_worked_out_by_hand():
    rest = np.tile(np.eye(4), (2, 1, 1))
    rest[1, :3, 3] = (0, 2, 0)
    chain = BoneChain(rest, (-1, 0), np.array([2.0, 1.0]), units_per_metre=10.0)
    values = np.array([[1.0, 0, 0, 0, 0, np.pi / 2, 0, 0, -np.pi / 2]])
    found = key_reduction.joint_positions(values, ValueLayout(("XYZ", "XYZ")), chain)
    # Root at x = 1 turned by 90° about z: its tail two units to the left, the next bone upright.
    expected = [(1, 0, 0), (-1, 0, 0), (-1, 0, 0), (-1, 1, 0)]
    assert found[0] == pytest.approx(100 * np.array(expected, float), abs=1e-9)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_smooth_motion_needs_far_fewer_keys_and_stays_within_the_tolerance(name):
    layout, chain = LAYOUTS[name], make_chain()
    values, frames = smooth_values(layout), np.arange(120)
    counts = []
    for tolerance in (1.0, 5.0, 25.0):
        kept = fewest_keys(frames, values, measure(layout, chain), tolerance)
        off = reduction_error_mm(frames, values, kept, measure(layout, chain))
        assert tolerance / 4 < off <= tolerance
        assert (kept[0], kept[-1]) == (0, 119)
        counts.append(len(kept))
    assert counts == sorted(counts, reverse=True)
    assert counts[1] < 45
    assert counts[2] < 20


def test_noise_keeps_every_key():
    layout, chain = LAYOUTS["quaternions"], make_chain()
    values = smooth_values(layout, count=40, noise=0.15)
    kept = fewest_keys(np.arange(40), values, measure(layout, chain), 5.0)
    assert kept.tolist() == list(range(40))


def test_a_straight_motion_needs_its_ends_only():
    frames = np.array([1.0, 2.0, 4.0, 9.0])
    values = np.stack([frames, -3 * frames], -1)
    kept = fewest_keys(frames, values, lambda v, _: v[:, None], 1e-9)
    assert kept.tolist() == [0, 3]


def test_a_corner_keeps_the_key_it_turns_on():
    values = np.abs(np.arange(21.0) - 13)[:, None]
    kept = fewest_keys(np.arange(21), values, lambda v, _: v[:, None], 1e-6)
    assert kept.tolist() == [0, 13, 20]


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_frames_stay(count):
    values = np.arange(2.0)[:count, None]
    kept = fewest_keys(np.arange(count), values, lambda v, _: v[:, None], 1.0)
    assert kept.tolist() == list(range(count))


def test_millimetres_do_not_depend_on_the_rigs_units():
    layout, tolerance = LAYOUTS["quaternions"], 5.0
    metres, centimetres = smooth_values(layout), smooth_values(layout)
    centimetres[:, :3] *= 100
    frames = np.arange(len(metres))
    one = fewest_keys(frames, metres, measure(layout, make_chain()), tolerance)
    other = measure(layout, make_chain(100.0))
    assert np.array_equal(one, fewest_keys(frames, centimetres, other, tolerance))
