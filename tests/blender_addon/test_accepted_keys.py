# SPDX-License-Identifier: GPL-3.0-or-later
"""Accepted motion with the artist's own keys, or with few that stay within a tolerance."""

import numpy as np
import pytest
from comparison_makers import (
    ARM,
    BETWEEN,
    BONES,
    EVERY,
    MODES,
    POSES,
    add_animated_body,
    add_sparse_body,
    both_motions,
    key_times,
    keys_of,
    part,
    record,
    refine,
    refusal,
    select,
    slerp,
    smooth_motion,
    turned,
)

pytestmark = pytest.mark.bpy


@pytest.fixture
def sparse(context):
    """An animator's three Bezier poses; the refinement keyed all forty frames."""
    return add_sparse_body(context)


@pytest.mark.parametrize("amount", [0.5, 1.0])
def test_own_keys_move_the_artists_poses_and_add_none(context, sparse, amount):
    import bpy

    before, after = both_motions(context, sparse, POSES)
    sparse.posefit_comparison.amount = amount
    assert bpy.ops.posefit.accept(keys="OWN") == {"FINISHED"}
    assert key_times(sparse, "Head") == POSES
    wanted = slerp(before[0], after[0], amount)
    assert record(context, sparse, POSES)[0] == pytest.approx(wanted, abs=1e-4)
    keys = keys_of(sparse.animation_data.action)
    assert all((k.kinds[:, 0] == 2).all() for k in keys.values())


@pytest.mark.parametrize("options", [{"keys": "OWN"}, {"keys": "FEWEST", "tolerance_mm": 80.0}])
def test_pinned_frames_show_the_same_whatever_keys_are_accepted(context, sparse, options):
    import bpy

    shown_before = record(context, sparse, [9, 33])
    sparse.posefit_pinned_frames = "9, 33"
    assert bpy.ops.posefit.accept(**options) == {"FINISHED"}
    assert {9, 33} <= set(key_times(sparse, "Head"))
    for before, after in zip(shown_before, record(context, sparse, [9, 33]), strict=True):
        assert after == pytest.approx(before, abs=1e-6)


def test_own_keys_are_refused_where_there_are_none(context, sparse):
    context.scene.frame_set(12)
    assert "no keys from frame 12 to 12" in refusal(keys="OWN", frames="CURRENT")


def rig_positions(context, armature, frames):
    """Heads and tails of all bones (T, 48, 3), millimetres in armature space, from Blender."""
    rows = []
    for frame in frames:
        context.scene.frame_set(frame)
        bones = [armature.pose.bones[name] for name in BONES]
        rows.append([np.array(b.head) for b in bones] + [np.array(b.tail) for b in bones])
    return 1000 * np.array(rows)


@pytest.mark.parametrize("tolerance", [2.0, 20.0])
@pytest.mark.parametrize("modes", [{}, MODES], ids=["quaternions", "all modes"])
def test_fewest_keys_stay_within_the_tolerance_that_blender_shows(context, tolerance, modes):
    import bpy

    motion = turned(smooth_motion(40))
    armature = add_animated_body(context, smooth_motion(40), EVERY, modes)
    refine(context, armature, EVERY, motion)
    wanted = rig_positions(context, armature, EVERY)
    assert bpy.ops.posefit.accept(keys="FEWEST", tolerance_mm=tolerance) == {"FINISHED"}
    error = np.linalg.norm(rig_positions(context, armature, EVERY) - wanted, axis=-1).max()
    assert error <= tolerance + 0.05
    assert error > tolerance / 10
    times = key_times(armature, "Head")
    assert len(times) < (34 if tolerance == 2 else 14)
    assert (times[0], times[-1]) == (1, 40)
    assert all(key_times(armature, name) == times for name in BONES)


def test_fewest_keys_of_a_noisy_motion_are_all_of_them(context):
    import bpy

    from posefit_shared import rotations

    rng = np.random.default_rng(0)
    motion = smooth_motion(20)
    armature = add_animated_body(context, motion, range(1, 21))
    noisy = part(motion, slice(None))
    noisy.rotations[:] = noisy.rotations @ rotations.rotvec_to_matrix(
        rng.normal(size=(20, 24, 3)) * 0.2
    )
    refine(context, armature, range(1, 21), noisy)
    assert bpy.ops.posefit.accept(keys="FEWEST", tolerance_mm=5) == {"FINISHED"}
    assert key_times(armature, "Head") == list(range(1, 21))


def test_fewest_keys_of_a_part_leave_the_rest_to_the_artist(context, sparse):
    import bpy

    before, after = both_motions(context, sparse, BETWEEN)
    select(sparse, [BONES[joint] for joint in ARM])
    context.scene.frame_start, context.scene.frame_end = 10, 30
    options = {"keys": "FEWEST", "bones": "SELECTED", "frames": "RANGE", "tolerance_mm": 5}
    assert bpy.ops.posefit.accept(**options) == {"FINISHED"}
    rotations, _ = record(context, sparse, BETWEEN)
    others = np.delete(np.arange(24), ARM)
    assert rotations[:, others] == pytest.approx(before[0][:, others], abs=1e-5)
    outside = (BETWEEN <= 9) | (BETWEEN >= 31)
    assert rotations[outside] == pytest.approx(before[0][outside], abs=2e-4)
    inside = (BETWEEN >= 10) & (BETWEEN <= 30)
    arm = rotations[inside][:, ARM], after[0][inside][:, ARM]
    assert np.abs(arm[0] - arm[1]).max() < 0.05
    times = key_times(sparse, "L_Elbow")
    assert [times[0], *times[-2:]] == [1, 31, 40]
    assert len(times) < 15
    assert key_times(sparse, "Head") == POSES
