# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours say what they should, a skinned ghost stands where bones put it, arrows point."""

import numpy as np
import pytest
from blender_addon.overlays import overlay_geometry

from posefit_shared import rotations

NAMES = ("GOOD", "MIDDLE", "BAD", "UNKNOWN")


def luminance(colour):
    linear = np.where(np.asarray(colour) <= 0.04045, colour, ((colour + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def seen_by_a_deuteranope(colour):
    """Linear light of sRGB as seen without the green cones.

    Source: Viénot, Brettel and Mollon, "Digital video colourmaps for checking the legibility of
    displays by dichromats", 1999.
    """
    linear = np.asarray(colour, float) ** 2.2
    matrix = [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]
    return np.array(matrix) @ linear


def test_the_middle_of_the_ramp_lies_at_the_threshold():
    goodness = overlay_geometry.goodness_of_confidence([0.0, 0.3, 0.65, 1.0], 0.3)
    assert goodness == pytest.approx([0.0, 0.5, 0.75, 1.0])


def test_change_is_orange_from_the_limit_on():
    goodness = overlay_geometry.goodness_of_change([0.0, 25.0, 50.0, 900.0], 50.0)
    assert goodness == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_the_ends_of_the_ramp_are_told_apart_without_seeing_green():
    bad, middle, good = overlay_geometry.ramp_colours([0.0, 0.5, 1.0]).astype(float)
    seen = [seen_by_a_deuteranope(colour) for colour in (bad, middle, good)]
    assert np.linalg.norm(seen[0] - seen[2]) > 0.3
    # What is pale in the middle is lighter than both ends, so the order shows in grey as well.
    assert luminance(middle) > 2 * max(luminance(bad), luminance(good))


def test_what_is_not_known_is_grey():
    colours = overlay_geometry.ramp_colours([np.nan, 0.5])
    assert colours[0] == pytest.approx(overlay_geometry.UNKNOWN)
    assert np.ptp(colours[0]) == 0


def test_skin_between_two_joints_has_what_lies_between_them():
    weights = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0.25, 0.75], [0, 0, 0]], np.float32)
    found = overlay_geometry.skin_colours(weights, [1.0, 0.0, np.nan])
    good, middle, bad, grey = (np.array(getattr(overlay_geometry, n)) for n in NAMES)
    assert found == pytest.approx(np.stack([good, middle, 0.25 * bad + 0.75 * grey, grey]))
    assert overlay_geometry.skin_colours(weights, [np.nan] * 3) == pytest.approx(
        np.tile(grey, (4, 1))
    )


def test_light_falls_on_one_side_and_changes_no_opacity():
    normals = np.array([overlay_geometry._LIGHT, -overlay_geometry._LIGHT]) * (3.0,)
    lit, dark = overlay_geometry.shaded((0.5, 0.4, 0.2), normals, 0.7)
    assert lit == pytest.approx([0.5, 0.4, 0.2, 0.7])
    assert dark[:3] == pytest.approx(lit[:3] * (1 - overlay_geometry._SHADE))
    assert dark[3] == pytest.approx(0.7)


@pytest.mark.parametrize("is_perspective", [True, False])
def test_a_ghost_is_dense_at_its_outline_and_clear_inside(is_perspective):
    view = np.eye(4)
    view[:3, 3] = (0, 0, -5)
    points = np.zeros((3, 3))
    normals = np.array([[0, 0, 2.0], [1.0, 0, 0], [0, 0, -1.0]])
    colours = overlay_geometry.rim_colours((1, 1, 0), points, normals, view, is_perspective)
    clear, dense = overlay_geometry._CLEAR, overlay_geometry._DENSE
    assert colours[:, 3] == pytest.approx([clear, dense, clear])
    assert colours[:, :3] == pytest.approx(np.tile((1, 1, 0), (3, 1)))


def test_an_outline_is_where_the_line_of_sight_grazes_not_where_the_view_looks():
    """At the picture's edge, seen in perspective, a normal across the sight is not the view's."""
    view = np.eye(4)
    points = np.array([[3.0, 0, -3.0]])
    grazing = np.array([[1.0, 0, 1.0]])
    seen = overlay_geometry.rim_colours((1, 1, 0), points, grazing, view, True)
    assert seen[0, 3] == pytest.approx(overlay_geometry._DENSE)
    flat = overlay_geometry.rim_colours((1, 1, 0), points, grazing, view, False)
    assert flat[0, 3] < 0.3


def test_vertices_follow_their_bones_and_others_stay(rng):
    rest, normals = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    transforms = np.tile(np.eye(4), (2, 1, 1))
    transforms[:, :3, :3] = rotations.rotvec_to_matrix(rng.normal(size=(2, 3)))
    transforms[:, :3, 3] = rng.normal(size=(2, 3))
    weights = np.array([[1, 0], [0, 1], [0.3, 0.7], [0, 0]], np.float32)
    moved, turned = overlay_geometry.skinned(rest, normals, weights, transforms)
    each = np.einsum("jab,vb->jva", transforms[:, :3, :3], rest) + transforms[:, None, :3, 3]
    wanted = [each[0, 0], each[1, 1], 0.3 * each[0, 2] + 0.7 * each[1, 2], rest[3]]
    assert moved == pytest.approx(np.array(wanted), abs=1e-5)
    assert turned[0] == pytest.approx(transforms[0, :3, :3] @ normals[0], abs=1e-5)
    assert turned[3] == pytest.approx(normals[3], abs=1e-6)


def test_bones_run_from_parents_to_children_and_end_in_tails():
    heads = tails = np.zeros((4, 3))
    pairs = overlay_geometry.bone_lines(heads, tails, (-1, 0, 1, 0))
    assert pairs.tolist() == [[0, 1], [1, 2], [0, 3], [2, 6], [3, 7]]


def test_arrows_point_at_their_ends_and_short_ones_are_left_out():
    starts = np.zeros((3, 3))
    ends = np.array([[1.0, 0, 0], [0.001, 0, 0], [0, 0, 2.0]])
    points = overlay_geometry.arrow_lines(starts, ends, 0.01)
    for arrow, end in zip(points, ends[[0, 2]], strict=True):
        length = np.linalg.norm(end)
        assert arrow[0] == pytest.approx((0, 0, 0))
        assert arrow[[1, 2, 4]] == pytest.approx(np.tile(end, (3, 1)))
        for barb in arrow[[3, 5]]:
            assert 0.6 * length < barb @ end / length < length
            assert 0.2 * length < np.linalg.norm(barb - end) < 0.4 * length
        assert (arrow[3] + arrow[5]) / 2 == pytest.approx(0.7 * end, abs=1e-6)
