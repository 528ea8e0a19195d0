# SPDX-License-Identifier: Apache-2.0
"""What the records of all kinds of jobs are made of: sequences, settings, footage, other people.

`payloads` has the records themselves.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from .frames import camera_fault
from .message_fields import ArrayOf, Between, Foreign, ProtocolError, Record, Text
from .sequence import STATUSES, Sequence, SequenceError
from .settings import RefineSettings, SettingsError

FREE_BODY = "free"
"""Name of the body that every posefit ships."""
MAX_FRAMES = 1_000_000
"""Frames that one request may pin."""

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
_HASH = re.compile(r"[0-9a-f]{64}")


def check_content_hash(content_hash: str, where: str) -> str:
    """The hash itself, if it is the lowercase hexadecimal SHA-256 of some content.

    Raises:
        ProtocolError: it is anything else.
    """
    if not isinstance(content_hash, str) or not _HASH.fullmatch(content_hash):
        raise ProtocolError(f"{where} is no content hash, expected 64 hexadecimal digits")
    return content_hash


_NEEDED = {"poses", "trans"}
_SEQUENCE_KINDS: dict[str, type | tuple[type, ...]] = {
    "model_type": str, "body": str, "gender": str, "world": str, "mocap_framerate": (int, float),
    "image_size": (list, tuple), "person_id": int, "status": np.ndarray,
}  # fmt: skip
"""What a sequence's fields are on the wire; those not named are arrays."""


def sequence_to_map(sequence: Sequence) -> dict[str, Any]:
    """A sequence as its arrays and plain values; statuses as positions in `STATUSES`."""
    fields = {item.name: getattr(sequence, item.name) for item in dataclasses.fields(sequence)}
    values = {name: value for name, value in fields.items() if value is not None}
    if sequence.status is not None:
        values["status"] = status_codes(sequence.status)
    if sequence.image_size is not None:
        values["image_size"] = [int(side) for side in sequence.image_size]
    values["mocap_framerate"] = float(sequence.mocap_framerate)
    values["person_id"] = int(sequence.person_id)
    return values


def sequence_from_map(values: Mapping[str, Any]) -> Sequence:
    """The sequence that `sequence_to_map` described; unknown keys are ignored.

    Raises:
        ProtocolError: it is no valid sequence.
    """
    known = {item.name for item in dataclasses.fields(Sequence)}
    fields: dict[str, Any] = {name: value for name, value in values.items() if name in known}
    if missing := sorted(_NEEDED - fields.keys()):
        raise ProtocolError(f"the sequence lacks the required field '{missing[0]}'")
    for name, value in list(fields.items()):
        if value is None and name not in _NEEDED:
            del fields[name]
            continue
        expected = _SEQUENCE_KINDS.get(name, np.ndarray)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ProtocolError(f"the sequence's {name} is of type {type(value).__name__}")
    if "status" in fields:
        fields["status"] = status_words(fields["status"])
    try:
        return Sequence(**fields)
    except SequenceError as error:
        raise ProtocolError(f"the sequence is not usable: {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"the sequence holds a value of the wrong kind ({error})") from error


def status_codes(status: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """(T,) position of each frame's status in `STATUSES`."""
    return np.array([STATUSES.index(word) for word in status], np.uint8)


def status_words(codes: Any) -> tuple[str, ...]:
    """The statuses behind (T,) codes.

    Raises:
        ProtocolError: a code that this version does not know.
    """
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8 or codes.ndim != 1:
        raise ProtocolError("status is not an array of codes, expected uint8 (frame)")
    if codes.size and codes.max() >= len(STATUSES):
        raise ProtocolError(f"status holds code {codes.max()}, expected below {len(STATUSES)}")
    return tuple(STATUSES[code] for code in codes)


# By name: a lambda in a class's annotation would not see this module when it is evaluated.
def statuses_to_map(status: tuple[str, ...]) -> dict[str, Any]:
    return {"codes": status_codes(status)}


def statuses_from_map(values: Mapping[str, Any]) -> tuple[str, ...]:
    return status_words(values.get("codes"))


def _settings_from_map(values: Mapping[str, Any]) -> RefineSettings:
    try:
        return RefineSettings.from_map(dict(values))
    except SettingsError as error:
        raise ProtocolError(f"the settings are not usable: {error}") from error


WireSequence = Annotated[Sequence, Foreign(Sequence, sequence_to_map, sequence_from_map)]
WireSettings = Annotated[
    RefineSettings, Foreign(RefineSettings, RefineSettings.to_map, _settings_from_map)
]


@dataclass(frozen=True)
class MediaReference(Record):
    """Footage: a path on the backend's machine, or the hash of an uploaded file; exactly one."""

    NAME: ClassVar[str] = "media"
    path: Annotated[str, Text(4096)] | None = None
    """Absolute path below a media root of the backend: a video file or a folder of images."""
    content_hash: Annotated[str, Text(64)] | None = None
    """SHA-256 of an uploaded video file."""
    name: Annotated[str, Text(255)] | None = None
    """The uploaded file's own name; its ending tells decoders the format."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.path is None) == (self.content_hash is None):
            raise ProtocolError("media needs either a path or a content hash, and not both")
        if self.path is not None and (not self.path or "\0" in self.path):
            raise ProtocolError("media.path is empty or holds a zero byte, expected a file's path")
        if self.content_hash is not None:
            check_content_hash(self.content_hash, "media.content_hash")


def check_cameras(record: Record) -> None:
    """Refuse a record whose cameras nothing can be seen with.

    Raises:
        ProtocolError: intrinsics, world_to_camera or distortion are no camera's.
    """
    names = ("intrinsics", "world_to_camera", "distortion")
    intrinsics, world_to_camera, distortion = (getattr(record, name, None) for name in names)
    fault = camera_fault(intrinsics, world_to_camera)
    if distortion is not None and not np.isfinite(distortion).all():
        fault = "distortion holds NaN or infinity, expected finite numbers"
    if fault:
        raise ProtocolError(f"{record.NAME}: {fault}")


@dataclass(frozen=True)
class Request(Record):
    """Base of what a job takes."""

    KIND: ClassVar[str] = ""

    def media_references(self) -> tuple[MediaReference, ...]:
        """All footage that the job looks at."""
        media = getattr(self, "media", None)
        return () if media is None else (media,)

    def content_hashes(self) -> tuple[str, ...]:
        """Hashes of everything that must be on the backend before the job can run."""
        body = getattr(self, "body", FREE_BODY)
        hashes = [
            None if body == FREE_BODY else body,
            getattr(self, "texture", None),
            *(media.content_hash for media in self.media_references()),
        ]
        return tuple(dict.fromkeys(item for item in hashes if item is not None))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cameras(self)
        for content_hash in self.content_hashes():
            check_content_hash(content_hash, f"a content hash of {self.NAME}")


MOST_VIEWS = 16
"""Cameras that one refinement may look through, beside the sequence's own."""


@dataclass(frozen=True)
class ViewReference(Record):
    """One more calibrated camera in the sequence's world, with its footage."""

    NAME: ClassVar[str] = "view"
    name: Annotated[str, Text(255)]
    """What messages call it."""
    media: MediaReference
    frame_indices: Annotated[npt.NDArray[np.int64], ArrayOf("int64", "frame")]
    """(T,) decoded frame for each frame of the sequence; −1 where this camera has none."""
    intrinsics: Annotated[Float64, ArrayOf("float64", "camera 3 3")]
    """(1, 3, 3) or (T, 3, 3) pixels."""
    world_to_camera: Annotated[Float64, ArrayOf("float64", "placed 4 4")]
    """(1, 4, 4) or (T, 4, 4) metres."""
    image_size: tuple[Annotated[int, Between(1, 65535)], Annotated[int, Between(1, 65535)]]
    """Width and height of the footage, pixels."""
    distortion: Annotated[Float64, ArrayOf("float64", "5")] | None = None
    """(5,) OpenCV k1 k2 p1 p2 k3."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cameras(self)
        count = len(self.frame_indices)
        for name in ("intrinsics", "world_to_camera"):
            if len(getattr(self, name)) not in (1, count):
                raise ProtocolError(f"view.{name} has to hold 1 or {count} cameras")
        if (self.frame_indices < -1).any():
            raise ProtocolError("view.frame_indices names a frame below -1")


MOST_OTHERS = 16
"""Other people that one refinement may be told of."""


@dataclass(frozen=True)
class OtherPeople(Record):
    """Everybody else in the pictures, on the frames of the sequence that is refined."""

    NAME: ClassVar[str] = "other people"
    poses: Annotated[Float32, ArrayOf("float32", "person frame joint 3")]
    """(P, T, J, 3) rotation vectors, root first."""
    trans: Annotated[Float32, ArrayOf("float32", "person frame 3")]
    """(P, T, 3) SMPL's transl in their own worlds, metres."""
    betas: Annotated[Float32, ArrayOf("float32", "person shape")]
    """(P, N) their shapes."""
    is_there: Annotated[npt.NDArray[np.uint8], ArrayOf("uint8", "person frame")]
    """(P, T) 1 where they are in the scene at all, else 0."""
    to_world: Annotated[Float64, ArrayOf("float64", "person placed 4 4")]
    """(P, 1, 4, 4) or (P, T, 4, 4) from their worlds to the sequence's; may scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        people, frames = self.is_there.shape
        if not 1 <= people <= MOST_OTHERS:
            raise ProtocolError(f"other people holds {people} people, expected 1 to {MOST_OTHERS}")
        if self.to_world.shape[1] not in (1, frames):
            raise ProtocolError(f"other people.to_world has to hold 1 or {frames} transforms each")
        for name in ("poses", "trans", "betas", "to_world"):
            if not np.isfinite(getattr(self, name)).all():
                raise ProtocolError(f"other people.{name} holds numbers that are not finite")
