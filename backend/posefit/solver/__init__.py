# SPDX-License-Identifier: Apache-2.0
"""Pose, translation and shape that explain the evidence: last step of the path (docs/solver.md).

solution = solve(body, start, [SurfacePoints(…), LandmarkPixels(…)], config, reference=start)
"""

from .config import FocalMode, ShapeMode, SolverConfig
from .contacts import Contacts
from .evidence import (
    BoneDirections,
    Evidence,
    FacePoints,
    LandmarkPixels,
    LandmarkPositions,
    SurfacePoints,
    take_frames,
)
from .hands import held_joints
from .initialisation import initial_root
from .landmarks import (
    BLAZEPOSE,
    BLAZEPOSE_BONES,
    BODY_25,
    COCO_17,
    LandmarkTable,
    joint_table,
    named_points,
)
from .levenberg_marquardt import Solution, solve
from .silhouettes import Silhouettes

__all__ = [
    "BLAZEPOSE",
    "BLAZEPOSE_BONES",
    "BODY_25",
    "COCO_17",
    "BoneDirections",
    "Contacts",
    "Evidence",
    "FacePoints",
    "FocalMode",
    "LandmarkPixels",
    "LandmarkPositions",
    "LandmarkTable",
    "ShapeMode",
    "Silhouettes",
    "Solution",
    "SolverConfig",
    "SurfacePoints",
    "held_joints",
    "initial_root",
    "joint_table",
    "named_points",
    "solve",
    "take_frames",
]
