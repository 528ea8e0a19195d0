# SPDX-License-Identifier: Apache-2.0
"""Sequence and shot files: one person's SMPL motion with its camera, and several of them.

A sequence is an `.npz` of schema 1 (the table is in docs/formats.md). Readers also take AMASS as it
is, `global_orient` + `body_pose`, `transl`, (T, J, 3) and rotation matrices. Nothing is unpickled.
`vertices = LBS(poses, betas) + trans` in the sequence's world; no further transform.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .damaged_files import DAMAGED_ARRAYS
from .frames import Camera, camera_fault
from .sequence_arrays import (
    SequenceError,
    finite_array,
    fits,
    model_type_of,
    read_poses,
    read_translation,
    read_word,
    shape_words,
)
from .skeleton import MODEL_JOINT_COUNTS, SmplParameters

__all__ = ["SCHEMA", "STATUSES", "Sequence", "SequenceError", "read_sequence", "write_sequence"]

SCHEMA = 1
"""The newest schema this version reads and the one it writes."""
STATUSES = ("refined", "kept", "no_person", "failed")
"""What can have become of a frame."""
MAX_FRAMES = 1_000_000
"""Longest sequence a reader accepts: nine hours at 30 frames a second."""
MAX_FILE_BYTES = 4 << 30
"""Largest uncompressed sequence file a reader accepts."""


MAX_FRAMERATE = 1e6
"""Most frames per second: accelerations of what lies nearer together in time fit no float32."""
_LARGEST = {"poses": 1e6, "trans": 1e7, "betas": 1e3, "distortion": 1e6, "ground": 1e7}
"""Largest numbers that mean something: radians, metres, standard deviations."""


@dataclass(frozen=True)
class Sequence:
    """One person's motion; float32 arrays, radians, metres, in world space."""

    poses: npt.NDArray[np.float32]
    """(T, J, 3) rotation vectors in the model's joint order, root first."""
    trans: npt.NDArray[np.float32]
    """(T, 3) SMPL's `transl`."""
    betas: npt.NDArray[np.float32] = dataclasses.field(
        default_factory=lambda: np.zeros(10, np.float32)
    )
    """(N,) or (T, N) shape."""
    model_type: str = ""
    """`smpl`, `smplh` or `smplx`; empty means: from the number of joints."""
    body: str = ""
    """Name or content hash of the body that `betas` belong to; empty if unknown."""
    gender: str = "neutral"
    """`neutral`, `male` or `female`."""
    expression: npt.NDArray[np.float32] | None = None
    """(T, E) SMPL-X face, carried along."""
    mocap_framerate: float = 30.0
    """Frames per second."""
    times: npt.NDArray[np.float64] | None = None
    """(T,) seconds, where the rate varies."""
    frame_indices: npt.NDArray[np.int64] | None = None
    """(T,) decoded frame of the footage; 0 … T − 1 unless given."""
    intrinsics: npt.NDArray[np.float64] | None = None
    """(3, 3) or (T, 3, 3) pixels."""
    world_to_camera: npt.NDArray[np.float64] | None = None
    """(4, 4) or (T, 4, 4) OpenCV camera."""
    distortion: npt.NDArray[np.float64] | None = None
    """(5,) OpenCV k1 k2 p1 p2 k3; zeros unless given."""
    image_size: tuple[int, int] | None = None
    """Width and height of the footage, pixels."""
    world: str = "gravity"
    """`gravity`: z is up; `camera`: up is unknown."""
    ground: npt.NDArray[np.float64] | None = None
    """(4,) plane n·x + d = 0."""
    person_id: int = 0
    """Stable over the clip."""
    confidence: npt.NDArray[np.float32] | None = None
    """(T, J) 0–1 per joint, written by posefit."""
    status: tuple[str, ...] | None = None
    """(T,) one of `STATUSES`, written by posefit."""

    def __post_init__(self) -> None:
        poses = finite_array(self.poses, np.float32, "poses")
        if poses.ndim != 3 or poses.shape[2] != 3 or len(poses) == 0:
            raise SequenceError(f"poses is {poses.shape}, expected (frames ≥ 1, joints, 3)")
        frames, joints = poses.shape[:2]
        if frames > MAX_FRAMES:
            raise SequenceError(f"the sequence has {frames} frames, at most {MAX_FRAMES} are read")
        self._set("poses", poses)
        self._set("model_type", self.model_type or model_type_of(joints))
        if self.model_type not in MODEL_JOINT_COUNTS:
            raise SequenceError(
                f"model_type is {self.model_type!r}, expected one of "
                f"{', '.join(MODEL_JOINT_COUNTS)}"
            )
        if MODEL_JOINT_COUNTS[self.model_type] != joints:
            raise SequenceError(
                f"poses have {joints} joints, expected {MODEL_JOINT_COUNTS[self.model_type]} "
                f"for model_type {self.model_type}"
            )
        self._check_arrays(frames, joints)
        self._check_camera()
        self._check_words(frames)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_arrays(self, frames: int, joints: int) -> None:
        default = np.arange(frames) if self.frame_indices is None else self.frame_indices
        self._set("frame_indices", finite_array(default, np.int64, "frame_indices"))
        shapes: dict[str, tuple[type, tuple[tuple[int, ...], ...]]] = {
            "trans": (np.float32, ((frames, 3),)),
            "betas": (np.float32, ((-1,), (frames, -1))),
            "expression": (np.float32, ((frames, -1),)),
            "times": (np.float64, ((frames,),)),
            "frame_indices": (np.int64, ((frames,),)),
            "intrinsics": (np.float64, ((3, 3), (frames, 3, 3))),
            "world_to_camera": (np.float64, ((4, 4), (frames, 4, 4))),
            "distortion": (np.float64, ((5,),)),
            "ground": (np.float64, ((4,),)),
            "confidence": (np.float32, ((frames, joints),)),
            "poses": (np.float32, ((frames, joints, 3),)),
        }
        for name, (dtype, allowed) in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            array = finite_array(value, dtype, name)
            if not any(fits(array.shape, shape) for shape in allowed):
                raise SequenceError(f"{name} is {array.shape}, expected {shape_words(allowed)}")
            largest = _LARGEST.get(name, np.inf)
            if array.size and np.abs(array).max() > largest:
                raise SequenceError(
                    f"{name} holds {np.abs(array).max():g}, expected at most {largest:g} either "
                    "way: the file is damaged, or of other units"
                )
            self._set(name, array)
        indices = self.frame_indices
        if indices is not None and indices.min() < 0:
            raise SequenceError("frame_indices holds a negative frame, expected 0 or more")
        self._check_times()

    def _check_times(self) -> None:
        if self.times is None:
            return
        is_later = np.diff(self.times) > 0.5 / MAX_FRAMERATE
        if not is_later.all():
            raise SequenceError(
                f"times do not rise (frame {int(np.argmin(is_later)) + 1} is no later than the one "
                "before it): sort the frames, or cut those that come twice"
            )

    def _check_camera(self) -> None:
        if (self.intrinsics is None) != (self.world_to_camera is None):
            have, lack = ("intrinsics", "world_to_camera")
            if self.intrinsics is None:
                have, lack = lack, have
            raise SequenceError(f"the sequence has {have} but no {lack}: give both or neither")
        if fault := camera_fault(self.intrinsics, self.world_to_camera):
            raise SequenceError(f"{fault}: import the sequence with its camera again")
        if self.image_size is not None:
            width, height = (int(n) for n in self.image_size)
            if width <= 0 or height <= 0:
                raise SequenceError(f"image_size is {(width, height)}, expected positive numbers")
            self._set("image_size", (width, height))

    def _check_words(self, frames: int) -> None:
        if self.world not in ("gravity", "camera"):
            raise SequenceError(f"world is {self.world!r}, expected 'gravity' or 'camera'")
        if not 0 < self.mocap_framerate <= MAX_FRAMERATE:  # also refuses NaN
            raise SequenceError(
                f"mocap_framerate is {self.mocap_framerate:g}, expected more than 0 and at most "
                f"{MAX_FRAMERATE:g}"
            )
        if self.status is not None:
            status = tuple(str(s) for s in self.status)
            if len(status) != frames or not set(status) <= set(STATUSES):
                raise SequenceError(
                    f"status holds {len(status)} of {sorted(set(status))}, expected {frames} of "
                    f"{', '.join(STATUSES)}"
                )
            self._set("status", status)

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def has_camera(self) -> bool:
        """Whether the sequence knows how it was filmed."""
        return self.intrinsics is not None and self.image_size is not None

    def camera(self, frame: int) -> Camera:
        """The camera of a frame (an index into this sequence, not into the footage).

        Raises:
            SequenceError: the sequence has no camera or no image_size.
        """
        if self.intrinsics is None or self.world_to_camera is None or self.image_size is None:
            raise SequenceError(
                "the sequence has no camera (intrinsics, world_to_camera and image_size are "
                "needed): import it with its camera, or give one"
            )
        k = self.intrinsics if self.intrinsics.ndim == 2 else self.intrinsics[frame]
        w2c = (
            self.world_to_camera if self.world_to_camera.ndim == 2 else self.world_to_camera[frame]
        )
        distortion = np.zeros(5) if self.distortion is None else self.distortion
        return Camera(k, w2c, self.image_size, distortion)

    def parameters(self, frame: int) -> SmplParameters:
        """One frame's parameters."""
        betas = self.betas if self.betas.ndim == 1 else self.betas[frame]
        pose = self.poses[frame]
        return SmplParameters(betas, pose[0], pose[1:], self.trans[frame])

    def replace(self, **changes: Any) -> Sequence:
        """The same sequence with some fields changed (and checked again)."""
        return dataclasses.replace(self, **changes)

    def slice(self, start: int, stop: int) -> Sequence:
        """Frames `start` to `stop` − 1 with everything that belongs to them."""
        frames = len(self)
        chosen: dict[str, Any] = {}
        per_frame_rank = {
            "poses": 3, "trans": 2, "betas": 2, "expression": 2, "times": 1, "frame_indices": 1,
            "intrinsics": 3, "world_to_camera": 3, "confidence": 2,
        }  # fmt: skip
        for name, rank in per_frame_rank.items():
            value = getattr(self, name)
            if value is not None and value.ndim == rank and len(value) == frames:
                chosen[name] = value[start:stop]
        if self.status is not None:
            chosen["status"] = self.status[start:stop]
        return self.replace(**chosen)


def read_sequence(path: str | os.PathLike[str]) -> Sequence:
    """The sequence in an `.npz` file of posefit's schema or AMASS's layout.

    Raises:
        SequenceError: the file is missing, broken, of a newer schema, or holds NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise SequenceError(f"no sequence file at {path}: check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MAX_FILE_BYTES:
            raise SequenceError(f"{path.name} unpacks to {unpacked >> 20} MiB, more than is read")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in _KNOWN_KEYS}
    except SequenceError:
        raise
    except DAMAGED_ARRAYS as error:
        raise SequenceError(
            f"{path.name} is no readable .npz of plain arrays ({error}): save it again with "
            "numpy.savez, without objects"
        ) from error
    try:
        return sequence_from_arrays(arrays)
    except SequenceError as error:
        raise SequenceError(f"{path.name}: {error}") from error
    except DAMAGED_ARRAYS as error:
        raise SequenceError(f"{path.name} has a value of the wrong kind ({error})") from error


def write_sequence(path: str | os.PathLike[str], sequence: Sequence) -> None:
    """Write a sequence file of schema 1; the file appears whole or not at all.

    Raises:
        SequenceError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    arrays = sequence_to_arrays(sequence)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as handle:
            temporary = Path(handle.name)
            np.savez_compressed(handle, **arrays)  # pyright: ignore[reportArgumentType]
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise SequenceError(
            f"could not write {path} ({error.strerror or error}): free some space or choose "
            "another folder"
        ) from error


def sequence_to_arrays(sequence: Sequence) -> dict[str, np.ndarray]:
    """A sequence under the file keys of schema 1; also what goes over the wire."""
    arrays: dict[str, np.ndarray] = {"posefit_schema": np.array(SCHEMA)}
    for field in dataclasses.fields(sequence):
        value = getattr(sequence, field.name)
        if value is not None:
            arrays[field.name] = np.asarray(value)
    arrays["poses"] = sequence.poses.reshape(len(sequence), -1)
    return arrays


def sequence_from_arrays(arrays: Mapping[str, npt.ArrayLike]) -> Sequence:
    """A sequence from arrays under the keys of schema 1, of AMASS, or of SMPL's own names.

    Raises:
        SequenceError: a key is missing, of the wrong shape, or holds NaN.
    """
    data = {name: np.asarray(value) for name, value in arrays.items()}
    schema = int(data.pop("posefit_schema", np.array(1)))
    if schema > SCHEMA:
        raise SequenceError(
            f"the file is of schema {schema}, this posefit reads up to {SCHEMA}: update posefit"
        )
    poses = read_poses(data)
    fields: dict[str, Any] = {"poses": poses, "trans": read_translation(data, len(poses))}
    for name in ("betas", "expression", "times", "frame_indices", "intrinsics", "world_to_camera",
                 "distortion", "ground", "confidence"):  # fmt: skip
        if name in data:
            fields[name] = data[name]
    if "betas" in fields and fields["betas"].ndim == 2 and len(fields["betas"]) == 1:
        fields["betas"] = fields["betas"][0]
    for name in ("model_type", "body", "gender", "world"):
        if name in data:
            fields[name] = read_word(data[name])
    rate = data.get("mocap_framerate", data.get("mocap_frame_rate"))
    if rate is not None:
        fields["mocap_framerate"] = float(rate)
    if "image_size" in data:
        fields["image_size"] = tuple(int(n) for n in data["image_size"].reshape(-1)[:2])
    if "person_id" in data:
        fields["person_id"] = int(data["person_id"])
    if "status" in data:
        fields["status"] = tuple(str(s) for s in data["status"].reshape(-1))
    return Sequence(**fields)


_KNOWN_KEYS = {field.name for field in dataclasses.fields(Sequence)} | {
    "posefit_schema", "mocap_frame_rate", "global_orient", "body_pose", "transl", "left_hand_pose",
    "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose",
}  # fmt: skip
