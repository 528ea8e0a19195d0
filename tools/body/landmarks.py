# SPDX-License-Identifier: Apache-2.0
"""Surface points by name: the ones that keypoint detectors report, found on the T-posed body."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from skin_mesh import SkinMesh

from posefit_shared.skeleton import SMPL_JOINT_NAMES

__all__ = ["find_landmarks"]

Array = npt.NDArray[np.float64]
_HELIX_TO_TRAGUS_M = 0.02
"""How far in front of the ear's outermost point its canal lies."""
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def find_landmarks(
    mesh: SkinMesh,
    v_template: Array,
    normals: Array,
    lbs_weights: Array,
    bone_heads: Array,
    bone_tails: Array,
    bone: Callable[[str], int],
) -> dict[str, int]:
    """Vertices of nose, eyes, ears, mouth corners, heels, toes, finger tips and knuckles.

    Args:
        mesh: the skin, with its openings.
        v_template: (V, 3) T-posed mean body, y up, metres.
        normals: (V, 3) its normals.
        lbs_weights: (V, 24).
        bone_heads: (bones, 3) T-posed heads of the fine bones, in the same frame.
        bone_tails: (bones, 3) their tails.
        bone: place of a bone by its label.

    Returns:
        Vertex of each name.
    """

    def weight(joint: str) -> Array:
        return lbs_weights[:, SMPL_JOINT_NAMES.index(joint)]

    found = _face(mesh, v_template, weight("Head") > 0.5)
    for side, sign, letter in (("left", 1.0, "L"), ("right", -1.0, "R")):
        found |= _foot(v_template, side, sign, weight(f"{letter}_Foot"), weight(f"{letter}_Ankle"))
        is_hand = weight(f"{letter}_Hand") + weight(f"{letter}_Wrist") > 0.6
        for number, finger in enumerate(_FINGERS, start=1):
            tip = bone_tails[bone(f"finger{number}-3.{letter}")]
            found[f"{side}_{finger}_tip"] = _nearest(v_template, tip, is_hand)
            # the thumb's second joint, the other fingers' first: what hand detectors call knuckles
            joint = "3" if finger == "thumb" else "1"
            knuckle = bone_heads[bone(f"finger{number}-{joint}.{letter}")]
            is_back = is_hand & (normals[:, 1] > 0.5)
            found[f"{side}_{finger}_knuckle"] = _nearest(v_template, knuckle, is_back)
    return found


def _face(mesh: SkinMesh, points: Array, is_head: npt.NDArray[np.bool_]) -> dict[str, int]:
    is_middle = is_head & (np.abs(points[:, 0]) < 0.01)
    found = {"nose": _furthest(points, is_middle, [0, 0, 1])}
    for k, (side, sign) in enumerate((("left", 1.0), ("right", -1.0))):
        rim = mesh.openings[mesh.eye_openings[k]]
        across = sign * points[rim, 0]
        found[f"{side}_eye"] = len(mesh.source_vertices) + k
        found[f"{side}_eye_inner"] = int(rim[np.argmin(across)])
        found[f"{side}_eye_outer"] = int(rim[np.argmax(across)])
        eye_height, nose_height = points[rim, 1].mean(), points[found["nose"], 1]
        is_ear_level = (points[:, 1] < eye_height) & (points[:, 1] > nose_height - 0.01)
        helix = points[_furthest(points, is_head & is_ear_level, [sign, 0, 0])]
        tragus = np.array([helix[0] - 0.012 * sign, 0.5 * (eye_height + nose_height), helix[2]])
        found[f"{side}_ear"] = _nearest(points, tragus + [0, 0, _HELIX_TO_TRAGUS_M], is_head)
    mouth = _mouth(mesh, points)
    found["mouth_left"] = int(mouth[np.argmax(points[mouth, 0])])
    found["mouth_right"] = int(mouth[np.argmin(points[mouth, 0])])
    return found


def _mouth(mesh: SkinMesh, points: Array) -> npt.NDArray[np.int64]:
    others = [k for k in range(len(mesh.openings)) if k not in mesh.eye_openings]
    is_middle = [abs(points[mesh.openings[k], 0].mean()) < 0.005 for k in others]
    candidates = [mesh.openings[k] for k, middle in zip(others, is_middle, strict=True) if middle]
    return max(candidates, key=len)


def _foot(points: Array, side: str, sign: float, foot: Array, ankle: Array) -> dict[str, int]:
    is_toes = foot > 0.5
    across = sign * points[:, 0]
    inner, outer = np.percentile(across[is_toes], [45, 85])
    return {
        f"{side}_big_toe": _furthest(points, is_toes & (across < inner), [0, 0, 1]),
        f"{side}_small_toe": _furthest(points, is_toes & (across > outer), [0, 0, 1]),
        f"{side}_heel": _furthest(points, ankle > 0.5, [0, -0.6, -1]),
    }


def _furthest(points: Array, is_member: npt.NDArray[np.bool_], direction: list[float]) -> int:
    members = np.flatnonzero(is_member)
    return int(members[np.argmax(points[members] @ np.asarray(direction, dtype=float))])


def _nearest(points: Array, target: Array, is_member: npt.NDArray[np.bool_]) -> int:
    members = np.flatnonzero(is_member)
    return int(members[np.argmin(np.linalg.norm(points[members] - target, axis=1))])
