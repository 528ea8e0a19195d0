# SPDX-License-Identifier: GPL-3.0-or-later
"""Bones and scene frames become the joints and positions that the wire names; without Blender."""

import numpy as np
import pytest
from blender_addon.control.freedom import Freedom, hand_bones
from blender_addon.rigs import rig

from posefit_shared import skeleton


def match_of(model_type):
    return rig.match_bones(skeleton.JOINT_NAMES[model_type])


def test_bones_and_frames_are_named_by_their_places():
    freedom = Freedom(
        locked=frozenset({"L_Elbow", "Pelvis", "not SMPL's"}),
        stiffness={"Neck": 3.0, "tail": 9.0},
        pinned=frozenset({7, 30, 99}),
    )
    match = match_of("smpl")
    assert freedom.locked_joints(match) == (0, 18)
    factors = freedom.joint_stiffness(match)
    assert factors.dtype == np.float32
    assert np.flatnonzero(factors != 1).tolist() == [12]
    assert factors[12] == 3
    assert freedom.pinned_positions((5, 7, 20, 30)) == (1, 3)


def test_nothing_is_sent_where_nothing_is_held():
    match = match_of("smpl")
    assert Freedom().joint_stiffness(match) is None
    assert Freedom(stiffness={"tail": 2.0}).joint_stiffness(match) is None
    assert Freedom().locked_joints(match) == ()


@pytest.mark.parametrize(("model_type", "count"), [("smpl", 2), ("smplh", 30), ("smplx", 30)])
def test_hands_are_what_lies_beyond_the_wrists_and_no_face(model_type, count):
    bones = hand_bones(match_of(model_type))
    assert len(bones) == count
    assert all(bone.startswith(("L_", "R_")) and "Eye" not in bone for bone in bones)
    assert not {"L_Wrist", "R_Wrist", "Jaw"} & set(bones)
