# SPDX-License-Identifier: Apache-2.0
"""Turns free motion clips into SMPL-style rotations that the training generator samples.

Reads any of: a folder of ASF skeletons with AMC motion (CMU), a folder of CMU exponential maps
(117 columns, `*.txt`), a folder of DeepMimic clips (`*.txt`, JSON). Every source bone's global
rotation is applied to the target body's rest bone after aligning the two rest directions, so the
same pose comes out whatever the source's rest pose is; feet go by their soles. Writes one `.npz`:

    pose  (N, 24, 3) float16  rotation vectors; the root keeps pitch and roll, not its heading
    clip  (N,) int16          which clip a row belongs to; rows of one clip are consecutive
    names (C,) str            clip names, `source/stem`
    rate                      frames per second of the rows

The file isn't part of the project: motion archives have their own terms.

    python tools/training/prepare_poses.py --asfamc DIR --expmap DIR --deepmimic DIR --output F
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from scipy.spatial.transform import Rotation

from posefit_shared.body_files import read_body
from posefit_shared.skeleton import SMPL_JOINT_NAMES, SMPL_PARENTS

RATE = 30.0
# target joint -> (source bone, child target joint whose direction is aligned; -1: none)
ASF_BONES = {
    0: ("root", -1), 1: ("lfemur", 4), 2: ("rfemur", 5), 3: ("lowerback", -1), 4: ("ltibia", 7),
    5: ("rtibia", 8), 6: ("upperback", -1), 7: ("lfoot", -1), 8: ("rfoot", -1), 9: ("thorax", -1),
    10: ("ltoes", -1), 11: ("rtoes", -1), 12: ("lowerneck", -1), 13: ("lclavicle", -1),
    14: ("rclavicle", -1), 15: ("head", -1), 16: ("lhumerus", 18), 17: ("rhumerus", 19),
    18: ("lradius", 20), 19: ("rradius", 21), 20: ("lhand", 22), 21: ("rhand", 23),
}  # fmt: skip
# the same skeleton as exponential maps: joint whose rotation moves the bone, joint at its end
EXPMAP_BONES = {
    0: (0, -1), 1: (2, 3), 2: (8, 9), 3: (13, -1), 4: (3, 4), 5: (9, 10), 6: (14, -1), 7: (4, -1),
    8: (10, -1), 9: (15, -1), 10: (5, -1), 11: (11, -1), 12: (16, -1), 13: (20, -1), 14: (29, -1),
    15: (18, -1), 16: (21, 22), 17: (30, 31), 18: (22, 23), 19: (31, 32), 20: (24, -1),
    21: (33, -1),
}  # fmt: skip
EXPMAP_PARENTS = np.array(
    [0, 1, 2, 3, 4, 5, 6, 1, 8, 9, 10, 11, 12, 1, 14, 15, 16, 17, 18, 19, 16, 21, 22, 23, 24, 25,
     26, 24, 28, 16, 30, 31, 32, 33, 34, 35, 33, 37]
) - 1  # fmt: skip
EXPMAP_DIRECTIONS = {
    3: (2.5972, -7.1358, 0), 4: (2.4924, -6.8477, 0),
    9: (-2.5950, -7.1298, 0), 10: (-2.4678, -6.7802, 0),
    22: (1, 0, 0), 23: (1, 0, 0), 31: (-1, 0, 0), 32: (-1, 0, 0),
}  # fmt: skip
FEET = {7: 4, 8: 10, 10: 4, 11: 10}
"""Target joints of feet and toes, and the end of their shank among the exponential maps."""
# DeepMimic: columns of a joint's quaternion (wxyz) or angle, target joint, parent target joint
MIMIC_COLUMNS = {0: 4, 3: 8, 15: 12, 2: 16, 5: 20, 8: 21, 17: 25, 19: 29, 1: 30, 4: 34, 7: 35,
                 16: 39, 18: 43}  # fmt: skip
MIMIC_HINGES = (4, 5, 18, 19)
MIMIC_CHAIN = {0: -1, 3: 0, 15: 3, 1: 0, 4: 1, 7: 4, 2: 0, 5: 2, 8: 5, 16: 3, 18: 16, 17: 3, 19: 17}
MIMIC_TO_SMPL = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])


@dataclass(frozen=True)
class Options:
    """Where the motion lies and where the poses go."""

    output: Path
    """File to write (.npz)."""
    asfamc: Path | None = None
    """Folder with ASF and AMC files, 60 Hz."""
    expmap: Path | None = None
    """Folder with exponential-map clips, 60 Hz."""
    deepmimic: Path | None = None
    """Folder with DeepMimic clips."""
    thin: int = 1
    """Keep every n-th row of each clip: a smaller file, enough to train on."""
    body: str = "free"
    """Body whose rest pose the rotations are for."""


def rest_directions(body: str) -> dict[tuple[int, int], np.ndarray]:
    """Unit directions in the body's rest pose from each joint to each of its children."""
    arrays = read_body(body)
    joints = arrays.J_regressor @ arrays.v_template
    directions = {}
    for child, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            step = joints[child] - joints[parent]
            directions[parent, child] = step / np.linalg.norm(step)
    return directions


def align(source: np.ndarray, target: np.ndarray) -> Rotation:
    """The smallest rotation that turns `source` into `target`."""
    source, target = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis = np.cross(source, target)
    sine = np.linalg.norm(axis)
    if sine < 1e-8:
        return Rotation.identity()
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, source @ target))


def level_sole(shank: np.ndarray) -> Rotation:
    """How a foot at rest lies in a source whose shank points along `shank` at rest.

    The body's soles are level under upright shanks, and CMU's are square to its shanks, which
    splay by 20°: the foot is turned with the leg. To align the foot's own bone instead would leave
    that roll out, and pitch the sole by what the two skeletons call an ankle.
    """
    return align(np.array([0.0, -1.0, 0.0]), shank)


def to_local(globals_: dict[int, Rotation], count: int) -> np.ndarray:
    """Local rotation vectors (T, 24, 3); joints without a source keep their parent's rotation."""
    full = {}
    for joint, parent in enumerate(SMPL_PARENTS):
        full[joint] = globals_.get(joint, full[parent] if parent >= 0 else None)
    local = np.zeros((count, len(SMPL_JOINT_NAMES), 3))
    for joint, parent in enumerate(SMPL_PARENTS):
        turned = full[joint] if parent < 0 else full[parent].inv() * full[joint]
        local[:, joint] = turned.as_rotvec()
    return local


def remove_heading(local: np.ndarray) -> np.ndarray:
    """Takes the turn about the vertical (y) off the root, frame by frame."""
    root = Rotation.from_rotvec(local[:, 0])
    forward = root.apply([0.0, 0.0, 1.0])
    heading = np.arctan2(forward[:, 0], forward[:, 2])
    turned = Rotation.from_rotvec(np.stack([0 * heading, -heading, 0 * heading], 1)) * root
    return np.concatenate([turned.as_rotvec()[:, None], local[:, 1:]], axis=1)


def read_asf(path: Path) -> tuple[dict[str, dict], dict[str, str]]:
    """Bones (direction, axis, dof) and parents of an ASF skeleton."""
    bones: dict[str, dict] = {}
    parents: dict[str, str] = {}
    section, bone = "", {}
    for line in path.read_text().splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].startswith(":"):
            section = words[0]
        elif section == ":bonedata":
            if words[0] == "name":
                bone = bones.setdefault(words[1], {"dof": []})
            elif words[0] in ("direction", "axis"):
                bone[words[0]] = np.array([float(w) for w in words[1:4]])
            elif words[0] == "dof":
                bone["dof"] = words[1:]
        elif section == ":hierarchy" and words[0] not in ("begin", "end"):
            parents.update({child: words[0] for child in words[1:]})
    return bones, parents


def read_amc(path: Path) -> dict[str, np.ndarray]:
    """Degrees of freedom of every bone over time, as written in an AMC file."""
    rows: dict[str, list[list[float]]] = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) > 1 and words[0][0] not in "#:":
            rows.setdefault(words[0], []).append([float(w) for w in words[1:]])
    return {name: np.array(values) for name, values in rows.items()}


def asf_globals(bones: dict, parents: dict, motion: dict) -> dict[str, Rotation]:
    """Global rotation of every bone against the skeleton's rest pose."""
    turned = {"root": Rotation.from_euler("xyz", motion["root"][:, 3:6], degrees=True)}

    def resolve(name: str) -> Rotation:
        if name not in turned:
            parent = resolve(parents[name])
            axis = Rotation.from_euler("xyz", bones[name]["axis"], degrees=True)
            angles = np.zeros((len(motion["root"]), 3))
            for column, dof in enumerate(bones[name]["dof"]):
                angles[:, "xyz".index(dof[1])] = motion[name][:, column]
            local = Rotation.from_euler("xyz", angles, degrees=True)
            turned[name] = parent * (axis * local * axis.inv())
        return turned[name]

    for name in bones:
        resolve(name)
    return turned


def asfamc_clips(folder: Path, rest: dict) -> Iterator[tuple[str, np.ndarray]]:
    """CMU clips in ASF/AMC form, every second frame."""
    for path in sorted(folder.rglob("*.amc")):
        bones, parents = read_asf(path.with_name(path.stem.split("_")[0] + ".asf"))
        motion = {name: values[::2] for name, values in read_amc(path).items()}
        source = asf_globals(bones, parents, motion)
        turned = {}
        for joint, (name, child) in ASF_BONES.items():
            fix = Rotation.identity()
            if joint in FEET:
                fix = level_sole(bones[name[0] + "tibia"]["direction"])
            elif child >= 0:
                fix = align(rest[joint, child], bones[name]["direction"])
            turned[joint] = source[name] * fix
        yield f"asfamc/{path.stem}", to_local(turned, len(motion["root"]))


def expmap_clips(folder: Path, rest: dict) -> Iterator[tuple[str, np.ndarray]]:
    """CMU clips as exponential maps of row-vector rotations, every second frame."""
    for path in sorted(folder.rglob("*.txt")):
        rows = np.loadtxt(path, delimiter=",", ndmin=2)[::2, 3:].reshape(-1, 38, 3)
        turned: list[Rotation] = []
        for joint, parent in enumerate(EXPMAP_PARENTS):
            local = Rotation.from_rotvec(-rows[:, joint])
            turned.append(local if parent < 0 else turned[parent] * local)
        target = {}
        for joint, (source, end) in EXPMAP_BONES.items():
            fix = Rotation.identity()
            if joint in FEET:
                fix = level_sole(np.array(EXPMAP_DIRECTIONS[FEET[joint]], float))
            elif end >= 0:
                child = {1: 4, 2: 5, 4: 7, 5: 8}.get(joint, joint + 2)
                fix = align(rest[joint, child], np.array(EXPMAP_DIRECTIONS[end], float))
            target[joint] = turned[source] * fix
        yield f"expmap/{path.parent.parent.name}_{path.stem}", to_local(target, len(rows))


def deepmimic_clips(folder: Path, rest: dict) -> Iterator[tuple[str, np.ndarray]]:
    """DeepMimic clips, resampled; their rest pose has hanging arms and faces +x."""
    down = np.array([0.0, -1, 0])
    bone_rest = {16: (18, down), 18: (20, down), 17: (19, down), 19: (21, down), 1: (4, down),
                 4: (7, down), 2: (5, down), 5: (8, down)}  # fmt: skip
    for path in sorted(folder.rglob("*.txt")):
        frames = np.array(json.loads(path.read_text())["Frames"])
        times = np.concatenate([[0], np.cumsum(frames[:-1, 0])])
        pick = np.unique(np.searchsorted(times, np.arange(0, times[-1] + 1e-6, 1 / RATE)))
        frames = frames[pick.clip(0, len(frames) - 1)]
        turned: dict[int, Rotation] = {}
        for joint, parent in MIMIC_CHAIN.items():
            column = MIMIC_COLUMNS[joint]
            if joint in MIMIC_HINGES:
                angle = frames[:, column]
                local = Rotation.from_rotvec(np.stack([0 * angle, 0 * angle, angle], 1))
            else:
                local = Rotation.from_quat(np.roll(frames[:, column : column + 4], -1, axis=1))
            turned[joint] = local if parent < 0 else turned[parent] * local
        change = Rotation.from_matrix(MIMIC_TO_SMPL)
        target = {}
        for joint, rotation in turned.items():
            fix = Rotation.identity()
            if joint in bone_rest:
                child, direction = bone_rest[joint]
                fix = align(rest[joint, child], direction)
            target[joint] = change * rotation * change.inv() * fix
        chest = target[0].inv() * target[3]
        for part, joint in enumerate((3, 6, 9), start=1):
            target[joint] = target[0] * Rotation.from_rotvec(chest.as_rotvec() * part / 3)
        yield f"deepmimic/{path.stem}", to_local(target, len(frames))


def main(options: Options) -> None:
    """Reads all clips and writes the pose file."""
    rest = rest_directions(options.body)
    sources = [
        (options.asfamc, asfamc_clips),
        (options.expmap, expmap_clips),
        (options.deepmimic, deepmimic_clips),
    ]
    names, poses, clip = [], [], []
    for folder, read in sources:
        before = len(names)
        for name, local in read(folder, rest) if folder else ():
            local = local[:: options.thin]
            poses.append(remove_heading(local))
            clip.append(np.full(len(local), len(names)))
            names.append(name)
        if folder and len(names) == before:
            sys.exit(
                f"no clip was found in {folder}: give the folder that holds the unpacked clips"
            )
    if not names:
        sys.exit("no clips were asked for: give --asfamc, --expmap or --deepmimic")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.output,
        pose=np.concatenate(poses).astype(np.float16),
        clip=np.concatenate(clip).astype(np.int16),
        names=np.array(names),
        rate=RATE / options.thin,
    )
    print(f"{len(names)} clips, {sum(map(len, poses))} poses -> {options.output}")


if __name__ == "__main__":
    main(tyro.cli(Options))
