# SPDX-License-Identifier: Apache-2.0
"""DensePose's IUV maps as evidence: which surface point each pixel shows.

Pixels hold a part (0 nobody, 1 to 24) and u, v in that part's chart; `surface_charts` says which
place on the body that is. Formats: docs/evidence.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared import frames as coordinate_frames
from posefit_shared.damaged_files import DAMAGED_ARRAYS
from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence

from ..body import BodyModel, pose_body
from ..parameters import parameters_of_sequence
from ..picture_files import read_picture
from ..solver import FacePoints
from ..views import View
from .errors import EvidenceError
from .frame_files import FrameNames, files_by_frame
from .surface_charts import PARTS, ChartFinder, SurfaceCharts

__all__ = ["IuvMaps", "dense_evidence", "read_iuv"]

logger = logging.getLogger(__name__)

MAX_POINTS = 400
"""Pixels a frame that go to the solver: neighbours err together."""
_SIGMA = 0.015
"""σ of a correspondence, as a share of the person's length in the picture."""
_FAR = 0.35
"""Pixels whose surface point the current body has further away, in lengths of the person, are
taken for somebody else's."""
_MAX_UV_OFF = 0.05
"""Coordinates further from any surface point of their part are dropped."""
_BOX_MARGIN = 1.4


@dataclass(frozen=True)
class IuvMaps:
    """The IUV files of one footage."""

    files: dict[int, Path]
    """By decoded frame."""

    @classmethod
    def of(cls, folder: Path, names: FrameNames) -> IuvMaps:
        """The maps in a folder of `.png` or `.npz`, one a frame.

        Raises:
            EvidenceError: there are none.
        """
        stripped = "_IUV" if any(folder.glob("*_IUV.*")) else ""
        return cls(files_by_frame(folder, (".png", ".npz"), names, stripped))


def read_iuv(path: Path, image_size: tuple[int, int]) -> tuple[npt.NDArray, npt.NDArray]:
    """One map: part (H, W) and uv (H, W, 2) 0 to 1.

    Args:
        path: PNG with I, U, V as channels (in either order: the one whose values end at 24 is I),
            or npz with `iuv` (H, W, 3) or Detectron2's `labels`, `uv` (2, h, w) and `box`.
        image_size: width and height expected, pixels.

    Raises:
        EvidenceError: it is none, or of another size.
    """
    try:
        part, uv = _from_npz(path, image_size) if path.suffix == ".npz" else _from_png(path)
    except DAMAGED_ARRAYS as error:
        raise EvidenceError(f"{path.name} is no IUV map ({error}): make it again") from error
    width, height = image_size
    if part.shape != (height, width):
        raise EvidenceError(
            f"{path.name} is {part.shape[1]} × {part.shape[0]}, the footage {width} × {height}: "
            "make the maps from the footage's own frames"
        )
    return part, uv


def _from_png(path: Path) -> tuple[npt.NDArray, npt.NDArray]:
    pixels = read_picture(path, lambda image: np.asarray(image.convert("RGB")))
    # OpenCV writes its first channel, DensePose's I, as blue.
    iuv = pixels[..., ::-1] if pixels[..., 2].max() <= PARTS else pixels
    if iuv[..., 0].max() > PARTS:
        raise ValueError(f"no channel holds parts from 0 to {PARTS}")
    return iuv[..., 0].astype(np.int64), iuv[..., 1:] / 255.0


def _from_npz(path: Path, image_size: tuple[int, int]) -> tuple[npt.NDArray, npt.NDArray]:
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    if "iuv" in arrays:
        iuv = arrays["iuv"]
        scale = 255.0 if iuv.dtype == np.uint8 else 1.0
        return iuv[..., 0].astype(np.int64), iuv[..., 1:].astype(np.float64) / scale
    labels, uv = arrays["labels"].astype(np.int64), arrays["uv"].astype(np.float64)
    x, y = (int(round(float(v))) for v in arrays["box"][:2])
    width, height = image_size
    part, whole = np.zeros((height, width), np.int64), np.zeros((height, width, 2))
    rows, columns = slice(max(y, 0), y + labels.shape[0]), slice(max(x, 0), x + labels.shape[1])
    target = part[rows, columns].shape
    cut = (slice(max(-y, 0), max(-y, 0) + target[0]), slice(max(-x, 0), max(-x, 0) + target[1]))
    part[rows, columns] = labels[cut]
    whole[rows, columns] = np.moveaxis(uv, 0, -1)[cut]
    return part, whole


def dense_evidence(
    maps: IuvMaps, charts: SurfaceCharts, sequence: Sequence, view: View, body: BodyModel
) -> FacePoints:
    """What the maps of a view say of the sequence's person.

    Args:
        maps: by decoded frame of the view's footage.
        charts: the mapping, of this body.
        sequence: where the person is thought to be: it tells them from others.
        view: its camera and frames.
        body: the model that the sequence poses.

    Raises:
        EvidenceError: a map is broken, the mapping is another body's, or nothing was found.
    """
    charts.check_body(body)
    finder = charts.finder()
    frames = len(sequence)
    corners = np.zeros((frames, MAX_POINTS, 3), np.int64)
    shares = np.zeros((frames, MAX_POINTS, 3))
    targets = np.zeros((frames, MAX_POINTS, 2))
    weights = np.zeros((frames, MAX_POINTS))
    scales = np.ones((frames, MAX_POINTS))
    parameters = parameters_of_sequence(sequence, body)
    for t in range(frames):
        path = maps.files.get(int(view.frame_indices[t])) if view.has_picture(t) else None
        if path is None:
            continue
        vertices = pose_body(body, parameters[t : t + 1]).vertices[0].double().cpu().numpy()
        camera = view.camera(t)
        part, uv = read_iuv(path, camera.image_size)
        points = _points_of(part, uv, vertices, camera, finder)
        n = len(points.weights)
        corners[t, :n], shares[t, :n], targets[t, :n] = points.corners, points.shares, points.pixels
        weights[t, :n], scales[t] = points.weights, max(_SIGMA * points.length, 1.0)
    if not weights.any():
        raise EvidenceError(
            f"no IUV map of {view.name!r} shows the person of the sequence: check that maps, "
            "footage and sequence belong together"
        )
    logger.info("IUV maps in %d of %d frames of %s", int(weights.any(1).sum()), frames, view.name)
    cameras = [view.camera(t) for t in range(frames)]

    def tensor(values: npt.NDArray[np.floating]) -> torch.Tensor:
        return torch.tensor(values, dtype=body.dtype, device=body.device)

    return FacePoints(
        corners=torch.tensor(corners, device=body.device),
        shares=tensor(shares),
        targets=tensor(targets),
        weights=tensor(weights),
        scales=tensor(scales),
        intrinsics=tensor(np.stack([camera.intrinsics for camera in cameras])),
        world_to_camera=tensor(np.stack([camera.world_to_camera for camera in cameras])),
    )


@dataclass(frozen=True)
class _FramePoints:
    corners: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    length: float


def _points_of(
    part: npt.NDArray, uv: npt.NDArray, vertices: npt.NDArray, camera: Camera, finder: ChartFinder
) -> _FramePoints:
    """Evenly chosen pixels of the person with their places on the surface."""
    shown, depth = coordinate_frames.project(camera, vertices)
    low, high = shown[depth > 0.05].min(0), shown[depth > 0.05].max(0)
    length = float((high - low).max())
    middle, half = (low + high) / 2, _BOX_MARGIN * length / 2
    rows, columns = np.nonzero(part)
    pixels = np.stack([columns, rows], -1) + 0.5
    near = (np.abs(pixels - middle) < half).all(-1)
    rows, columns, pixels = rows[near], columns[near], pixels[near]
    corners, shares, off = finder.find(part[rows, columns], uv[rows, columns])
    at = np.einsum("nkc,nk->nc", shown[corners], shares)
    usable = (off < _MAX_UV_OFF) & (np.linalg.norm(at - pixels, axis=1) < _FAR * length)
    chosen = np.flatnonzero(usable)
    if len(chosen) > MAX_POINTS:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MAX_POINTS).round().astype(int)]
    ideal = coordinate_frames.undistort_points(camera, pixels[chosen])
    return _FramePoints(corners[chosen], shares[chosen], ideal, np.ones(len(chosen)), length)
