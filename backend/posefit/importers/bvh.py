# SPDX-License-Identifier: Apache-2.0
"""BVH of CMU-like skeletons (CMU, Mixamo, HumanIK names) retargeted to SMPL's rotations.

Both rest poses are taken to stand upright with the arms out or down. Each SMPL bone is turned as
the BVH's bone is, after SMPL's resting bone was laid along the BVH's resting bone; the body keeps
the shape of the body file, and the way is scaled by the length of the legs. Positions of joints
other than the root, and bones that SMPL does not have, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from posefit_shared.frames import YUP_TO_ZUP
from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix
from posefit_shared.skeleton import SMPL_JOINT_NAMES, SMPL_PARENTS

from .building import Motion
from .bvh_file import BvhMotion, read_bvh_text
from .content import Content
from .fields import Array
from .person import ImportedPerson, ImporterError, ImportOptions
from .worlds import rest_joints

__all__ = ["read_bvh", "recognises_bvh"]

_SIDES = (("L", "Left"), ("R", "Right"))
_LIMBS = {
    "Hip": ("UpLeg", "Thigh", "Hip"), "Knee": ("Leg", "Shin", "LowLeg", "Knee"),
    "Ankle": ("Foot", "Ankle"), "Foot": ("ToeBase", "Toe"),
    "Collar": ("Collar", "Shoulder"), "Shoulder": ("Arm", "UpArm", "Shoulder"),
    "Elbow": ("ForeArm", "LowArm", "Elbow"), "Wrist": ("Hand", "Wrist"),
}  # fmt: skip
_NEEDED = ("L_Hip", "R_Hip", "L_Knee", "R_Knee", "L_Ankle", "R_Ankle", "L_Shoulder", "R_Shoulder",
           "L_Elbow", "R_Elbow")  # fmt: skip
_ALONG = {
    "L_Hip": "L_Knee", "L_Knee": "L_Ankle", "L_Ankle": "L_Foot", "L_Collar": "L_Shoulder",
    "L_Shoulder": "L_Elbow", "L_Elbow": "L_Wrist",
}  # fmt: skip
"""Which joint a bone points to; the other side alike. Trunk and head keep the body's own axes."""


def recognises_bvh(content: Content) -> bool:
    """Whether a file is BVH text."""
    return content.kind == "bvh"


def read_bvh(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The person of a file.

    Raises:
        ImporterError: the file is broken, or its skeleton has none of the known names.
    """
    motion = read_bvh_text(content.data, content.path.name)
    joints = _matched(motion)
    smpl_rest = rest_joints(options, np.zeros(10))
    smpl_rest = smpl_rest[: len(SMPL_JOINT_NAMES)]
    poses, trans, scale = _retargeted(motion, joints, smpl_rest)
    left_out = sum(not name.endswith(".end") for name in motion.names) - len(joints)
    person = Motion(
        poses=poses,
        trans=trans,
        betas=np.zeros(10),
        label=content.path.stem,
        world="gravity",
        frame_rate=round(motion.frame_rate, 3),
        notes=(
            f"retargeted from {len(joints)} of the skeleton's joints, {left_out} left out",
            f"y up became z up, lengths scaled by {scale:.5g} (length of the legs)",
            "the shape is the mean body's; the file has no camera",
        ),
    )
    return [person.person(0, options)]


def _retargeted(
    motion: BvhMotion, joints: dict[str, int], smpl_rest: Array
) -> tuple[Array, Array, float]:
    """Rotation vectors (T, 24, 3), translations (T, 3) and the scale."""
    rest = motion.rest
    base = _facing(rest, joints)
    turns = _turns_at_rest(rest, joints, smpl_rest, base)
    count = len(motion.rotations)
    turned = np.zeros((count, 24, 3, 3))
    for place, name in enumerate(SMPL_JOINT_NAMES):
        if name in joints:
            turned[:, place] = motion.rotations[:, joints[name]] @ turns[place]
        else:
            turned[:, place] = turned[:, SMPL_PARENTS[place]]
    local = turned.copy()
    for place, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            local[:, place] = np.swapaxes(turned[:, parent], -1, -2) @ turned[:, place]
    upright = YUP_TO_ZUP[:3, :3]
    local[:, 0] = upright @ local[:, 0]
    scale = _legs(smpl_rest, {n: k for k, n in enumerate(SMPL_JOINT_NAMES)}) / _legs(rest, joints)
    trans = scale * motion.positions[:, joints["Pelvis"]] @ upright.T - smpl_rest[0]
    return matrix_to_rotvec(local), trans, scale


def _turns_at_rest(rest: Array, joints: dict[str, int], smpl_rest: Array, base: Array) -> Array:
    """(24, 3, 3) what lays SMPL's resting bones along the BVH's."""
    turns = np.tile(base, (24, 1, 1))
    index = {name: place for place, name in enumerate(SMPL_JOINT_NAMES)}
    for place, name in enumerate(SMPL_JOINT_NAMES):
        along = _ALONG.get(f"L{name[1:]}", "") if name[1] == "_" else ""
        child = name[0] + along[1:]
        if name in joints and child in joints:
            ours = base @ (smpl_rest[index[child]] - smpl_rest[place])
            theirs = rest[joints[child]] - rest[joints[name]]
            turns[place] = _between(ours, theirs) @ base
        elif SMPL_PARENTS[place] >= 0 and name[1] == "_":
            turns[place] = turns[SMPL_PARENTS[place]]
    return turns


def _facing(rest: Array, joints: dict[str, int]) -> Array:
    """(3, 3) SMPL's axes (x left, y up, z forward) in the BVH's, by the hips and y up."""
    left = rest[joints["L_Hip"]] - rest[joints["R_Hip"]]
    left = left * [1.0, 0.0, 1.0]
    length = np.linalg.norm(left)
    if length < 1e-9:
        raise ImporterError("the BVH's hips lie on one line: its rest pose is no standing person")
    left = left / length
    return np.stack([left, [0.0, 1.0, 0.0], np.cross(left, [0.0, 1.0, 0.0])], axis=1)


def _between(first: Array, other: Array) -> Array:
    """(3, 3) the shortest rotation from one direction to another; none where one has no length."""
    lengths = np.linalg.norm(first), np.linalg.norm(other)
    if min(lengths) < 1e-9:
        return np.eye(3)
    first, other = first / lengths[0], other / lengths[1]
    axis = np.cross(first, other)
    sine, cosine = np.linalg.norm(axis), first @ other
    if sine < 1e-9:
        return np.eye(3) if cosine > 0 else -np.eye(3) + 2 * np.outer(*2 * [_across(first)])
    return rotvec_to_matrix(axis / sine * np.arctan2(sine, cosine))


def _across(direction: Array) -> Array:
    other = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    return np.asarray(other / np.linalg.norm(other), np.float64)


def _legs(places: Array, joints: dict[str, int]) -> float:
    length = 0.0
    for side in "LR":
        chain = [places[joints[f"{side}_{name}"]] for name in ("Hip", "Knee", "Ankle")]
        length += float(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum()) / 2
    if length <= 0:
        raise ImporterError("the BVH's legs have no length: its offsets are broken")
    return length


def _matched(motion: BvhMotion) -> dict[str, int]:
    """Joints of the file by the SMPL joint that each is."""
    found = {_plain(name): place for place, name in reversed(list(enumerate(motion.names)))}
    pelvis = _first(found, ("hips", "hip", "pelvis"))
    joints = {"Pelvis": 0 if pelvis is None else pelvis}
    for short, long in _SIDES:
        for ours, words in _LIMBS.items():
            names = [f"{prefix}{w}".lower() for w in words for prefix in (long, short)]
            place = _first(found, names)
            if place is not None:
                joints[f"{short}_{ours}"] = place
    missing = [name for name in _NEEDED if name not in joints]
    if missing:
        raise ImporterError(
            f"the BVH's skeleton has no joint for {', '.join(missing)}; expected CMU's or Mixamo's "
            "names (LeftUpLeg, LeftLeg, LeftArm, …): rename its joints"
        )
    joints |= _trunk(motion, found, joints)
    return joints


def _trunk(motion: BvhMotion, found: dict[str, int], joints: dict[str, int]) -> dict[str, int]:
    """Spine, neck and head: of the joints between hips and neck the last is the chest."""
    above = joints.get("L_Collar", joints["L_Shoulder"])
    chain = []
    place = motion.parents[above]
    while place > 0 and place != joints["Pelvis"]:
        chain.append(place)
        place = motion.parents[place]
    chain.reverse()
    picked = {1: (0,), 2: (0, 1), 3: (0, 1, 2)}.get(len(chain), (0, len(chain) // 2, -1))
    names = {1: ("Spine3",), 2: ("Spine1", "Spine3")}.get(
        len(chain), ("Spine1", "Spine2", "Spine3")
    )
    trunk = dict(zip(names, (chain[k] for k in picked), strict=True)) if chain else {}
    for ours, words in (("Neck", ("neck",)), ("Head", ("head",))):
        place = _first(found, words)
        if place is not None:
            trunk[ours] = place
    return trunk


def _first(found: dict[str, int], names: Iterable[str]) -> int | None:
    return next((found[name] for name in names if name in found), None)


def _plain(name: str) -> str:
    """A joint's name without the prefix of its rig, in small letters."""
    return name.split(":")[-1].replace("_", "").replace(" ", "").removeprefix("mixamorig").lower()
