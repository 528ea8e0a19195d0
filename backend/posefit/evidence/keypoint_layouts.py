# SPDX-License-Identifier: Apache-2.0
"""Which points of the body other detectors' keypoints are, beside those the solver knows.

Hands have joints of their own on SMPL-H and SMPL-X; on SMPL and the free body only knuckles and
tips exist, and the others are left out. Faces: the few of 70 points that bodies have names for.
"""

from __future__ import annotations

from ..solver import BODY_25, LandmarkTable

__all__ = [
    "BY_POINT_COUNT",
    "COCO_18",
    "FACE_POINTS",
    "HAND_NAMES",
    "HAND_POINTS",
    "face_table",
    "hand_table",
    "joined_table",
    "openpose_table",
]


def _select(table: LandmarkTable, *names: str) -> LandmarkTable:
    return LandmarkTable(names, tuple(table.combinations[table.index(name)] for name in names))


COCO_18 = _select(
    BODY_25, "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder",
    "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
    "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
"""OpenPose's COCO model: COCO's points in another order, with a neck."""

HAND_POINTS = 21
"""OpenPose's and MediaPipe's points of a hand: the wrist, then four of each finger."""

_FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def hand_table(side: str) -> LandmarkTable:
    """The 21 points of a hand.

    Args:
        side: `left` or `right`, the person's.
    """
    letter = side[0].upper()
    names = [f"{side}_hand_wrist"]
    combinations: list[tuple[dict[str, float], ...]] = [({f"{letter}_Wrist": 1.0},)]
    for finger in _FINGERS:
        joints = [f"{letter}_{finger.title()}{k}" for k in (1, 2, 3)]
        for k, joint in enumerate(joints):
            names.append(f"{side}_{finger}_{k + 1}")
            # SMPL's thumb has its first joint at the wrist's base, as the detectors' has.
            surface = {f"{side}_{finger}_knuckle": 1.0}
            is_knuckle = k == (1 if finger == "thumb" else 0)
            combinations.append(({joint: 1.0}, surface) if is_knuckle else ({joint: 1.0},))
        names.append(f"{side}_{finger}_tip")
        combinations.append(({f"{side}_{finger}_tip": 1.0},))
    return LandmarkTable(tuple(names), tuple(combinations))


HAND_NAMES = frozenset(hand_table("left").names + hand_table("right").names)
"""Names of all points of both hands."""

FACE_POINTS: dict[int, str] = {
    30: "nose", 36: "right_eye_outer", 39: "right_eye_inner", 42: "left_eye_inner",
    45: "left_eye_outer", 48: "mouth_right", 54: "mouth_left", 68: "right_eye", 69: "left_eye",
}  # fmt: skip
"""Points of OpenPose's face (70) that bodies have names for; right and left are the person's."""


def face_table() -> LandmarkTable:
    """The face points of `FACE_POINTS`, in their order."""
    names = tuple(f"face_{name}" for name in FACE_POINTS.values())
    return LandmarkTable(names, tuple(({name: 1.0},) for name in FACE_POINTS.values()))


def joined_table(*tables: LandmarkTable) -> LandmarkTable:
    """Several tables as one, in their order."""
    names = tuple(name for table in tables for name in table.names)
    return LandmarkTable(names, tuple(c for table in tables for c in table.combinations))


def openpose_table(body: LandmarkTable) -> LandmarkTable:
    """OpenPose's whole person: body, left hand, right hand, the face's known points."""
    return joined_table(body, hand_table("left"), hand_table("right"), face_table())


BY_POINT_COUNT: dict[int, LandmarkTable] = {25: BODY_25, 18: COCO_18}
"""OpenPose's bodies by their number of points."""
