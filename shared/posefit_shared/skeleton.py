# SPDX-License-Identifier: Apache-2.0
"""The joints of the SMPL family: names, parents, and one frame's parameters.

Joint 0 is the pelvis; it is not the origin of the rest pose. The orders are those of the model
files (SMPL: 24 joints, SMPL-H: 52, SMPL-X: 55), so that `poses` of a sequence file index them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "BODY_PARTS",
    "JOINT_NAMES",
    "MODEL_JOINT_COUNTS",
    "PARENTS",
    "SMPL_JOINT_NAMES",
    "SMPL_MIRROR",
    "SMPL_PARENTS",
    "SmplParameters",
    "model_type_from_joint_count",
]

SMPL_JOINT_NAMES: tuple[str, ...] = (
    "Pelvis", "L_Hip", "R_Hip", "Spine1", "L_Knee", "R_Knee", "Spine2", "L_Ankle", "R_Ankle",
    "Spine3", "L_Foot", "R_Foot", "Neck", "L_Collar", "R_Collar", "Head", "L_Shoulder",
    "R_Shoulder", "L_Elbow", "R_Elbow", "L_Wrist", "R_Wrist", "L_Hand", "R_Hand",
)  # fmt: skip
"""SMPL's 24 joints in the model's own order, named as in SMPL's Maya and Blender rigs."""

SMPL_PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip
"""Parent of each SMPL joint; −1 marks the root."""

SMPL_MIRROR: tuple[int, ...] = (
    0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22,
)  # fmt: skip
"""The joint on the other side of the body; its own index for joints on the midline."""

_BODY_22 = SMPL_JOINT_NAMES[:22]
_FINGERS = ("Index", "Middle", "Pinky", "Ring", "Thumb")

BODY_PARTS: dict[str, tuple[int, ...]] = {
    "trunk": (0, 3, 6, 9),
    "head": (12, 15),
    "left arm": (13, 16, 18, 20),
    "right arm": (14, 17, 19, 21),
    "left leg": (1, 4, 7, 10),
    "right leg": (2, 5, 8, 11),
}
"""Joints of each part, which SMPL, SMPL-H and SMPL-X share; hands, jaw and eyes do not count."""


def _hand_names(side: str) -> tuple[str, ...]:
    return tuple(f"{side}_{finger}{k}" for finger in _FINGERS for k in (1, 2, 3))


def _hand_parents(wrist: int, first: int) -> tuple[int, ...]:
    return tuple(wrist if k % 3 == 0 else first + k - 1 for k in range(15))


JOINT_NAMES: dict[str, tuple[str, ...]] = {
    "smpl": SMPL_JOINT_NAMES,
    "smplh": (*_BODY_22, *_hand_names("L"), *_hand_names("R")),
    "smplx": (*_BODY_22, "Jaw", "L_Eye", "R_Eye", *_hand_names("L"), *_hand_names("R")),
}
"""Joint names of each model type, in the order of its `poses`."""

PARENTS: dict[str, tuple[int, ...]] = {
    "smpl": SMPL_PARENTS,
    "smplh": (*SMPL_PARENTS[:22], *_hand_parents(20, 22), *_hand_parents(21, 37)),
    "smplx": (*SMPL_PARENTS[:22], 15, 15, 15, *_hand_parents(20, 25), *_hand_parents(21, 40)),
}
"""Parents of each model type; −1 marks the root."""

MODEL_JOINT_COUNTS: dict[str, int] = {name: len(joints) for name, joints in JOINT_NAMES.items()}
"""How many joints each model type poses: 24, 52, 55."""


def model_type_from_joint_count(joint_count: int) -> str:
    """The model type whose `poses` have this many joints.

    Args:
        joint_count: number of joints posed, root included.

    Returns:
        `smpl`, `smplh` or `smplx`.

    Raises:
        ValueError: no SMPL model poses that many joints.
    """
    for name, count in MODEL_JOINT_COUNTS.items():
        if count == joint_count:
            return name
    expected = ", ".join(f"{count} ({name})" for name, count in MODEL_JOINT_COUNTS.items())
    raise ValueError(f"poses have {joint_count} joints, expected {expected}")


@dataclass(frozen=True)
class SmplParameters:
    """One frame's SMPL parameters; float32, rotation vectors in radians, metres."""

    betas: npt.NDArray[np.float32]
    """(N,) shape coefficients."""
    global_orient: npt.NDArray[np.float32]
    """(3,) rotation of the root."""
    body_pose: npt.NDArray[np.float32]
    """(J − 1, 3) rotations of the other joints."""
    transl: npt.NDArray[np.float32]
    """(3,) translation added after posing."""

    def __post_init__(self) -> None:
        expected = {"betas": 1, "global_orient": 1, "body_pose": 2, "transl": 1}
        for name, dimensions in expected.items():
            array = np.asarray(getattr(self, name), dtype=np.float32)
            if array.ndim != dimensions:
                raise ValueError(
                    f"{name} has shape {array.shape}, expected {dimensions} dimension(s)"
                )
            object.__setattr__(self, name, array)
        if self.global_orient.shape != (3,) or self.transl.shape != (3,):
            raise ValueError(
                f"global_orient is {self.global_orient.shape} and transl {self.transl.shape}, "
                "expected (3,) each"
            )
        if self.body_pose.shape[1] != 3:
            raise ValueError(f"body_pose is {self.body_pose.shape}, expected (joints − 1, 3)")
