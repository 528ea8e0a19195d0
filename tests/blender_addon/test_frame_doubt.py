# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frames deserve a look: one arm counts, one wrist does not, and nothing goes missing."""

import numpy as np
import pytest
from blender_addon.results import frame_doubt

from posefit_shared import skeleton

LEFT_ARM = [skeleton.SMPL_JOINT_NAMES.index(n) for n in ("L_Shoulder", "L_Elbow", "L_Wrist")]
REFINED = ("refined",) * 4


def sure_but(**rows):
    """(4, 24) confidence of 0.9; rows by number: {"2": (joints, value)}."""
    confidence = np.full((4, 24), 0.9)
    for row, (joints, value) in rows.items():
        confidence[int(row), joints] = value
    return confidence


def test_body_parts_hold_each_joint_of_the_trunk_and_limbs_once():
    every = [joint for joints in frame_doubt.BODY_PARTS.values() for joint in joints]
    assert sorted(every) == list(range(22))
    sides = {"left": "L_", "right": "R_"}
    for part, joints in frame_doubt.BODY_PARTS.items():
        side = sides.get(part.split()[0], "")
        names = [skeleton.SMPL_JOINT_NAMES[joint] for joint in joints]
        assert all(name.startswith(side) for name in names), part
        assert side or not any(name.startswith(("L_", "R_")) for name in names)


def test_a_frame_is_as_sure_as_its_least_sure_part():
    confidence = sure_but(**{"1": (LEFT_ARM, 0.1), "2": (20, 0.1), "3": (22, 0.0)})
    sure = frame_doubt.frame_confidence(confidence, REFINED)
    assert sure == pytest.approx([0.9, (0.9 + 3 * 0.1) / 4, (3 * 0.9 + 0.1) / 4, 0.9])


def test_frames_that_were_not_computed_are_not_sure_at_all():
    sure = frame_doubt.frame_confidence(sure_but(), ("refined", "kept", "no_person", "failed"))
    assert sure == pytest.approx([0.9, 0.9, 0.0, 0.0])


def test_joints_that_were_not_accepted_count_neither_way():
    confidence = sure_but(**{"0": (LEFT_ARM, np.nan), "1": (slice(None), np.nan)})
    sure = frame_doubt.frame_confidence(confidence, REFINED)
    assert sure == pytest.approx([0.9, 1.0, 0.9, 0.9])


def test_the_worst_frames_come_first_and_say_why():
    confidence = sure_but(**{"1": (LEFT_ARM, 0.3), "3": (slice(None), 0.8)})
    found = frame_doubt.worst_frames(
        [10, 11, 12, 13], confidence, ("refined", "refined", "no_person", "kept"), 3
    )
    assert [(one.frame, one.part, one.why) for one in found] == [
        (12, "", "no person was found"),
        (11, "left arm", ""),
        (13, "trunk", ""),
    ]
    assert found[1].confidence == pytest.approx((0.9 + 3 * 0.3) / 4)


@pytest.mark.parametrize(
    ("now", "step", "wanted"),
    [(0, 1, 3), (3, 1, 5), (4, 1, 5), (9, 1, 3), (9, -1, 9 - 4), (5, -1, 3), (3, -1, 5)],
)
def test_doubtful_frames_follow_each_other_and_go_round(now, step, wanted):
    frames, sure = np.arange(3, 7), np.array([0.2, 0.5, 0.49, 0.9])
    assert frame_doubt.next_doubtful(frames, sure, 0.5, now, step) == wanted


def test_where_no_frame_is_doubtful_there_is_none_to_go_to():
    assert frame_doubt.next_doubtful([1, 2], [0.6, 0.9], 0.5, 1, 1) is None
