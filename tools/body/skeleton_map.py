# SPDX-License-Identifier: Apache-2.0
"""Which of SMPL's 24 joints each MakeHuman bone belongs to, and where those joints are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from posefit_shared.skeleton import SMPL_JOINT_NAMES

__all__ = ["bone_to_joint", "joint_weights", "joints_from_heads", "split_side"]

Array = npt.NDArray[np.float64]

_BY_PREFIX = (
    ("root", "Pelvis"), ("pelvis", "Pelvis"), ("spine05", "Pelvis"),
    ("spine04", "Spine1"), ("spine03", "Spine1"), ("spine02", "Spine2"), ("breast", "Spine2"),
    ("spine01", "Spine3"), ("neck01", "Neck"), ("neck02", "Neck"),
    ("clavicle", "Collar"), ("shoulder01", "Collar"), ("upperarm", "Shoulder"),
    ("lowerarm", "Elbow"), ("wrist", "Wrist"), ("metacarpal", "Wrist"), ("finger1-1", "Wrist"),
    ("finger", "Hand"), ("upperleg", "Hip"), ("lowerleg", "Knee"), ("foot", "Ankle"),
    ("toe", "Foot"),
)  # fmt: skip
"""First match wins; bones of neck03, head and face belong to Head."""

_SIDED = {
    "Collar", "Shoulder", "Elbow", "Wrist", "Hand", "Hip", "Knee", "Ankle", "Foot",
}  # fmt: skip

_JOINT_HEADS: dict[str, tuple[str, ...]] = {
    "Pelvis": ("spine05", "spine04"),
    "Spine1": ("spine03",),
    "Spine2": ("spine02",),
    "Spine3": ("spine01",),
    "Neck": ("neck01",),
    "Head": ("head",),
    "Hip": ("upperleg01",),
    "Knee": ("lowerleg01",),
    "Ankle": ("foot",),
    "Foot": tuple(f"toe{k}-1" for k in range(1, 6)),
    "Collar": ("clavicle", "shoulder01"),
    "Shoulder": ("upperarm01",),
    "Elbow": ("lowerarm01",),
    "Wrist": ("wrist",),
    "Hand": tuple(f"finger{k}-1" for k in range(2, 6)),
}
"""The joint lies at the mean of these bones' heads."""


def split_side(label: str) -> tuple[str, str]:
    """A bone's name without its side, and `L`, `R` or the empty string."""
    return (label[:-2], label[-1]) if label[-2:] in (".L", ".R") else (label, "")


def bone_to_joint(label: str) -> int:
    """The SMPL joint that a bone moves with.

    Args:
        label: MakeHuman's bone name.

    Returns:
        Index in SMPL's order.
    """
    base, side = split_side(label)
    name = next((joint for prefix, joint in _BY_PREFIX if base.startswith(prefix)), "Head")
    return SMPL_JOINT_NAMES.index(f"{side}_{name}" if name in _SIDED else name)


def joint_weights(bone_weights: Array, labels: tuple[str, ...]) -> Array:
    """(V, 24) weights: those of all bones of a joint summed."""
    weights = np.zeros((len(bone_weights), len(SMPL_JOINT_NAMES)))
    for bone, label in enumerate(labels):
        weights[:, bone_to_joint(label)] += bone_weights[:, bone]
    return weights


def joints_from_heads(heads: Array, labels: tuple[str, ...]) -> Array:
    """(…, 24, 3) joints from bone heads (…, bones, 3)."""
    joints = []
    for name in SMPL_JOINT_NAMES:
        side, _, base = name.rpartition("_")
        bones = [f"{bone}.{side}" if side else bone for bone in _JOINT_HEADS[base]]
        joints.append(heads[..., [labels.index(bone) for bone in bones], :].mean(axis=-2))
    return np.stack(joints, axis=-2)
