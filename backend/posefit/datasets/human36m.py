# SPDX-License-Identifier: Apache-2.0
"""Human3.6M as distributed: measured joints in CDF files, videos, metadata; SMPL fits beside it.

    metadata.xml
    S9/MyPoseFeatures/D3_Positions_mono/Directions 1.60457274.cdf    (or S9/Poses_D3_Positions_mono)
    S9/Videos/Directions 1.60457274.mp4
    annotations/Human36M_subject9_SMPL_NeuralAnnot.json              SMPL fits, optional

`D3_Positions_mono` are 32 joints in the camera in millimetres, 50 a second; of the 32 many repeat,
and `H36M_17` are the ones in the order of `J_regressor_h36m.npy`. The data set holds no SMPL
parameters. Those read here are NeuralAnnot's (neutral SMPL, in the data set's world, metres); the
MoSh fits that older work trained on (`neutrSMPL_H3.6`) are not offered for download, and readers of
them take rotations and shape alone, which do not place the body before the camera: not read.

Source: Ionescu et al., Human3.6M, TPAMI 2014. Joint order: Kolotouros et al., SPIN, ICCV 2019,
    datasets/preprocess/h36m.py. Fits: Moon et al., NeuralAnnot, CVPR Workshops 2022.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from posefit_shared.frames import Camera, apply, invert
from posefit_shared.sequence import Sequence

from .files import array_of, entry, existing_folder, read_json
from .human36m_cameras import CAMERAS, Metadata, read_metadata
from .recording import DatasetError, Pictures, Recording

__all__ = ["H36M_17", "SPLITS", "SUBJECTS", "read_human36m"]

SUBJECTS = {"train": (1, 5, 6, 7, 8), "test": (9, 11)}
"""Subjects of each split as the field uses them."""
SPLITS = tuple(SUBJECTS)
H36M_17 = (11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27)
"""Places of the 17 joints among the 32 stored ones, in the regressor's order."""
FRAME_RATE = 50.0
"""Pictures a second."""
_POSE_FOLDERS = ("MyPoseFeatures/D3_Positions_mono", "Poses_D3_Positions_mono")
_MM = 1000.0


def read_human36m(root: Path, split: str = "test") -> Iterator[Recording]:
    """The recordings of a split, one for each subject, action and camera.

    Args:
        root: folder with `metadata.xml` and `S1`, `S5`, ….
        split: one of `SPLITS`.

    Raises:
        DatasetError: the folder is laid out otherwise, a file lacks something, or the package
            that reads CDF files is not installed.
    """
    if split not in SUBJECTS:
        raise DatasetError(f"Human3.6M has no split {split!r}, it has {', '.join(SPLITS)}")
    existing_folder(root, "Human3.6M's metadata.xml and folders S1 to S11")
    metadata = read_metadata(root / "metadata.xml")
    found = False
    for subject in SUBJECTS[split]:
        folders = [root / f"S{subject}" / name for name in _POSE_FOLDERS]
        folder = next((path for path in folders if path.is_dir()), None)
        if folder is None:
            continue
        fits = _read_fits(root, metadata, subject)
        for path in sorted(folder.glob("*.cdf")):
            action, _, serial = path.stem.rpartition(".")
            if serial not in CAMERAS or action.startswith("_"):
                continue
            found = True
            yield _read_recording(path, root, split, subject, metadata, fits.get(action, {}))
    if not found:
        raise DatasetError(
            f"{root} holds no S{SUBJECTS[split][0]}/{_POSE_FOLDERS[0]}/*.cdf: unpack the D3 "
            "positions (mono) as docs/datasets.md shows"
        )


def _read_recording(
    path: Path,
    root: Path,
    split: str,
    subject: int,
    metadata: Metadata,
    fits: dict[str, Any],
) -> Recording:
    action, _, serial = path.stem.rpartition(".")
    camera = metadata.camera(subject, serial)
    stored = _read_cdf(path)
    joints = stored.reshape(len(stored), 32, 3)[:, H36M_17] / _MM
    video = root / f"S{subject}" / "Videos" / f"{path.stem}.mp4"
    poses, trans, betas, is_fitted = _fitted(fits, len(joints), path)
    has_body = bool(is_fitted.any())
    return Recording(
        name=f"S{subject}_{path.stem}".replace(" ", "_").replace(".", "_"),
        dataset="h36m",
        split=split,
        sequence=_sequence(poses, trans, betas, camera, subject),
        valid=is_fitted if has_body else np.ones(len(joints), bool),
        pictures=Pictures(video=video if video.is_file() else None),
        has_body=has_body,
        joints=apply(invert(camera.world_to_camera), joints),
        joint_set="h36m17",
        up=(0.0, 0.0, 1.0),
        tags=frozenset([f"S{subject}", serial, action.rstrip(" 0123456789")]),
    )


def _sequence(
    poses: npt.NDArray[np.float32],
    trans: npt.NDArray[np.float32],
    betas: npt.NDArray[np.float32],
    camera: Camera,
    subject: int,
) -> Sequence:
    return Sequence(
        poses=poses,
        trans=trans,
        betas=betas,
        mocap_framerate=FRAME_RATE,
        intrinsics=camera.intrinsics,
        world_to_camera=camera.world_to_camera,
        distortion=camera.distortion,
        image_size=camera.image_size,
        world="gravity",
        person_id=subject,
    )


def _read_cdf(path: Path) -> npt.NDArray[np.float64]:
    """(T, 96) of a CDF file's `Pose`."""
    try:
        import cdflib
    except ImportError as error:
        raise DatasetError(
            "Human3.6M's CDF files need the package cdflib: pip install 'posefit[datasets]'"
        ) from error
    try:
        pose = np.asarray(cdflib.CDF(path).varget("Pose"), np.float64)
    except (OSError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read as a CDF file ({error})") from error
    return array_of(pose.reshape(-1, pose.shape[-1]), (-1, 96), "Pose", path)


def _read_fits(root: Path, metadata: Metadata, subject: int) -> dict[str, dict[str, Any]]:
    """NeuralAnnot's fits of a subject: by action (a file name without camera), then frame."""
    path = root / "annotations" / f"Human36M_subject{subject}_SMPL_NeuralAnnot.json"
    if not path.is_file():
        return {}
    names = metadata.names.get(f"S{subject}", {})
    if not names:
        raise DatasetError(
            f"{root / 'metadata.xml'} has no mapping of S{subject}'s actions, which the SMPL fits "
            "need: take Human3.6M's own metadata.xml"
        )
    data = read_json(path)
    return {
        name: data[action][subaction]
        for (action, subaction), name in names.items()
        if action in data and subaction in data[action]
    }


def _fitted(
    fits: dict[str, Any], frames: int, path: Path
) -> tuple[
    npt.NDArray[np.float32],
    npt.NDArray[np.float32],
    npt.NDArray[np.float32],
    npt.NDArray[np.bool_],
]:
    """Poses, translations, shapes and which frames have a fit; zeros for the others."""
    poses = np.zeros((frames, 24, 3), np.float32)
    trans, betas = np.zeros((frames, 3), np.float32), np.zeros((frames, 10), np.float32)
    is_fitted = np.zeros(frames, bool)
    for word, fit in fits.items():
        frame = int(word)
        if frame >= frames:
            continue
        pose = array_of(np.reshape(entry(fit, "pose", path), -1), (72,), "pose", path)
        poses[frame] = pose.reshape(24, 3)
        betas[frame] = np.reshape(entry(fit, "shape", path), -1)[:10]
        trans[frame] = np.reshape(entry(fit, "trans", path), -1)
        is_fitted[frame] = True
    return poses, trans, betas, is_fitted
