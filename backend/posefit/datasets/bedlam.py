# SPDX-License-Identifier: Apache-2.0
"""BEDLAM's published SMPL-X labels: `training_labels/all_npz_12_training/*.npz`, and its pictures.

A row is one person in one picture. `pose_world` and `trans_world` with `cam_ext` as world to camera
are the same body as `pose_cam` and `trans_cam` with `cam_ext`'s translation added; the world is
level with y down, and its axes turn with the camera's yaw. Pictures of scenes called `closeup` are
stored lying on their side: a clockwise quarter turn makes them fit their labels. Eleven shape
coefficients belong to the neutral model; with ten the labels are gendered.

Source: Black et al., BEDLAM: A Synthetic Dataset of Bodies Exhibiting Detailed Lifelike Animated
    Motion, CVPR 2023; data_processing/df_full_body.py and train/core/config.py of
    github.com/pixelite1201/BEDLAM.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from posefit_shared.sequence import Sequence

from .files import array_of, entry, existing_folder, matching, read_npz
from .recording import DatasetError, Pictures, Recording

__all__ = ["SPLITS", "read_bedlam"]

SPLITS = ("training", "validation")
"""`all_npz_12_training`, and `all_npz_12_validation` where somebody made it."""
FRAME_RATE = 30.0
"""Rate in which pictures are numbered; those named `6fps` have every fifth."""
_KEYS = ("imgname", "pose_world", "shape", "trans_world", "cam_int", "cam_ext", "gender")
_NUMBER = re.compile(r"(\d+)\.\w+$")


def read_bedlam(root: Path, split: str = "training") -> Iterator[Recording]:
    """The recordings of all scenes, one a person and picture sequence.

    Args:
        root: folder with `training_labels` and, for pictures, `training_images`.
        split: one of `SPLITS`.

    Raises:
        DatasetError: the folder is laid out otherwise, or a file lacks something.
    """
    if split not in SPLITS:
        raise DatasetError(f"BEDLAM has no split {split!r}, it has {', '.join(SPLITS)}")
    folder = root / "training_labels" / f"all_npz_12_{split}"
    existing_folder(folder, "BEDLAM's label files, one .npz a scene,")
    for path in matching(folder, "*.npz", "BEDLAM label files"):
        yield from _read_scene(path, root, split)


def _read_scene(path: Path, root: Path, split: str) -> Iterator[Recording]:
    arrays: dict[str, Any] = read_npz(path, _KEYS)
    names = [str(name) for name in entry(arrays, "imgname", path)]
    rows = len(names)
    data = {
        "pose": array_of(entry(arrays, "pose_world", path), (rows, 165), "pose_world", path),
        "trans": array_of(entry(arrays, "trans_world", path), (rows, 3), "trans_world", path),
        "shape": array_of(entry(arrays, "shape", path), (rows, -1), "shape", path),
        "cam_int": array_of(entry(arrays, "cam_int", path), (rows, 3, 3), "cam_int", path),
        "cam_ext": array_of(entry(arrays, "cam_ext", path), (rows, 4, 4), "cam_ext", path),
    }
    genders = [str(word) for word in entry(arrays, "gender", path)]
    images = root / "training_images" / path.stem / "png"
    seen: dict[str, int] = {}
    for run in _runs(names, path):
        shot = Path(names[run.start]).parent.name
        person = seen.get(shot, 0)
        seen[shot] = person + 1
        part = {key: values[run] for key, values in data.items()}
        files = tuple(images / name for name in names[run])
        sequence = _sequence(part, names[run], genders[run.start], person, path)
        yield Recording(
            name=f"{path.stem}_{shot}_{person}",
            dataset="bedlam",
            split=split,
            sequence=sequence,
            valid=np.ones(len(files), bool),
            pictures=Pictures(files, quarter_turns=int("closeup" in path.stem)),
            up=(0.0, -1.0, 0.0),
            tags=frozenset([path.stem]),
        )


def _sequence(
    part: dict[str, npt.NDArray[np.float64]],
    names: list[str],
    gender: str,
    person: int,
    path: Path,
) -> Sequence:
    width, height = (round(2 * value) for value in part["cam_int"][0, :2, 2])
    return Sequence(
        poses=part["pose"].reshape(-1, 55, 3).astype(np.float32),
        trans=part["trans"].astype(np.float32),
        betas=part["shape"][0].astype(np.float32),
        model_type="smplx",
        gender="neutral" if part["shape"].shape[1] == 11 else _gender(gender, path),
        mocap_framerate=FRAME_RATE,
        frame_indices=np.array([_number(name, path) for name in names]),
        intrinsics=part["cam_int"],
        world_to_camera=part["cam_ext"],
        image_size=(width, height),
        world="camera",
        person_id=person,
    )


def _runs(names: list[str], path: Path) -> Iterator[slice]:
    """Rows of one person in one picture sequence: their picture numbers rise."""
    start = 0
    for row in range(1, len(names) + 1):
        ends = row == len(names)
        if not ends:
            same_shot = Path(names[row]).parent == Path(names[row - 1]).parent
            ends = not same_shot or _number(names[row], path) <= _number(names[row - 1], path)
        if ends:
            yield slice(start, row)
            start = row


def _number(name: str, path: Path) -> int:
    match = _NUMBER.search(name)
    if match is None:
        raise DatasetError(
            f"imgname in {path} holds {name!r}, expected names such as "
            "seq_000000/seq_000000_0005.png"
        )
    return int(match[1])


def _gender(word: str, path: Path) -> str:
    genders = {"m": "male", "f": "female", "male": "male", "female": "female"}
    if word not in genders:
        raise DatasetError(f"gender in {path} holds {word!r}, expected male or female")
    return genders[word]
