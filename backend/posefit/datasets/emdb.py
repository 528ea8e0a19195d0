# SPDX-License-Identifier: Apache-2.0
"""EMDB as distributed: `P*/SEQUENCE/P*_SEQUENCE_data.pkl` and `images/%05d.jpg` beside it.

Extrinsics are world to camera (OpenCV); the world is y-up. `good_frames_mask` is false where the
person is out of view or wholly hidden, `emdb1` and `emdb2` say which evaluations take the sequence.

Source: Kaufmann et al., EMDB: The Electromagnetic Database of Global 3D Human Pose and Shape in
    the Wild, ICCV 2023; dataset.md of github.com/eth-ait/emdb. That y points up: evaluation code of
    WHAM (Shin et al., CVPR 2024), lib/eval/evaluate_emdb.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from posefit_shared.sequence import Sequence

from .files import array_of, entry, existing_folder, matching, read_pickle
from .recording import DatasetError, Pictures, Recording

__all__ = ["SPLITS", "read_emdb", "read_emdb_file"]

SPLITS = ("all", "emdb1", "emdb2")
"""Everything, and the two published evaluation subsets."""
FRAME_RATE = 30.0
"""Pictures a second."""


def read_emdb(root: Path, split: str = "all") -> Iterator[Recording]:
    """The recordings of a subset, one a sequence.

    Args:
        root: folder with `P0`, `P1`, ….
        split: one of `SPLITS`.

    Raises:
        DatasetError: the folder is laid out otherwise, or a file lacks something.
    """
    if split not in SPLITS:
        raise DatasetError(f"EMDB has no subset {split!r}, it has {', '.join(SPLITS)}")
    existing_folder(root, "EMDB's folders P0 to P9")
    for path in matching(root, "P*/*/*_data.pkl", "EMDB sequences"):
        recording = read_emdb_file(path)
        if split == "all" or split in recording.tags:
            yield recording


def read_emdb_file(path: Path) -> Recording:
    """The recording of one `…_data.pkl`.

    Raises:
        DatasetError: the file lacks something.
    """
    data = read_pickle(path)
    camera, smpl = entry(data, "camera", path), entry(data, "smpl", path)
    root_pose = entry(smpl, "poses_root", path)
    frames = len(root_pose)
    poses = np.concatenate(
        [
            array_of(root_pose, (frames, 3), "smpl.poses_root", path),
            array_of(entry(smpl, "poses_body", path), (frames, 69), "smpl.poses_body", path),
        ],
        axis=1,
    )
    trans = array_of(entry(smpl, "trans", path), (frames, 3), "smpl.trans", path)
    extrinsics = array_of(
        entry(camera, "extrinsics", path), (frames, 4, 4), "camera.extrinsics", path
    )
    sequence = Sequence(
        poses=poses.reshape(frames, 24, 3).astype(np.float32),
        trans=trans.astype(np.float32),
        betas=np.asarray(entry(smpl, "betas", path), np.float32).reshape(-1)[:10],
        gender=str(entry(data, "gender", path)),
        mocap_framerate=FRAME_RATE,
        intrinsics=array_of(entry(camera, "intrinsics", path), (3, 3), "camera.intrinsics", path),
        world_to_camera=extrinsics,
        image_size=(int(entry(camera, "width", path)), int(entry(camera, "height", path))),
        world="camera",
    )
    subsets = frozenset(name for name in ("emdb1", "emdb2") if bool(entry(data, name, path)))
    images = path.parent / "images"
    return Recording(
        name=str(entry(data, "name", path)),
        dataset="emdb",
        split="all",
        sequence=sequence,
        valid=np.asarray(entry(data, "good_frames_mask", path)).astype(bool),
        pictures=Pictures(tuple(images / f"{k:05d}.jpg" for k in range(frames))),
        up=(0.0, 1.0, 0.0),
        tags=subsets,
    )
