# SPDX-License-Identifier: Apache-2.0
"""RICH as distributed: per-frame SMPL-X pickles, calibrated static cameras, pictures.

    bodies/SPLIT/SEQUENCE/00017/003.pkl          frame 17 of subject 003
    images/SPLIT/SEQUENCE/cam_03/00017_03.png    .jpeg and .bmp as well
    scan_calibration/SCENE/calibration/003.xml   camera 3: CameraMatrix (3 × 4), Intrinsics
    resource/gender.json                         {"3": "male", …}, from the RICH toolkit

The world is that of the calibration; where gravity points in it is not documented. Hands are PCA
coefficients of a gendered model: finger rotations are left at zero and are not among the joints
that are known (`posed_joints`). The toolkit projects without lens distortion, and so does this.

Source: Huang et al., Capturing and Inferring Dense Full-Body Human-Scene Contact, CVPR 2022;
    utils.py, smplx2images_and_2scans.py and README.md of github.com/paulchhuang/rich_toolkit.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from posefit_shared.sequence import Sequence
from posefit_shared.skeleton import JOINT_NAMES

from .files import (
    array_of,
    entry,
    existing_folder,
    image_size,
    images_in,
    matching,
    read_json,
    read_pickle,
    read_text,
)  # fmt: skip
from .recording import DatasetError, Pictures, Recording

__all__ = ["SPLITS", "read_rich", "read_rich_sequence"]

SPLITS = ("train", "val", "test")
"""Splits as published."""
FRAME_RATE = 30.0
"""Pictures a second."""
_KNOWN_JOINTS = JOINT_NAMES["smplx"][:25]
_PARTS = (("global_orient", 3), ("body_pose", 63), ("jaw_pose", 3), ("leye_pose", 3),
          ("reye_pose", 3))  # fmt: skip


def read_rich(root: Path, split: str = "test") -> Iterator[Recording]:
    """The recordings of a split, one for each subject, sequence and static camera.

    Args:
        root: folder with `bodies`, `scan_calibration`, `resource` and, for pictures, `images`.
        split: one of `SPLITS`.

    Raises:
        DatasetError: the folder is laid out otherwise, or a file lacks something.
    """
    if split not in SPLITS:
        raise DatasetError(f"RICH has no split {split!r}, it has {', '.join(SPLITS)}")
    folder = existing_folder(root / "bodies" / split, "RICH's SMPL-X bodies of this split")
    for sequence in matching(folder, "*", "RICH sequences"):
        yield from read_rich_sequence(sequence)


def read_rich_sequence(folder: Path) -> Iterator[Recording]:
    """The recordings of one sequence, one for each subject and static camera.

    Args:
        folder: `bodies/SPLIT/SEQUENCE` of the data set.

    Raises:
        DatasetError: the folder is laid out otherwise, or a file lacks something.
    """
    root, split = folder.parent.parent.parent, folder.parent.name
    genders = read_json(root / "resource" / "gender.json")
    frames = [path for path in matching(folder, "*", "frames") if path.name.isdigit()]
    subjects = sorted({path.stem for frame in frames for path in frame.glob("*.pkl")})
    if not subjects:
        raise DatasetError(f"{folder} holds no FRAME/SUBJECT.pkl: check what was unpacked")
    for subject in subjects:
        yield from _read_subject(root, split, folder.name, frames, subject, genders)


def _read_subject(
    root: Path,
    split: str,
    name: str,
    frames: list[Path],
    subject: str,
    genders: dict[str, str],
) -> Iterator[Recording]:
    files = [frame / f"{subject}.pkl" for frame in frames]
    files = [path for path in files if path.is_file()]
    bodies = [_read_body(path) for path in files]
    numbers = np.array([int(path.parent.name) for path in files])
    gender = genders.get(str(int(subject))) if subject.isdigit() else None
    if gender not in ("male", "female", "neutral"):
        raise DatasetError(
            f"{root / 'resource' / 'gender.json'} has no gender for subject {subject}: take the "
            "file from the RICH toolkit"
        )
    scene = name.split("_")[0]
    calibration = root / "scan_calibration" / scene / "calibration"
    existing_folder(calibration, "the calibration of RICH's cameras")
    for camera_file in matching(calibration, "*.xml", "RICH camera files"):
        number = int(camera_file.stem)
        images = root / "images" / split / name / f"cam_{number:02d}"
        if (root / "images" / split / name).is_dir() and not images.is_dir():
            continue
        intrinsics, world_to_camera = _read_camera(camera_file)
        pictures = _pictures(images, numbers, number)
        sequence = Sequence(
            poses=np.stack([body["poses"] for body in bodies]).astype(np.float32),
            trans=np.stack([body["transl"] for body in bodies]).astype(np.float32),
            betas=np.stack([body["betas"] for body in bodies]).astype(np.float32),
            model_type="smplx",
            gender=gender,
            mocap_framerate=FRAME_RATE,
            frame_indices=numbers,
            intrinsics=intrinsics,
            world_to_camera=world_to_camera,
            image_size=image_size(next((p for p in pictures if p.is_file()), None)),
            world="camera",
            person_id=int(subject),
        )
        yield Recording(
            name=f"{name}_{subject}_cam_{number:02d}",
            dataset="rich",
            split=split,
            sequence=sequence,
            valid=np.ones(len(numbers), bool),
            pictures=Pictures(pictures),
            posed_joints=_KNOWN_JOINTS,
            tags=frozenset([scene, f"cam_{number:02d}"]),
        )


def _read_body(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    data = read_pickle(path)
    rotations = [
        array_of(np.reshape(entry(data, key, path), -1), (width,), key, path)
        for key, width in _PARTS
    ]
    fingers = np.zeros(3 * 30)
    return {
        "poses": np.concatenate([*rotations, fingers]).reshape(55, 3),
        "transl": array_of(np.reshape(entry(data, "transl", path), -1), (3,), "transl", path),
        "betas": np.asarray(entry(data, "betas", path), np.float64).reshape(-1)[:10],
    }


def _read_camera(
    path: Path,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Intrinsics (3, 3) and world_to_camera (4, 4) of a camera file."""
    try:
        tree = ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        raise DatasetError(f"{path} is no XML ({error}): download it again") from error
    intrinsics = _matrix(tree, "Intrinsics", (3, 3), path)
    world_to_camera = np.eye(4)
    world_to_camera[:3] = _matrix(tree, "CameraMatrix", (3, 4), path)
    return intrinsics, world_to_camera


def _matrix(tree: Any, name: str, shape: tuple[int, int], path: Path) -> npt.NDArray[np.float64]:
    node = tree.find(f"./{name}/data")
    try:
        values = np.array([float(word) for word in node.text.split()])
        return values.reshape(shape)
    except (AttributeError, ValueError) as error:
        raise DatasetError(
            f"{path} has no {name} of {shape[0]} × {shape[1]} numbers: check that it is one of "
            "RICH's camera files"
        ) from error


def _pictures(folder: Path, frames: npt.NDArray[np.int64], camera: int) -> tuple[Path, ...]:
    """The picture of each frame; which format it has is seen in the folder."""
    found = {path.stem: path for path in images_in(folder)}
    names = (f"{frame:05d}_{camera:02d}" for frame in frames)
    return tuple(found.get(name, folder / f"{name}.jpeg") for name in names)
