# SPDX-License-Identifier: Apache-2.0
"""The part of each frame that matters to one person, decoded once and kept for all rounds.

Frames are cut out generously around the first estimate, so that memory follows the person's size
and the window's length, not the footage's resolution or the clip's length. A thread decodes the
next window's frames while this one's are worked on (`PicturesAhead`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from posefit_shared import frames as coordinate_frames
from posefit_shared.frames import Camera

from .ahead import frames_ahead
from .body import BodyModel, PoseParameters, pose_body
from .crop import square_boxes
from .views import View

__all__ = ["Picture", "PicturesAhead", "body_boxes", "load_pictures", "project_points"]

_POSED_AT_ONCE = 64
_GENEROUS = 2.0
"""Side of a cut-out by the side of the body's bounds: rounds may move the body by half of it."""


@dataclass(frozen=True)
class Picture:
    """A cut-out of one frame and the camera that sees just that."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3) RGB."""
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
    dtype = vertices.dtype
    world_to_camera = torch.tensor(np.stack([c.world_to_camera for c in cameras]), dtype=dtype)
    intrinsics = torch.tensor(np.stack([c.intrinsics for c in cameras]), dtype=dtype)
    pixels = project_points(vertices.cpu(), world_to_camera, intrinsics).double().numpy()
    sizes = np.array([camera.image_size for camera in cameras], np.float64)[:, None]
    low, high = -0.25 * sizes, 1.25 * sizes
    inside = ((pixels >= 0) & (pixels <= sizes)).all(-1).any(-1)
    near = ((pixels >= low) & (pixels <= high)).all(-1, keepdims=True)
    boxes = square_boxes(np.where(near, pixels, np.nan), margin=margin)
    boxes[~inside] = np.nan
    return boxes


def load_pictures(
    view: View, frames: Sequence[int], vertices: Float[Tensor, "batch vertex 3"]
) -> list[Picture | None]:
    """Decode frames and cut the person out.

    Args:
        view: where the pictures come from.
        frames: frames of the sequence, in order of time.
        vertices: first estimate in those frames, world, metres.

    Returns:
        A picture for each frame; None where this camera has no picture or shows no part of the
        body.

    Raises:
        FootageError: a frame cannot be decoded.
    """
    boxes = body_boxes(vertices, [view.camera(frame) for frame in frames], margin=_GENEROUS)
    return [_picture(view, frame, box) for frame, box in zip(frames, boxes, strict=True)]


class PicturesAhead:
    """The pictures of a clip's windows, each frame decoded once, in a thread, before it is needed.

    As long as the block lasts nobody else may read the views' footage.

    Args:
        views: where the pictures come from.
        body: whom the estimates pose.
        parameters: first estimate in all frames.
        waiting: called now and then while a picture is not there yet; may raise to stop.
    """

    def __init__(
        self,
        views: Sequence[View],
        body: BodyModel,
        parameters: PoseParameters,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._exit = ExitStack()
        self._kept: list[dict[int, Picture | None]] = [{} for _ in views]
        self._rows = []
        with ExitStack() as opened:
            for view in views:
                boxes = _boxes_of_clip(view, body, parameters)
                rows = frames_ahead(
                    lambda frame, view=view, boxes=boxes: _picture(view, frame, boxes[frame]),
                    range(len(boxes)), _bytes_of(view, boxes), waiting,
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
        taken = []
        for k, rows in enumerate(self._rows):
            kept = {frame: one for frame, one in self._kept[k].items() if frame >= frames[0]}
            following = max(self._kept[k], default=-1) + 1
            for frame in range(following, frames[-1] + 1):
                kept[frame] = next(rows)
            self._kept[k] = kept
            taken.append([kept[frame] for frame in frames])
        return taken


def _boxes_of_clip(
    view: View, body: BodyModel, parameters: PoseParameters
) -> npt.NDArray[np.float64]:
    """(T, 3) generous boxes; NaN where the body cannot be seen."""
    parts = []
    for first in range(0, len(parameters), _POSED_AT_ONCE):
        vertices = pose_body(body, parameters[first : first + _POSED_AT_ONCE]).vertices
        cameras = [view.camera(first + k) for k in range(len(vertices))]
        parts.append(body_boxes(vertices, cameras, margin=_GENEROUS))
    return np.concatenate(parts)


def _bytes_of(view: View, boxes: npt.NDArray[np.float64]) -> int:
    """Of the largest cut-out."""
    sides = boxes[np.isfinite(boxes[:, 2]), 2]
    width, height = (np.minimum(sides, size).max(initial=1.0) for size in view.footage.size)
    return int(3 * width * height)


def _picture(view: View, frame: int, box: npt.NDArray[np.float64]) -> Picture | None:
    if not view.has_picture(frame) or not np.isfinite(box).all():
        return None
    return _cut_out(view.footage.read(int(view.frame_indices[frame])), box, view.camera(frame))


def _cut_out(
    image: npt.NDArray[np.uint8], box: npt.NDArray[np.float64], camera: Camera
) -> Picture | None:
    """The box's part of the picture; the box is in undistorted, the picture in distorted pixels."""
    half = box[2] / 2
    edge = np.linspace(-half, half, 9)
    ring = np.concatenate(
        [np.stack([edge, 0 * edge + side], -1) for side in (-half, half)]
        + [np.stack([0 * edge + side, edge], -1) for side in (-half, half)]
    )
    k = camera.intrinsics
    ideal = (ring + box[:2] - k[:2, 2]) @ np.linalg.inv(k[:2, :2]).T
    bent = coordinate_frames.distort_points(camera.distortion, ideal) @ k[:2, :2].T + k[:2, 2]
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(bent.min(0)).astype(int), 0, (width, height))
    x1, y1 = np.clip(np.ceil(bent.max(0)).astype(int), 0, (width, height))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    moved = k.copy()
    moved[:2, 2] -= (x0, y0)
    size = (int(x1 - x0), int(y1 - y0))
    cut = np.ascontiguousarray(image[y0:y1, x0:x1])
    return Picture(cut, Camera(moved, camera.world_to_camera, size, camera.distortion))
