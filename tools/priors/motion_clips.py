# SPDX-License-Identifier: Apache-2.0
"""Motion capture clips as SMPL body poses: CMU's ASF/AMC, CMU as exponential maps, DeepMimic.

Every reader gives world rotations of source bones; `retarget` turns them into local rotations of
SMPL's joints. The sources rest in other poses than SMPL's T-pose (CMU's legs splay by 20°,
DeepMimic's arms hang), so each joint has a constant rotation that takes SMPL's rest bone to the
source's: G_smpl = G_source A. All is y up, z forward, x to the person's left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix, wxyz_to_matrix
from posefit_shared.skeleton import SMPL_JOINT_NAMES, SMPL_PARENTS

__all__ = ["Clip", "read_archives"]


@dataclass(frozen=True)
class Clip:
    """One clip's body poses."""

    name: str
    """`source/stem`, as tools/training/prepare_poses.py names it."""
    framerate: float
    """Frames per second."""
    body_pose: np.ndarray
    """(T, 23, 3) local rotation vectors of SMPL's joints 1…23, radians."""
    global_orient: np.ndarray
    """(T, 3) rotation vectors of the pelvis, y up, radians."""
    root: np.ndarray
    """(T, 3) where the source's root was, metres, y up."""


def read_archives(folder: Path) -> Iterator[Clip]:
    """All clips of the three unpacked archives.

    Args:
        folder: holds `cmu_asfamc`, `cmu_expmap` and `deepmimic`.

    Yields:
        Clips, in name order.
    """
    for path in sorted((folder / "cmu_asfamc").glob("*.amc")):
        yield _read_amc(path)
    for path in sorted((folder / "cmu_expmap").rglob("*.txt")):
        yield _read_exponential_maps(path)
    for path in sorted((folder / "deepmimic").glob("*.txt")):
        yield _read_deepmimic(path)


def _turn(axis: str, degrees: float) -> np.ndarray:
    rotvec = np.zeros(3)
    rotvec["xyz".index(axis)] = np.radians(degrees)
    return rotvec_to_matrix(rotvec)


def retarget(
    world: dict[str, np.ndarray], alignment: dict[str, np.ndarray], frames: int
) -> np.ndarray:
    """Local rotation vectors of SMPL's joints from world rotations of source bones.

    Args:
        world: (T, 3, 3) world rotation of the bone that each SMPL joint follows, by SMPL's joint
            name; joints without one follow their parent.
        alignment: constant rotation from SMPL's rest pose to the source's, by joint name.
        frames: T.

    Returns:
        (T, 23, 3) rotation vectors, radians.
    """
    count = len(SMPL_JOINT_NAMES)
    globals_ = np.empty((count, frames, 3, 3))
    for joint, name in enumerate(SMPL_JOINT_NAMES):
        if name in world:
            globals_[joint] = world[name] @ alignment.get(name, np.eye(3))
        else:
            globals_[joint] = globals_[SMPL_PARENTS[joint]]
    parents = globals_[list(SMPL_PARENTS[1:])]
    local = np.swapaxes(parents, -1, -2) @ globals_[1:]
    return np.swapaxes(matrix_to_rotvec(local), 0, 1)


# CMU -------------------------------------------------------------------------------------------

_CMU_BONES = {
    "Pelvis": "root", "L_Hip": "lfemur", "R_Hip": "rfemur", "Spine1": "lowerback",
    "L_Knee": "ltibia", "R_Knee": "rtibia", "Spine2": "upperback", "L_Ankle": "lfoot",
    "R_Ankle": "rfoot", "Spine3": "thorax", "L_Foot": "ltoes", "R_Foot": "rtoes",
    "Neck": "lowerneck", "L_Collar": "lclavicle", "R_Collar": "rclavicle", "Head": "head",
    "L_Shoulder": "lhumerus", "R_Shoulder": "rhumerus", "L_Elbow": "lradius",
    "R_Elbow": "rradius", "L_Wrist": "lhand", "R_Wrist": "rhand",
}  # fmt: skip
_LEFT_LEG, _RIGHT_LEG = _turn("z", 20.0), _turn("z", -20.0)
# Their elbow hinges lie 30° off the vertical in the T-pose, SMPL's are vertical.
_LEFT_ARM, _RIGHT_ARM = _turn("x", -30.0), _turn("x", -30.0)
_CMU_ALIGNMENT = {
    **{name: _LEFT_LEG for name in ("L_Hip", "L_Knee", "L_Ankle", "L_Foot")},
    **{name: _RIGHT_LEG for name in ("R_Hip", "R_Knee", "R_Ankle", "R_Foot")},
    **{name: _LEFT_ARM for name in ("L_Shoulder", "L_Elbow", "L_Wrist")},
    **{name: _RIGHT_ARM for name in ("R_Shoulder", "R_Elbow", "R_Wrist")},
}
_CMU_RATE = 60.0
_CMU_METRES = 0.0254 / 0.45
"""CMU writes inches times 0.45."""


@dataclass(frozen=True)
class _AsfBone:
    axis: np.ndarray
    freedoms: tuple[str, ...]
    parent: str


def _euler(degrees: np.ndarray) -> np.ndarray:
    """Rz Ry Rx of (…, 3) angles, as ASF's "XYZ" means it."""
    x, y, z = (np.zeros((*degrees.shape[:-1], 3)) for _ in range(3))
    for axis, rotvec in enumerate((x, y, z)):
        rotvec[..., axis] = np.radians(degrees[..., axis])
    return rotvec_to_matrix(z) @ rotvec_to_matrix(y) @ rotvec_to_matrix(x)


def _read_asf(path: Path) -> dict[str, _AsfBone]:
    axes: dict[str, np.ndarray] = {}
    freedoms: dict[str, tuple[str, ...]] = {}
    parents: dict[str, str] = {}
    name, in_hierarchy = "", False
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == ":hierarchy":
            in_hierarchy = True
        elif in_hierarchy and words[0] not in {"begin", "end"}:
            parents.update({child: words[0] for child in words[1:]})
        elif words[0] == "name":
            name = words[1]
        elif words[0] == "axis" and name:
            axes[name] = _euler(np.array([float(w) for w in words[1:4]]))
        elif words[0] == "dof":
            freedoms[name] = tuple(words[1:])
    return {
        bone: _AsfBone(axes[bone], freedoms.get(bone, ()), parent)
        for bone, parent in parents.items()
    }


def _read_amc(path: Path) -> Clip:
    bones = _read_asf(path.with_name(path.name.split("_")[0] + ".asf"))
    values: dict[str, list[list[float]]] = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) > 1 and not words[0].startswith(("#", ":")):
            values.setdefault(words[0], []).append([float(w) for w in words[1:]])
    frames = len(values["root"])
    world = {"root": _euler(np.array(values["root"])[:, 3:])}
    for bone, part in bones.items():
        angles = np.zeros((frames, 3))
        for column, freedom in enumerate(part.freedoms):
            angles[:, "xyz".index(freedom[1])] = np.array(values[bone])[:, column]
        world[bone] = world[part.parent] @ part.axis @ _euler(angles) @ part.axis.T
    followed = {joint: world[bone] for joint, bone in _CMU_BONES.items()}
    pose = retarget(followed, _CMU_ALIGNMENT, frames)
    root = np.array(values["root"])[:, :3] * _CMU_METRES
    return Clip(f"asfamc/{path.stem}", _CMU_RATE, pose, matrix_to_rotvec(world["root"]), root)


# Column groups of the exponential maps: CMU's bones and the ends of their chains.
_EXPMAP_ORDER = (
    "root", "lhipjoint", "lfemur", "ltibia", "lfoot", "ltoes", "", "rhipjoint", "rfemur",
    "rtibia", "rfoot", "rtoes", "", "lowerback", "upperback", "thorax", "lowerneck", "upperneck",
    "head", "", "lclavicle", "lhumerus", "lradius", "lhand", "", "", "", "", "", "rclavicle",
    "rhumerus", "rradius", "rhand", "", "", "", "", "",
)  # fmt: skip
_EXPMAP_PARENTS = {
    "lhipjoint": "root", "lfemur": "lhipjoint", "ltibia": "lfemur", "lfoot": "ltibia",
    "ltoes": "lfoot", "rhipjoint": "root", "rfemur": "rhipjoint", "rtibia": "rfemur",
    "rfoot": "rtibia", "rtoes": "rfoot", "lowerback": "root", "upperback": "lowerback",
    "thorax": "upperback", "lowerneck": "thorax", "upperneck": "lowerneck", "head": "upperneck",
    "lclavicle": "thorax", "lhumerus": "lclavicle", "lradius": "lhumerus", "lhand": "lradius",
    "rclavicle": "thorax", "rhumerus": "rclavicle", "rradius": "rhumerus", "rhand": "rradius",
}  # fmt: skip


def _read_exponential_maps(path: Path) -> Clip:
    columns = np.loadtxt(path, delimiter=",", ndmin=2)[1:]  # the first frame is the rest pose
    # The authors multiply row vectors, so their rotations are the inverse of ours.
    maps = -columns[:, 3:].reshape(len(columns), -1, 3)
    world: dict[str, np.ndarray] = {}
    for group, bone in enumerate(_EXPMAP_ORDER):
        if not bone:
            continue
        local = rotvec_to_matrix(maps[:, group])
        world[bone] = world[_EXPMAP_PARENTS[bone]] @ local if bone != "root" else local
    followed = {joint: world[bone] for joint, bone in _CMU_BONES.items()}
    pose = retarget(followed, _CMU_ALIGNMENT, len(columns))
    root = columns[:, :3] * _CMU_METRES
    name = f"expmap/{path.parent.parent.name}_{path.stem}"
    return Clip(name, _CMU_RATE, pose, matrix_to_rotvec(world["root"]), root)


# DeepMimic -------------------------------------------------------------------------------------

# x forward, y up, z to the right, to SMPL's x left, y up, z forward.
_DEEPMIMIC_AXES = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
_DEEPMIMIC_PARTS = (
    ("root", 4, ""), ("chest", 4, "root"), ("neck", 4, "chest"), ("right_hip", 4, "root"),
    ("right_knee", 1, "right_hip"), ("right_ankle", 4, "right_knee"),
    ("right_shoulder", 4, "chest"), ("right_elbow", 1, "right_shoulder"),
    ("left_hip", 4, "root"), ("left_knee", 1, "left_hip"), ("left_ankle", 4, "left_knee"),
    ("left_shoulder", 4, "chest"), ("left_elbow", 1, "left_shoulder"),
)  # fmt: skip
_DEEPMIMIC_ALIGNMENT = {
    **{name: _turn("z", -90.0) for name in ("L_Shoulder", "L_Elbow")},
    **{name: _turn("z", 90.0) for name in ("R_Shoulder", "R_Elbow")},
}


def _read_deepmimic(path: Path) -> Clip:
    frames = np.array(json.loads(path.read_text())["Frames"])
    world: dict[str, np.ndarray] = {}
    column = 4
    for part, width, parent in _DEEPMIMIC_PARTS:
        values = frames[:, column : column + width]
        column += width
        if width == 4:
            local = wxyz_to_matrix(values)
        else:
            local = rotvec_to_matrix(values * np.array([0.0, 0.0, 1.0]))
        local = _DEEPMIMIC_AXES @ local @ _DEEPMIMIC_AXES.T
        world[part] = world[parent] @ local if parent else local
    count = len(frames)
    followed = {
        "Pelvis": world["root"], "Spine3": world["chest"], "Neck": world["neck"],
        "L_Hip": world["left_hip"], "L_Knee": world["left_knee"], "L_Ankle": world["left_ankle"],
        "R_Hip": world["right_hip"], "R_Knee": world["right_knee"],
        "R_Ankle": world["right_ankle"], "L_Shoulder": world["left_shoulder"],
        "R_Shoulder": world["right_shoulder"], "L_Elbow": world["left_elbow"],
        "R_Elbow": world["right_elbow"],
    }  # fmt: skip
    pose = _share_out(retarget(followed, _DEEPMIMIC_ALIGNMENT, count))
    rate = 1.0 / max(float(np.median(frames[:, 0])), 1e-3)
    root = frames[:, 1:4] @ _DEEPMIMIC_AXES.T
    orient = matrix_to_rotvec(world["root"])
    return Clip(f"deepmimic/{path.stem}", rate, pose, orient, root)


def _share_out(pose: np.ndarray) -> np.ndarray:
    """DeepMimic's one chest and one neck joint spread over SMPL's spine, neck and head."""
    pose = pose.copy()
    name = {joint: index - 1 for index, joint in enumerate(SMPL_JOINT_NAMES)}
    chest, neck = pose[:, name["Spine3"]] / 3.0, pose[:, name["Neck"]] / 2.0
    for joint in ("Spine1", "Spine2", "Spine3"):
        pose[:, name[joint]] = chest
    for joint in ("Neck", "Head"):
        pose[:, name[joint]] = neck
    return pose
