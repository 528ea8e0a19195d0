# SPDX-License-Identifier: GPL-3.0-or-later
"""Bone names of public SMPL rigs, and the joints that they mean (no Blender here).

A joint's *key* is its name in lower case with the side written out: `left_hip`, `spine1`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

from posefit_shared import skeleton

MODEL_TYPES = ("smplx", "smplh", "smpl")
"""Models from the one with the most joints down: a rig is the first that it has all joints of."""
_SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
_SEPARATORS = re.compile(r"[ .\-]+")


@functools.lru_cache(maxsize=8)
def joint_keys(model_type: str) -> tuple[str, ...]:
    """The keys of a model's joints, in its order."""
    return tuple(joint_key(name) for name in skeleton.JOINT_NAMES[model_type])


def joint_key(bone_name: str) -> str:
    """What joint's key a bone's name is under one spelling, prefixes of a whole rig left out.

    Knows SMPL's Maya and Blender rigs (`m_avg_L_Hip`, `L_Hip`), the SMPL-X add-on (`left_hip`,
    `left_eye_smplhf`), words run together (`LeftHip`), sides behind (`Hip.L`), namespaces
    (`rig:Pelvis`, `Armature|Pelvis`) and the number that Blender adds (`Pelvis.001`).
    """
    name = re.split(r"[:|]", bone_name)[-1]
    name = re.sub(r"\.\d{3}$", "", name)
    name = re.sub(r"^[mfn]_avg_", "", name)
    name = re.sub(r"^([Ll]eft|[Rr]ight)(?=[A-Z])", r"\1_", name)
    name = _SEPARATORS.sub("_", name).lower().removesuffix("_smplhf")
    name = re.sub(r"^(.+)_(l|left|r|right)$", r"\2_\1", name)
    side, _, rest = name.partition("_")
    if side in _SIDES and rest:
        name = f"{_SIDES[side]}_{rest}"
    return re.sub(r"_(\d)$", r"\1", name)


def nearest_bones(
    bone_names: Iterable[str], given: Mapping[str, str] | None = None
) -> tuple[str, tuple[str | None, ...]]:
    """The model that fits an armature best, and the bone of each of its joints.

    Args:
        bone_names: the armature's bones.
        given: bones that the artist chose, by joint key.

    Returns:
        The model's type, and a bone for each joint in its order; none where there is none.
    """
    found = {**find_joints(tuple(bone_names)), **(given or {})}
    fits = {model: tuple(found.get(key) for key in joint_keys(model)) for model in MODEL_TYPES}
    whole = next((model for model in MODEL_TYPES if None not in fits[model]), None)
    nearest = min(fits, key=lambda model: (fits[model].count(None), model))
    model_type = nearest if whole is None else whole
    return model_type, fits[model_type]


@functools.lru_cache(maxsize=16)
def find_joints(bone_names: tuple[str, ...]) -> Mapping[str, str]:
    """The bones by the joint key that their names mean; for callers to read only.

    A prefix that the pelvis has is taken to be the whole rig's (`SMPLX_neutral_pelvis`). Of two
    bones that mean the same joint the first one counts.
    """
    prefixes = {name[: -len("pelvis")] for name in bone_names if name.lower().endswith("pelvis")}
    best: dict[str, str] = {}
    known = {key for model in MODEL_TYPES for key in joint_keys(model)}
    for prefix in ("", *sorted(prefixes - {""}, key=len)):
        found: dict[str, str] = {}
        for name in bone_names:
            key = joint_key(name.removeprefix(prefix))
            if key in known:
                found.setdefault(key, name)
        if len(found) > len(best):
            best = found
    return best
