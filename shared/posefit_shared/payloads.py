# SPDX-License-Identifier: Apache-2.0
"""What jobs take and give: one request and one result record for each kind of job.

World: z up, metres; camera: OpenCV, pixels; rotation vectors in radians (see `frames`). Positions
in a sequence count from 0; its `frame_indices` name decoded frames of the footage.
`messages` carries these records, `codec` makes bytes of them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from .message_fields import ArrayOf, AtMost, Between, Foreign, JsonTree, ProtocolError, Record, Text
from .payload_parts import (
    FREE_BODY,
    MAX_FRAMES,
    MOST_VIEWS,
    Float32,
    Float64,
    MediaReference,
    OtherPeople,
    Request,
    ViewReference,
    WireSequence,
    WireSettings,
    statuses_from_map,
    statuses_to_map,
)
from .sequence import STATUSES
from .settings import RefineSettings

Modality = Literal["rgb", "depth", "normals", "vertex_colors", "mask"]


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
    more_views: Annotated[tuple[ViewReference, ...], AtMost(MOST_VIEWS)] = ()
    """Other cameras that filmed the person."""
    others: OtherPeople | None = None
    """Who else is in the pictures and may hide the person; none: nobody."""

    def media_references(self) -> tuple[MediaReference, ...]:
        return (self.media, *(view.media for view in self.more_views))

    def __post_init__(self) -> None:
        super().__post_init__()
        frames, joints = self.sequence.poses.shape[:2]
        if any(joint >= joints for joint in self.locked_joints):
            raise ProtocolError(f"refine.locked_joints names a joint beyond the {joints} there are")
        if any(frame >= frames for frame in self.pinned_frames):
            raise ProtocolError(f"refine.pinned_frames names a frame beyond the {frames} there are")
        if any(len(view.frame_indices) != frames for view in self.more_views):
            raise ProtocolError(f"refine.more_views has to name a picture for all {frames} frames")
        if self.others is not None and self.others.is_there.shape[1] != frames:
            raise ProtocolError(f"refine.others has to place people on all {frames} frames")
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
            statuses_to_map,
            statuses_from_map,
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


MOST_PICTURES = 100_000
"""Pictures that one request may offer for an alignment."""


@dataclass(frozen=True)
class AlignRequest(Request):
    """Asks where, and when, a motion belongs that was not shot with the footage."""

    NAME: ClassVar[str] = "align"
    KIND: ClassVar[str] = "align"
    sequence: WireSequence
    """The motion, one row for each scene frame; it needs no camera."""
    first_frame: Annotated[int, Between(-MAX_FRAMES, MAX_FRAMES)]
    """Scene frame of its first row."""
    media: MediaReference
    picture_frames: Annotated[npt.NDArray[np.int64], ArrayOf("int64", "picture")]
    """(P,) scene frames at which pictures are shown, rising."""
    decoded_frames: Annotated[npt.NDArray[np.int64], ArrayOf("int64", "picture")]
    """(P,) which decoded frame each shows."""
    intrinsics: Annotated[Float64, ArrayOf("float64", "camera 3 3")]
    """(1, 3, 3) or (P, 3, 3), pixels."""
    world_to_camera: Annotated[Float64, ArrayOf("float64", "placed 4 4")]
    """(1, 4, 4) or (P, 4, 4), metres."""
    distortion: Annotated[Float64, ArrayOf("float64", "5")] | None = None
    """(5,) OpenCV k1 k2 p1 p2 k3."""
    body: Annotated[str, Text(64)] = FREE_BODY
    person: Annotated[int, Between(0, 255)] = 0
    """Which person of the footage, the largest first."""
    search: Annotated[int, Between(0, MAX_FRAMES)] = 0
    """How many frames earlier or later than `offset` the motion may belong; 0: that very one."""
    offset: Annotated[int, Between(-MAX_FRAMES, MAX_FRAMES)] = 0
    """Scene frame f of the motion belongs to the picture of scene frame f + offset, as far as is
    known."""

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.picture_frames)
        if not 0 < count <= MOST_PICTURES:
            raise ProtocolError(f"align offers {count} pictures, expected 1 to {MOST_PICTURES}")
        if (np.diff(self.picture_frames) <= 0).any() or (np.diff(self.decoded_frames) < 0).any():
            raise ProtocolError("align's pictures are not in order of time")
        for name in ("intrinsics", "world_to_camera"):
            if len(getattr(self, name)) not in (1, count):
                raise ProtocolError(f"align.{name} has to hold 1 or {count} cameras")


@dataclass(frozen=True)
class AlignResult(Record):
    """How a motion has to be shifted and moved to lie over the person of the footage."""

    NAME: ClassVar[str] = "align result"
    offset: Annotated[int, Between(-MAX_FRAMES, MAX_FRAMES)]
    """Frame f of the motion belongs to the picture of scene frame f + offset."""
    transform: Annotated[Float64, ArrayOf("float64", "4 4")]
    """(4, 4) from the motion's world to the camera's: a turn about z and a shift, metres."""
    report: Annotated[dict[str, Any], JsonTree()] = dataclasses.field(default_factory=dict)
    """`misfit` and `misfit_before` (median distance of landmarks, in heights of the person in the
    picture; the latter none where the motion was not in the picture), `turn_deg`, `pictures`,
    `is_offset_clear` (whether no other offset fits about as well)."""


REQUESTS: dict[str, type[Request]] = {
    kind.KIND: kind
    for kind in (
        PingRequest, RefineRequest, TextureRequest, EstimateRequest, ImportRequest, PreviewRequest,
        AlignRequest,
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
    "align": AlignResult,
}
"""What each kind of job gives."""
