# SPDX-License-Identifier: Apache-2.0
"""From MakeHuman's rest pose to SMPL's T-pose: where each bone turns, and how skin follows.

Skin is moved by dual quaternions (Kavan et al., ACM TOG 2008), which keep the volume of twisted
and bent limbs; linear blending of such large turns would pinch shoulders and wrists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation
from skeleton_map import split_side

__all__ = ["BoneMotion", "pose_to_t", "skin_dual_quaternions"]

Array = npt.NDArray[np.float64]

PELVIS = np.array([0.0, -0.23, 0.02])
"""Where the T-posed pelvis lies, metres: SMPL's own origin is near the chest's middle."""

_COLLAR_DEGREES = 5.0
_TOES_OUT_DEGREES = 10.0
_THIGH = np.array([0.085, -1.0, -0.01])
_SHIN = np.array([-0.02, -1.0, -0.09])
"""Directions of the left thigh and shin in SMPL's T-pose."""


@dataclass(frozen=True)
class BoneMotion:
    """Rigid motion of each bone of one body from its rest pose: `rotation @ x + translation`."""

    rotations: Array
    """(bones, 3, 3)"""
    translations: Array
    """(bones, 3) metres."""
    heads: Array
    """(bones, 3) where the bones' heads come to lie, metres."""


def pose_to_t(
    heads: Array, tails: Array, labels: tuple[str, ...], parents: tuple[int, ...]
) -> BoneMotion:
    """How one body's bones move into SMPL's T-pose: arms straight out, palms down.

    Args:
        heads: (bones, 3) bone heads at rest, y up, metres.
        tails: (bones, 3) bone tails.
        labels: bone names, parents first.
        parents: parent of each bone.

    Returns:
        The motion of each bone.
    """
    place = {label: index for index, label in enumerate(labels)}
    rotations = np.tile(np.eye(3), (len(labels), 1, 1))
    posed = heads.copy()
    for bone in range(1, len(labels)):
        above = parents[bone]
        inherited = rotations[above]
        posed[bone] = posed[above] + inherited @ (heads[bone] - heads[above])
        base, side = split_side(labels[bone])
        turn = np.eye(3)
        if side:

            def direction(start: str, end: str, side: str = side, r: Array = inherited) -> Array:
                return r @ (heads[place[f"{end}.{side}"]] - heads[place[f"{start}.{side}"]])

            own = inherited @ (tails[bone] - heads[bone])
            turn = _own_turn(base, 1.0 if side == "L" else -1.0, direction, own)
        rotations[bone] = turn @ inherited
    return BoneMotion(
        rotations=rotations,
        translations=posed - np.einsum("bij,bj->bi", rotations, heads),
        heads=posed,
    )


def _own_turn(base: str, sign: float, direction: Callable[[str, str], Array], own: Array) -> Array:
    """What one bone turns by, after its parent's turn; `sign` is +1 on the left (+x)."""
    outwards = np.array([sign, 0.0, 0.0])
    if base in ("clavicle", "shoulder01"):
        return _about([0, 0, sign], _COLLAR_DEGREES)
    if base == "upperarm01":
        return _shortest(direction("upperarm01", "lowerarm01"), outwards)
    if base == "lowerarm01":
        return _shortest(direction("lowerarm01", "wrist"), outwards)
    if base == "lowerarm02":  # the forearm takes half of the twist that lays the palm down
        return _about([1, 0, 0], 0.5 * _palm_degrees(direction("finger5-1", "finger2-1")))
    if base == "wrist":
        straight = _shortest(direction("wrist", "finger3-1"), outwards)
        palm = _palm_degrees(straight @ direction("finger5-1", "finger2-1"))
        return _about([1, 0, 0], palm) @ straight
    if base.startswith("finger") and not base.startswith("finger1"):
        spread = 0.6 * np.clip(np.arctan2(own[2], sign * own[0]), -0.25, 0.25)
        return _shortest(own, np.array([sign * np.cos(spread), -0.06, np.sin(spread)]))
    if base == "upperleg01":
        return _shortest(direction("upperleg01", "lowerleg01"), _THIGH * [sign, 1, 1])
    if base == "lowerleg01":
        return _shortest(direction("lowerleg01", "foot"), _SHIN * [sign, 1, 1])
    if base == "foot":
        toes = np.mean([direction("foot", f"toe{k}-1") for k in range(1, 6)], axis=0)
        out = np.rad2deg(np.arctan2(toes[0], toes[2]))
        return _about([0, 1, 0], sign * _TOES_OUT_DEGREES - out)
    return np.eye(3)


def _palm_degrees(across_knuckles: Array) -> float:
    """Turn about x that lays the line from little to index knuckle forwards, so palms face down."""
    return float(np.rad2deg(np.arctan2(across_knuckles[1], across_knuckles[2])))


def _about(axis: list[float], degrees: float) -> Array:
    return Rotation.from_rotvec(np.asarray(axis, dtype=float) * np.deg2rad(degrees)).as_matrix()


def _shortest(start: Array, end: Array) -> Array:
    """The smallest rotation that takes one direction to the other."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    x, y, z = np.cross(start, end)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + start @ end)


def skin_dual_quaternions(
    points: Array, weights: Array, motion: BoneMotion, parents: tuple[int, ...]
) -> Array:
    """Points moved by the bones' blended screw motions.

    Args:
        points: (V, 3) at rest.
        weights: (V, bones) rows sum to one.
        motion: of each bone.
        parents: parent of each bone: a bone's quaternion takes the sign nearer to its parent's.

    Returns:
        (V, 3) moved points.

    Source:
        Kavan et al. 2008, section 4.
    """
    real = Rotation.from_matrix(motion.rotations).as_quat()[:, [3, 0, 1, 2]]
    for bone in range(1, len(real)):
        if real[bone] @ real[max(parents[bone], 0)] < 0:
            real[bone] = -real[bone]
    pure = np.concatenate([np.zeros((len(real), 1)), motion.translations], axis=1)
    dual = 0.5 * _multiply(pure, real)
    blended_real, blended_dual = weights @ real, weights @ dual
    length = np.linalg.norm(blended_real, axis=1, keepdims=True)
    blended_real, blended_dual = blended_real / length, blended_dual / length
    translation = 2 * _multiply(blended_dual, blended_real * [1, -1, -1, -1])[:, 1:]
    axis = blended_real[:, 1:]
    once = 2 * np.cross(axis, points)
    return points + blended_real[:, :1] * once + np.cross(axis, once) + translation


def _multiply(left: Array, right: Array) -> Array:
    """Products of wxyz quaternions."""
    vector = left[:, :1] * right[:, 1:] + right[:, :1] * left[:, 1:]
    vector = vector + np.cross(left[:, 1:], right[:, 1:])
    scalar = left[:, :1] * right[:, :1] - (left[:, 1:] * right[:, 1:]).sum(1, keepdims=True)
    return np.concatenate([scalar, vector], axis=1)
