# SPDX-License-Identifier: Apache-2.0
"""The part of each frame that matters to one person, decoded once and kept for all rounds.

Frames are cut out generously around the first estimate, so that memory follows the person's size
and the window's length, not the footage's resolution or the clip's length. A thread decodes the
next window's frames while this one's are worked on (`PicturesAhead`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from posefit_shared import frames as coordinate_frames
from posefit_shared.frames import Camera

from ..ahead import Ahead, frames_ahead
from ..body import BodyModel, PoseParameters, pose_body
from ..crop import boxes_around
from ..gpu.graphs import replayed
from ..gpu.memory import usable_memory
from ..gpu.upload import page_locked, upload
from ..views import View

__all__ = [
    "Picture", "PicturesAhead", "body_boxes", "boxes_of_clip", "keep_pictures", "load_pictures",
    "project_points",
]  # fmt: skip

_POSED_AT_ONCE = 64
_GPU_ROOM = 4
"""A GPU takes a window's frames at once and is soon done with them: so much more lies ready."""
_GENEROUS = 2.0
"""Side of a cut-out by the side of the body's bounds: rounds may move the body by half of it."""
_MEMORY_SHARE = 16
"""One part in so many of a GPU's memory is for the pictures of a window."""
_EDGE = np.linspace(-1.0, 1.0, 9)
_RING = np.concatenate(
    [np.stack([_EDGE, 0 * _EDGE + side], -1) for side in (-1.0, 1.0)]
    + [np.stack([0 * _EDGE + side, _EDGE], -1) for side in (-1.0, 1.0)]
)
"""Points along the edges of a square from −1 to 1."""


@dataclass(frozen=True)
class Picture:
    """A cut-out of one frame and the camera that sees just that."""

    image: npt.NDArray[np.uint8] | Tensor
    """(H, W, 3) RGB, uint8; a tensor where it is kept on a GPU."""
    camera: Camera
    """The source's camera with its principal point moved to the cut-out."""


def project_points(
    points: Float[Tensor, "batch point 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
    intrinsics: Float[Tensor, "batch 3 3"],
) -> Float[Tensor, "batch point 2"]:
    """Pixels of world points in pinhole cameras; NaN for points behind them.

    Args:
        points: metres.
        world_to_camera: OpenCV.
        intrinsics: pixels.
    """
    in_camera = (
        points @ world_to_camera[:, :3, :3].transpose(1, 2) + world_to_camera[:, None, :3, 3]
    )
    seen = in_camera @ intrinsics.transpose(1, 2)
    depth = seen[..., 2:]
    return torch.where(depth > 1e-3, seen[..., :2] / depth.clamp_min(1e-3), torch.nan)


def body_boxes(
    vertices: Float[Tensor, "batch vertex 3"], cameras: Sequence[Camera], *, margin: float
) -> npt.NDArray[np.float64]:
    """Square boxes (B, 3) around posed bodies in undistorted source pixels, kept near the picture.

    A body that is partly outside is cropped to the part that can be seen: what lies further out
    than a quarter of the picture does not count. NaN where nothing of it can be seen.

    Args:
        vertices: world frame, metres.
        cameras: of each frame.
        margin: as for `square_boxes`.
    """
    packed = np.concatenate(
        [
            np.stack([camera.world_to_camera for camera in cameras]).reshape(-1, 16),
            np.stack([camera.intrinsics for camera in cameras]).reshape(-1, 9),
            np.array([camera.image_size for camera in cameras]),
        ],
        axis=1,
    )
    # Bounds are found where the vertices are: they alone cross over, once.
    matrices = upload(packed, vertices.device).to(vertices.dtype)
    bounds = replayed(_seen_bounds, vertices, matrices).cpu().numpy()
    return boxes_around(bounds[:, :2], bounds[:, 2:], margin=margin)


def _seen_bounds(
    vertices: Float[Tensor, "batch vertex 3"], cameras: Float[Tensor, "batch 27"]
) -> Float64[Tensor, "batch 4"]:
    """Left, top, right, bottom of what can be seen, pixels; NaN where nothing can."""
    world_to_camera, intrinsics, size = cameras.split((16, 9, 2), dim=1)
    pixels = project_points(
        vertices, world_to_camera.reshape(-1, 4, 4), intrinsics.reshape(-1, 3, 3)
    )
    size = size[:, None]
    inside = ((pixels >= 0) & (pixels <= size)).all(-1).any(1)[:, None]
    near = ((pixels >= -0.25 * size) & (pixels <= 1.25 * size)).all(-1, keepdim=True)
    low = torch.where(near, pixels, torch.inf).amin(1)
    high = torch.where(near, pixels, -torch.inf).amax(1)
    return torch.where(inside, torch.cat([low, high], 1), torch.nan).double()


def load_pictures(
    view: View, frames: Sequence[int], vertices: Float[Tensor, "batch vertex 3"]
) -> list[Picture | None]:
    """Decode frames and cut the person out.

    Args:
        view: where the pictures come from.
        frames: frames of the sequence, in order of time.
        vertices: first estimate in those frames, world, metres.

    Returns:
        A picture for each frame, kept on the vertices' device as `keep_pictures` does; None where
        this camera has no picture or shows no part of the body.

    Raises:
        FootageError: a frame cannot be decoded.
    """
    boxes = body_boxes(vertices, [view.camera(frame) for frame in frames], margin=_GENEROUS)
    cut_out = (
        _picture(view, box, frame, _decoded(view, box, frame))
        for frame, box in zip(frames, boxes, strict=True)
    )
    return keep_pictures(cut_out, vertices.device)


def keep_pictures(
    pictures: Iterable[Picture | None], device: torch.device | str
) -> list[Picture | None]:
    """The same pictures in memory of their own: on a GPU, which is not waited for, as many as fit.

    Args:
        pictures: views of larger ones, maybe; kept already, maybe.
        device: that looks at them.
    """
    device = torch.device(device)
    room = _room(device)
    kept: list[Picture | None] = []
    for picture in pictures:
        if picture is not None:
            room -= picture.image.nbytes
            picture = _kept(picture, device if room >= 0 else None)
        kept.append(picture)
    return kept


def _kept(picture: Picture, device: torch.device | None) -> Picture:
    if isinstance(picture.image, Tensor):
        lies_there = device is None or picture.image.device == device
        image = picture.image if lies_there else picture.image.to(device, non_blocking=True)
        return replace(picture, image=image)
    if device is not None:
        return replace(picture, image=upload(picture.image, device))
    if picture.image.base is None:
        return picture
    return replace(picture, image=picture.image.copy())


def _room(device: torch.device) -> int:
    """Bytes of pictures that may be kept there at once."""
    if device.type != "cuda":
        return 0
    return usable_memory(device) // _MEMORY_SHARE


class PicturesAhead:
    """The pictures of a clip's windows, each frame decoded once, in a thread, before it is needed.

    As long as the block lasts nobody else may read the views' footage.

    Args:
        views: where the pictures come from.
        boxes: for each view, from `boxes_of_clip`.
        device: that looks at them.
        waiting: called now and then while a picture is not there yet; may raise to stop.
        frames: that will be taken, rising; all of them unless given.
        in_two: decoding in one thread, the rest in another: by default for a GPU, which may want
            more frames than one thread can make, on a machine that has cores for both.
    """

    def __init__(
        self,
        views: Sequence[View],
        boxes: Sequence[npt.NDArray[np.float64]],
        device: torch.device,
        waiting: Callable[[], None] = lambda: None,
        frames: Sequence[int] | None = None,
        *,
        in_two: bool | None = None,
    ) -> None:
        self._exit = ExitStack()
        self._device = device
        self._frames = range(len(boxes[0])) if frames is None else frames
        self._next = 0
        self._kept: list[dict[int, Picture | None]] = [{} for _ in views]
        self._rows = []
        with ExitStack() as opened:
            for view, of_view in zip(views, boxes, strict=True):
                decoded = lambda frame, view=view, of_view=of_view: _decoded(  # noqa: E731
                    view, of_view[frame], frame
                )
                if device.type == "cuda" if in_two is None else in_two:
                    raw = opened.enter_context(
                        Ahead(lambda k, take=decoded: take(self._frames[k]), len(self._frames), 4)
                    )
                    decoded = lambda frame, raw=raw: next(raw)  # noqa: E731  # in their order
                rows = frames_ahead(
                    partial(_owned, view, of_view, device, decoded),
                    self._frames, _bytes_of(view, of_view), waiting,
                    room=_GPU_ROOM if device.type == "cuda" else 1,
                )  # fmt: skip
                self._rows.append(opened.enter_context(rows))
            self._exit = opened.pop_all()

    def __enter__(self) -> PicturesAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def take(self, frames: Sequence[int]) -> list[list[Picture | None]]:
        """For each view the pictures of a window; None as in `load_pictures`.

        Args:
            frames: of the sequence, rising; no window begins before the one taken last.

        Raises:
            FootageError: a frame cannot be decoded.
        """
        taken, first = [], self._next
        while self._next < len(self._frames) and self._frames[self._next] <= frames[-1]:
            self._next += 1
        for k, rows in enumerate(self._rows):
            kept = {frame: one for frame, one in self._kept[k].items() if frame >= frames[0]}
            for frame in self._frames[first : self._next]:
                kept[frame] = next(rows)
            # Here and not in the thread, which knows nothing of this one's CUDA stream.
            kept = dict(zip(kept, keep_pictures(kept.values(), self._device), strict=True))
            self._kept[k] = kept
            taken.append([kept[frame] for frame in frames])
        return taken


def boxes_of_clip(
    views: Sequence[View], body: BodyModel, parameters: PoseParameters
) -> list[npt.NDArray[np.float64]]:
    """For each view (T, 3) generous boxes around the bodies; NaN where they cannot be seen.

    Args:
        views: who sees them.
        body: whom the parameters pose.
        parameters: one row a frame of the clip.
    """
    parts: list[list[npt.NDArray[np.float64]]] = [[] for _ in views]
    for first in range(0, len(parameters), _POSED_AT_ONCE):
        vertices = pose_body(body, parameters[first : first + _POSED_AT_ONCE]).vertices
        for view, boxes in zip(views, parts, strict=True):
            cameras = [view.camera(first + k) for k in range(len(vertices))]
            boxes.append(body_boxes(vertices, cameras, margin=_GENEROUS))
    return [np.concatenate(boxes) for boxes in parts]


def _bytes_of(view: View, boxes: npt.NDArray[np.float64]) -> int:
    """Of the largest cut-out."""
    sides = boxes[np.isfinite(boxes[:, 2]), 2]
    width, height = (np.minimum(sides, size).max(initial=1.0) for size in view.footage.size)
    return int(3 * width * height)


def _decoded(view: View, box: npt.NDArray[np.float64], frame: int) -> Any:
    """A frame as its decoder has it; None where nobody looks at it."""
    if not view.has_picture(frame) or not np.isfinite(box).all():
        return None
    return view.footage.decoded(int(view.frame_indices[frame]))


def _picture(view: View, box: npt.NDArray[np.float64], frame: int, decoded: Any) -> Picture | None:
    """What `_decoded` gave, cut out."""
    if decoded is None:
        return None
    image = view.footage.shown(decoded, int(view.frame_indices[frame]))
    return _cut_out(image, box, view.camera(frame))


def _owned(
    view: View,
    boxes: npt.NDArray[np.float64],
    device: torch.device,
    decoded: Callable[[int], Any],
    frame: int,
) -> Picture | None:
    """`_picture` without the frame that it was cut out of, in memory that a GPU can read."""
    picture = _picture(view, boxes[frame], frame, decoded(frame))
    if picture is None or device.type != "cuda":
        return keep_pictures([picture], "cpu")[0]
    return replace(picture, image=page_locked(np.asarray(picture.image)))


def _cut_out(
    image: npt.NDArray[np.uint8], box: npt.NDArray[np.float64], camera: Camera
) -> Picture | None:
    """The box's part of the picture, a view of it; the box is in undistorted pixels, the picture in
    distorted ones."""
    k, around = camera.intrinsics, _RING * (box[2] / 2) + box[:2]
    bent = around
    if camera.distortion.any():
        ideal = (around - k[:2, 2]) @ np.linalg.inv(k[:2, :2]).T
        bent = coordinate_frames.distort_points(camera.distortion, ideal) @ k[:2, :2].T + k[:2, 2]
    height, width = image.shape[:2]
    if not np.isfinite(bent).all():
        return None  # a lens that no picture was taken with
    x0, y0 = np.clip(np.floor(bent.min(0)), 0, (width, height)).astype(int)
    x1, y1 = np.clip(np.ceil(bent.max(0)), 0, (width, height)).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    size = (int(x1 - x0), int(y1 - y0))
    return Picture(image[y0:y1, x0:x1], camera.cut(int(x0), int(y0), size))
