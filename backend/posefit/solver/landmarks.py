# SPDX-License-Identifier: Apache-2.0
"""Which points of the body a keypoint detector's landmarks are: joints and named surface points.

A landmark is a small linear combination of joints (by name) and surface points (by the body's
landmark names). Detectors mark what they were taught, not SMPL's joints: a landmark here is near
the detector's to a centimetre or two, which belongs into the scale of its evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..body import BodyModel
from ..body_model import kept_with_body
from ..gpu.graphs import device_constant
from .kinematics import (
    PointSet,
    PosedPoints,
    bind_points,
    join_points,
    joint_points,
    mix_points,
    pose_points,
)
from .skeleton import Skeleton, SkeletonModel

__all__ = [
    "BLAZEPOSE",
    "BLAZEPOSE_BONES",
    "BODY_25",
    "COCO_17",
    "BoundLandmarks",
    "LandmarkTable",
    "joint_table",
    "named_points",
    "pose_landmarks",
]

Combination = Mapping[str, float]
"""Names of joints or surface points with their shares; shares sum to 1."""


@device_constant
@dataclass(frozen=True, eq=False)
class LandmarkTable:
    """A detector's landmarks in its own order, each as a combination of points of the body."""

    names: tuple[str, ...]
    """The detector's own names."""
    combinations: tuple[tuple[Combination, ...], ...]
    """What each landmark is on the body, the best first: a body takes the first combination all of
    whose names it has."""

    def __post_init__(self) -> None:
        if len(self.names) != len(self.combinations):
            raise ValueError(
                f"landmark table has {len(self.names)} names and {len(self.combinations)} "
                "combinations, expected as many of both"
            )

    def index(self, name: str) -> int:
        """Position of a landmark in the detector's order."""
        return self.names.index(name)

    def bind(self, body: BodyModel, dtype: torch.dtype) -> BoundLandmarks:
        """The table's landmarks on one body.

        Args:
            body: its joint names and surface landmarks are looked up by name.
            dtype: the solver's.

        Returns:
            Bound landmarks; those that need a name which the body lacks are not `known`.
        """
        return _bound_landmarks(body, self, dtype)


@kept_with_body
def _bound_landmarks(body: BodyModel, table: LandmarkTable, dtype: torch.dtype) -> BoundLandmarks:
    joints = {name: index for index, name in enumerate(body.joint_names)}
    available = joints.keys() | body.landmarks.keys()
    chosen = [
        next((c for c in alternatives if c.keys() <= available), None)
        for alternatives in table.combinations
    ]
    used = sorted({name for c in chosen if c for name in c if name not in joints})
    columns = {**joints, **{name: len(joints) + k for k, name in enumerate(used)}}
    mixture = torch.zeros(len(columns), len(table.names), dtype=dtype)
    for landmark, combination in enumerate(chosen):
        # A landmark that the body lacks sits on the root, with weight zero in every term.
        for name, share in (combination or {body.joint_names[0]: 1.0}).items():
            mixture[columns[name], landmark] = share
    device = body.v_template.device
    vertices = torch.tensor([int(body.landmarks[n]) for n in used], device=device)
    return BoundLandmarks(
        mixture=mixture.to(device),
        vertices=vertices.long(),
        known=torch.tensor([c is not None for c in chosen], device=device),
    )


@dataclass(frozen=True)
class BoundLandmarks:
    """A landmark table on one body."""

    mixture: Float[Tensor, "source landmark"]
    """Shares of joints, then of `vertices`, in each landmark."""
    vertices: Int[Tensor, " vertex"]
    """Surface points that some landmark uses."""
    known: Bool[Tensor, " landmark"]
    """False for landmarks that this body has no points for."""

    def point_set(self, body: BodyModel, model: SkeletonModel) -> PointSet | None:
        """The vertices' rows of the body model; None when only joints are used."""
        return bind_points(body, model, self.vertices) if len(self.vertices) else None


def pose_landmarks(
    mixture: Float[Tensor, "source landmark"], vertices: PointSet | None, skeleton: Skeleton
) -> PosedPoints:
    """Landmarks of a posed body with everything needed for their Jacobian.

    Args:
        mixture: from `BoundLandmarks`, or differences of its columns.
        vertices: from `BoundLandmarks.point_set`.
        skeleton: the posed joints.

    Returns:
        One point a column of `mixture`.
    """
    points = joint_points(skeleton)
    if vertices is not None:
        points = join_points(points, pose_points(vertices, skeleton))
    return mix_points(points, mixture)


def joint_table(joint_names: tuple[str, ...]) -> LandmarkTable:
    """The body's own joints as landmarks, in the order given."""
    return LandmarkTable(joint_names, tuple(({name: 1.0},) for name in joint_names))


def _sided(
    template: dict[str, tuple[dict[str, float], ...]], side: str
) -> dict[str, tuple[dict[str, float], ...]]:
    """Replaces `{S}` (joints: L or R) and `{side}` (surface points, landmarks)."""
    letter = side[0].upper()
    return {
        name.format(side=side): tuple(
            {source.format(S=letter, side=side): share for source, share in combination.items()}
            for combination in alternatives
        )
        for name, alternatives in template.items()
    }


def _knuckle(finger: str) -> tuple[dict[str, float], ...]:
    """The finger's joint at the knuckle, its surface, or a point half way from wrist to tip."""
    joint = f"{{S}}_{finger.title()}{2 if finger == 'thumb' else 1}"
    return (
        {joint: 1.0},
        {f"{{side}}_{finger}_knuckle": 1.0},
        {"{S}_Wrist": 0.45, f"{{side}}_{finger}_tip": 0.55},
    )


_LIMBS: dict[str, tuple[dict[str, float], ...]] = {
    "{side}_shoulder": ({"{S}_Shoulder": 1.0},),
    "{side}_elbow": ({"{S}_Elbow": 1.0},),
    "{side}_wrist": ({"{S}_Wrist": 1.0},),
    "{side}_hip": ({"{S}_Hip": 1.0},),
    "{side}_knee": ({"{S}_Knee": 1.0},),
    "{side}_ankle": ({"{S}_Ankle": 1.0},),
    "{side}_eye": ({"{side}_eye": 1.0},),
    "{side}_eye_inner": ({"{side}_eye_inner": 1.0},),
    "{side}_eye_outer": ({"{side}_eye_outer": 1.0},),
    "{side}_ear": ({"{side}_ear": 1.0},),
    "mouth_{side}": ({"mouth_{side}": 1.0},),
    "{side}_heel": ({"{side}_heel": 1.0},),
    "{side}_big_toe": ({"{side}_big_toe": 1.0},),
    "{side}_small_toe": ({"{side}_small_toe": 1.0},),
    # BlazePose's "foot index" is the tip of the longest toes.
    "{side}_foot_index": ({"{side}_big_toe": 0.75, "{side}_small_toe": 0.25},),
    # Its hand points are knuckles.
    "{side}_pinky": _knuckle("pinky"),
    "{side}_index": _knuckle("index"),
    "{side}_thumb": _knuckle("thumb"),
}
_POINTS: dict[str, tuple[dict[str, float], ...]] = {
    "nose": ({"nose": 1.0},),
    "neck": ({"L_Shoulder": 0.5, "R_Shoulder": 0.5},),
    "mid_hip": ({"L_Hip": 0.5, "R_Hip": 0.5},),
    **_sided(_LIMBS, "left"),
    **_sided(_LIMBS, "right"),
}


def named_points(*names: str) -> LandmarkTable:
    """Landmarks by their names here; other names are points of the surface that a body may have.

    Args:
        names: in the order of the detector.
    """
    return LandmarkTable(names, tuple(_POINTS.get(name, ({name: 1.0},)) for name in names))


BLAZEPOSE = named_points(
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
    "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
    "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
"""BlazePose's 33 landmarks (MediaPipe's order; left is the person's left)."""

COCO_17 = named_points(
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
"""COCO's 17 person keypoints."""

BODY_25 = named_points(
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
    "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe",
    "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
"""OpenPose's BODY_25."""


def _bones(*pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    sided = []
    for start, end in pairs:
        for side in ("left", "right"):
            sided.append((start.format(side=side), end.format(side=side)))
    return tuple(sided)


BLAZEPOSE_BONES: tuple[tuple[str, str], ...] = (
    ("right_hip", "left_hip"),
    ("right_shoulder", "left_shoulder"),
    *_bones(
        ("{side}_hip", "{side}_shoulder"),
        ("{side}_shoulder", "{side}_elbow"),
        ("{side}_elbow", "{side}_wrist"),
        ("{side}_hip", "{side}_knee"),
        ("{side}_knee", "{side}_ankle"),
        ("{side}_heel", "{side}_foot_index"),
        ("{side}_wrist", "{side}_index"),
        ("{side}_pinky", "{side}_index"),
    ),
    ("right_ear", "left_ear"),
)
"""Pairs of BlazePose landmarks whose direction tells a body part's orientation."""
