# SPDX-License-Identifier: Apache-2.0
"""What jobs take and give: one request and one result record for each kind of job.

World: z up, metres; camera: OpenCV, pixels; rotation vectors in radians (see `frames`). Positions
in a sequence count from 0; its `frame_indices` name decoded frames of the footage.
`messages` carries these records, `codec` makes bytes of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from .message_fields import ArrayOf, AtMost, Between, Foreign, JsonTree, ProtocolError, Record, Text
from .sequence import STATUSES, Sequence, SequenceError
from .settings import RefineSettings, SettingsError

FREE_BODY = "free"
"""Name of the body that every posefit ships."""
MAX_FRAMES = 1_000_000
"""Frames that one request may pin."""

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Modality = Literal["rgb", "depth", "normals", "vertex_colors", "mask"]
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
def _statuses_to_map(status: tuple[str, ...]) -> dict[str, Any]:
    return {"codes": status_codes(status)}


def _statuses_from_map(values: Mapping[str, Any]) -> tuple[str, ...]:
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


@dataclass(frozen=True)
class Request(Record):
    """Base of what a job takes."""

    KIND: ClassVar[str] = ""

    def content_hashes(self) -> tuple[str, ...]:
        """Hashes of everything that must be on the backend before the job can run."""
        media = getattr(self, "media", None)
        body = getattr(self, "body", FREE_BODY)
        hashes = [
            None if body == FREE_BODY else body,
            getattr(self, "texture", None),
            media.content_hash if media is not None else None,
        ]
        return tuple(dict.fromkeys(item for item in hashes if item is not None))

    def __post_init__(self) -> None:
        super().__post_init__()
        for content_hash in self.content_hashes():
            check_content_hash(content_hash, f"a content hash of {self.NAME}")


@dataclass(frozen=True)
class PingRequest(Request):
    """Asks for the same text and array back: tells whether jobs run at all."""

    NAME: ClassVar[str] = "ping"
    KIND: ClassVar[str] = "ping"
    text: str = ""
    data: Annotated[Float32, ArrayOf("float32", "any")] | None = None
    content: Annotated[str, Text(64)] | None = None
    """Hash of a content that must be on the backend first."""

    def content_hashes(self) -> tuple[str, ...]:
        return () if self.content is None else (self.content,)


@dataclass(frozen=True)
class PingResult(Record):
    """What was sent."""

    NAME: ClassVar[str] = "ping result"
    text: str = ""
    data: Annotated[Float32, ArrayOf("float32", "any")] | None = None


@dataclass(frozen=True)
class RefineRequest(Request):
    """Asks for a sequence to be moved until it explains its footage."""

    NAME: ClassVar[str] = "refine"
    KIND: ClassVar[str] = "refine"
    sequence: WireSequence
    """The estimate to start from, with its camera."""
    media: MediaReference
    """The footage that `sequence.frame_indices` counts in."""
    body: Annotated[str, Text(64)] = FREE_BODY
    """`free`, or the content hash of a body file."""
    settings: WireSettings = dataclasses.field(default_factory=RefineSettings)
    texture: Annotated[str, Text(64)] | None = None
    """Content hash of the person's texture (PNG); none: built from the footage."""
    locked_joints: Annotated[tuple[Annotated[int, Between(0, 255)], ...], AtMost(256)] = ()
    """Joints whose rotation stays as it came."""
    stiffness: Annotated[Float32, ArrayOf("float32", "joint")] | None = None
    """(J,) factor ≥ 0 on each joint's pull towards the input pose; 1 is usual."""
    pinned_frames: Annotated[
        tuple[Annotated[int, Between(0, MAX_FRAMES)], ...], AtMost(MAX_FRAMES)
    ] = ()
    """Positions in the sequence whose pose stays as it came."""

    def __post_init__(self) -> None:
        super().__post_init__()
        frames, joints = self.sequence.poses.shape[:2]
        if any(joint >= joints for joint in self.locked_joints):
            raise ProtocolError(f"refine.locked_joints names a joint beyond the {joints} there are")
        if any(frame >= frames for frame in self.pinned_frames):
            raise ProtocolError(f"refine.pinned_frames names a frame beyond the {frames} there are")
        if self.stiffness is not None:
            valid = self.stiffness.shape == (joints,) and bool(
                np.isfinite(self.stiffness).all() and (self.stiffness >= 0).all()
            )
            if not valid:
                raise ProtocolError(f"refine.stiffness needs {joints} finite factors of 0 or more")


@dataclass(frozen=True)
class RefineResult(Record):
    """A refined motion, or those frames of it that a provisional revision covers."""

    NAME: ClassVar[str] = "refine result"
    frame_indices: Annotated[npt.NDArray[np.int64], ArrayOf("int64", "frame")]
    """(T,) decoded frames of the footage, as in the request."""
    poses: Annotated[Float32, ArrayOf("float32", "frame joint 3")]
    """(T, J, 3) rotation vectors, root first."""
    trans: Annotated[Float32, ArrayOf("float32", "frame 3")]
    """(T, 3) SMPL's transl, metres."""
    betas: Annotated[Float32, ArrayOf("float32", "shape")]
    """(N,) shape of the person."""
    confidence: Annotated[Float32, ArrayOf("float32", "frame joint")]
    """(T, J) 0 to 1."""
    status: Annotated[
        tuple[str, ...],
        Foreign(
            tuple,
            _statuses_to_map,
            _statuses_from_map,
        ),
    ]
    """(T,) one of `sequence.STATUSES`."""
    report: Annotated[dict[str, Any], JsonTree()] = dataclasses.field(default_factory=dict)
    """Figures for people: costs, acceptance, warnings."""
    intrinsics: Annotated[Float64, ArrayOf("float64", "camera 3 3")] | None = None
    """(1, 3, 3) or (T, 3, 3) where the focal length was refined; none: the camera stays."""
    distortion: Annotated[Float64, ArrayOf("float64", "5")] | None = None
    """(5,) that goes with `intrinsics`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.intrinsics is not None and len(self.intrinsics) not in (
            1,
            len(self.frame_indices),
        ):
            raise ProtocolError(
                f"refine result.intrinsics holds {len(self.intrinsics)} cameras, expected 1 or "
                f"{len(self.frame_indices)}"
            )
        if len(self.status) != len(self.frame_indices) or not set(self.status) <= set(STATUSES):
            raise ProtocolError(
                f"refine result.status needs {len(self.frame_indices)} of {', '.join(STATUSES)}"
            )


@dataclass(frozen=True)
class TextureRequest(Request):
    """Asks for the person's texture map, painted from the footage."""

    NAME: ClassVar[str] = "texture"
    KIND: ClassVar[str] = "texture"
    sequence: WireSequence
    media: MediaReference
    body: Annotated[str, Text(64)] = FREE_BODY
    resolution: Annotated[int, Between(64, 4096)] = 1024
    """Side of the square map, texels."""


@dataclass(frozen=True)
class TextureResult(Record):
    """A texture map and where it is trustworthy."""

    NAME: ClassVar[str] = "texture result"
    rgb: Annotated[npt.NDArray[np.uint8], ArrayOf("uint8", "height width 3")]
    """(H, W, 3) sRGB, first row at v = 1."""
    coverage: Annotated[Float32, ArrayOf("float32", "height width")]
    """(H, W) 0 (never seen) to 1."""
    uv_hash: Annotated[str, Text(64)] = ""
    """Hash of the UV layout that the map belongs to."""


@dataclass(frozen=True)
class EstimateRequest(Request):
    """Asks for a first estimate of one person's motion."""

    NAME: ClassVar[str] = "estimate"
    KIND: ClassVar[str] = "estimate"
    media: MediaReference
    person: Annotated[int, Between(0, 255)] = 0
    """Which person, the largest first."""
    body: Annotated[str, Text(64)] = FREE_BODY
    intrinsics: Annotated[Float64, ArrayOf("float64", "3 3")] | None = None
    """(3, 3) pixels; none: a usual lens is assumed."""
    distortion: Annotated[Float64, ArrayOf("float64", "5")] | None = None
    """(5,) OpenCV k1 k2 p1 p2 k3."""
    start_frame: Annotated[int, Between(0, MAX_FRAMES)] = 0
    """First decoded frame."""
    stop_frame: Annotated[int, Between(1, MAX_FRAMES)] | None = None
    """The decoded frame after the last; none: to the end."""


@dataclass(frozen=True)
class EstimateResult(Record):
    """A first estimate."""

    NAME: ClassVar[str] = "estimate result"
    sequence: WireSequence
    report: Annotated[dict[str, Any], JsonTree()] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class ImportRequest(Request):
    """Asks for another tool's result file as a sequence."""

    NAME: ClassVar[str] = "import"
    KIND: ClassVar[str] = "import"
    media: MediaReference
    """The file: a path below a media root, or an upload."""
    format: Annotated[str, Text(64)] | None = None
    """The importer's name; none: found out from the file."""
    person: Annotated[int, Between(0, 255)] | None = None
    """Which person, the one seen longest first; none: the first."""
    body: Annotated[str, Text(64)] = FREE_BODY
    """Body that the motion will be used with: worlds turn about its pelvis."""
    image_size: (
        tuple[Annotated[int, Between(1, 65535)], Annotated[int, Between(1, 65535)]] | None
    ) = None
    """Width and height of the footage, for files that do not say; none: unknown."""


@dataclass(frozen=True)
class ImportResult(Record):
    """The imported sequence."""

    NAME: ClassVar[str] = "import result"
    sequence: WireSequence
    report: Annotated[dict[str, Any], JsonTree()] = dataclasses.field(default_factory=dict)
    """`format`, `title`, `people` (how many the file has) and `notes` (sentences)."""


@dataclass(frozen=True)
class PreviewRequest(Request):
    """Asks how the body looks from the camera in one frame."""

    NAME: ClassVar[str] = "preview"
    KIND: ClassVar[str] = "preview"
    sequence: WireSequence
    """The frame to show is `sequence[frame]`; send only that frame where you can."""
    intrinsics: Annotated[Float64, ArrayOf("float64", "3 3")]
    """(3, 3) of the picture to draw, pixels."""
    world_to_camera: Annotated[Float64, ArrayOf("float64", "4 4")]
    image_size: tuple[Annotated[int, Between(1, 4096)], Annotated[int, Between(1, 4096)]]
    """Width and height of the picture to draw."""
    modalities: Annotated[tuple[Modality, ...], AtMost(5)] = ("vertex_colors",)
    frame: Annotated[int, Between(0, MAX_FRAMES)] = 0
    body: Annotated[str, Text(64)] = FREE_BODY
    texture: Annotated[str, Text(64)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frame >= len(self.sequence):
            raise ProtocolError(f"preview.frame is {self.frame}, expected below the sequence's end")
        if not self.modalities:
            raise ProtocolError("preview.modalities is empty, expected at least one name")


@dataclass(frozen=True)
class PreviewResult(Record):
    """Pictures of the body, transparent where it is not."""

    NAME: ClassVar[str] = "preview result"
    modalities: Annotated[tuple[Modality, ...], AtMost(5)]
    images: Annotated[npt.NDArray[np.uint8], ArrayOf("uint8", "modality height width 4")]
    """(M, H, W, 4) RGBA, first row on top."""


REQUESTS: dict[str, type[Request]] = {
    kind.KIND: kind
    for kind in (
        PingRequest, RefineRequest, TextureRequest, EstimateRequest, ImportRequest, PreviewRequest,
    )
}  # fmt: skip
"""What each kind of job takes."""

RESULTS: dict[str, type[Record]] = {
    "ping": PingResult,
    "refine": RefineResult,
    "texture": TextureResult,
    "estimate": EstimateResult,
    "import": ImportResult,
    "preview": PreviewResult,
}
"""What each kind of job gives."""
