# SPDX-License-Identifier: Apache-2.0
"""3DPW as distributed: `sequenceFiles/{train,validation,test}/*.pkl` and `imageFiles/NAME/`.

One file a sequence, with one or two actors; `cam_poses` are world to camera (OpenCV), `poses` and
`trans` are aligned with the pictures (`image_%05d.jpg`, from 0), and `genders` says whose SMPL
model `betas` belong to. The direction of gravity is not documented: `up` stays unknown.

Source: von Marcard et al., Recovering Accurate 3D Human Pose in The Wild Using IMUs and a Moving
    Camera, ECCV 2018, and the data set's own readme.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posefit_shared.sequence import Sequence

from .files import array_of, entry, existing_folder, image_size, matching, read_pickle
from .recording import DatasetError, Pictures, Recording

__all__ = ["SPLITS", "read_3dpw", "read_3dpw_file"]

SPLITS = ("train", "validation", "test")
"""Splits as published."""
FRAME_RATE = 30.0
"""Pictures a second."""
_KEYS = (
    "sequence", "poses", "betas", "trans", "cam_poses", "cam_intrinsics", "campose_valid",
    "genders", "jointPositions", "poses2d",
)  # fmt: skip
_GENDERS = {"m": "male", "f": "female"}


def read_3dpw(root: Path, split: str = "test") -> Iterator[Recording]:
    """The recordings of a split, a recording an actor.

    Args:
        root: folder with `sequenceFiles` and, for pictures, `imageFiles`.
        split: one of `SPLITS`.

    Raises:
        DatasetError: the folder is laid out otherwise, or a file lacks something.
    """
    if split not in SPLITS:
        raise DatasetError(f"3DPW has no split {split!r}, it has {', '.join(SPLITS)}")
    folder = existing_folder(root / "sequenceFiles" / split, "3DPW's pickles of this split")
    for path in matching(folder, "*.pkl", "3DPW sequence files"):
        yield from _read_file(path, root, split)


def read_3dpw_file(path: Path) -> Iterator[Recording]:
    """The recordings of one sequence file, an actor each.

    Args:
        path: the file; pictures are looked for where the data set has them from there.

    Raises:
        DatasetError: the file lacks something.
    """
    yield from _read_file(path, path.resolve().parent.parent.parent, path.resolve().parent.name)


def _read_file(path: Path, root: Path, split: str) -> Iterator[Recording]:
    data = read_pickle(path, _KEYS)
    name = str(data.get("sequence", path.stem))
    poses = entry(data, "poses", path)
    cameras = array_of(entry(data, "cam_poses", path), (-1, 4, 4), "cam_poses", path)
    intrinsics = array_of(entry(data, "cam_intrinsics", path), (3, 3), "cam_intrinsics", path)
    frames = len(cameras)
    files = tuple(root / "imageFiles" / name / f"image_{k:05d}.jpg" for k in range(frames))
    size = image_size(next((file for file in files if file.is_file()), None))
    for actor in range(len(poses)):
        pose = array_of(poses[actor], (frames, 72), f"poses[{actor}]", path)
        trans = array_of(_actor(data, "trans", actor, path), (frames, 3), "trans", path)
        betas = np.asarray(_actor(data, "betas", actor, path), np.float64).reshape(-1)[:10]
        gender = str(_actor(data, "genders", actor, path))
        if gender not in _GENDERS:
            raise DatasetError(f"genders in {path} holds {gender!r}, expected 'm' or 'f'")
        finite = np.isfinite(pose).all(1) & np.isfinite(trans).all(1)
        sequence = Sequence(
            poses=np.nan_to_num(pose).reshape(frames, 24, 3).astype(np.float32),
            trans=np.nan_to_num(trans).astype(np.float32),
            betas=betas.astype(np.float32),
            gender=_GENDERS[gender],
            mocap_framerate=FRAME_RATE,
            intrinsics=intrinsics,
            world_to_camera=cameras,
            image_size=size,
            world="camera",
            person_id=actor,
        )
        valid = np.asarray(_actor(data, "campose_valid", actor, path)).astype(bool)
        yield Recording(
            name=f"{name}_{actor}",
            dataset="3dpw",
            split=split,
            sequence=sequence,
            valid=valid & finite,
            pictures=Pictures(files),
            joints=_joints(data, actor, frames, path),
            joint_set="smpl24",
            has_keypoints=_has_keypoints(data, actor, frames),
        )


def _actor(data: dict[str, Any], key: str, actor: int, path: Path) -> Any:
    values = entry(data, key, path)
    if len(values) <= actor:
        raise DatasetError(f"{key} in {path} has no entry for actor {actor}: download it again")
    return values[actor]


def _joints(data: dict[str, Any], actor: int, frames: int, path: Path) -> np.ndarray:
    joints = _actor(data, "jointPositions", actor, path)
    return array_of(joints, (frames, 72), "jointPositions", path).reshape(frames, 24, 3)


def _has_keypoints(data: dict[str, Any], actor: int, frames: int) -> np.ndarray | None:
    """Frames with 2D detections: the official evaluation leaves the others out."""
    keypoints = data.get("poses2d")
    if keypoints is None or len(keypoints) <= actor:
        return None
    detected = np.asarray(keypoints[actor], np.float64).reshape(frames, -1) != 0
    return np.atleast_1d(detected.any(axis=1))
