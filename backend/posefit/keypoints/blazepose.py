# SPDX-License-Identifier: Apache-2.0
"""The BlazePose networks: who is in a picture, and where that person's 33 landmarks are.

Runs the two networks of `assets/blazepose` with LiteRT on the CPU and decodes what they put out;
nothing is fetched and nothing is sent. Following one person over time is `keypoints`' work.

Points are in source pixels (centres at +0.5). A region is a square of the picture, turned so that
the person stands upright in it.

Source: Bazarevsky et al., BlazePose: On-device Real-time Body Pose Tracking, 2020, and MediaPipe's
    graphs pose_detection_cpu, pose_landmarks_tensors_to_landmarks and pose_detection_to_roi.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ..errors import PosefitError

__all__ = ["LANDMARK_NAMES", "BlazePose", "DetectorError", "Landmarks", "Region", "box_overlap"]

Array = npt.NDArray[np.float64]

MODEL_FILE = Path(__file__).parents[1] / "assets" / "blazepose" / "pose_landmarker_full.task"

# fmt: off
LANDMARK_NAMES = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
    "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel",
    "left_foot_index", "right_foot_index",
)
# fmt: on
"""BlazePose's landmarks in their order."""

DETECTOR_SIDE = 224
LANDMARK_SIDE = 256
REGION_SCALE = 1.25
"""How much larger than the person the region is, in both networks' training."""
REGION_MARGIN = 0.25
"""Share of a box's longer side that is added around it when people are looked for inside it."""
MIN_SCORE = 0.5
"""Detections and landmark sets below this are nobody."""
_ANCHOR_LAYERS = ((28, 2), (14, 2), (7, 6))
"""Cells a side and anchors a cell: strides 8, 16 and three times 32, two anchors each."""


class DetectorError(PosefitError):
    """The pose networks cannot be run on this machine; says what to install."""


@dataclass(frozen=True)
class Region:
    """A turned square of a picture."""

    center: tuple[float, float]
    """Source pixels."""
    side: float
    """Source pixels."""
    angle: float = 0.0
    """Radians from the picture's upright to the person's, clockwise as seen."""

    def to_source(self, size: int) -> Array:
        """(2, 3) affine map from the pixels of a `size` × `size` picture of the region."""
        scale = self.side / size
        cos, sin = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        half = size / 2
        return np.array(
            [
                [cos, -sin, self.center[0] - (cos - sin) * half],
                [sin, cos, self.center[1] - (sin + cos) * half],
            ]
        )

    @property
    def box(self) -> Array:
        """(4,) x0 y0 x1 y1 of a box of the person in it, upright."""
        half = self.side / 2 / REGION_SCALE
        x, y = self.center
        return np.array([x - half, y - half, x + half, y + half])


@dataclass(frozen=True)
class Landmarks:
    """What the landmark network saw in one region."""

    pixels: Array
    """(33, 2) source pixels."""
    confidence: Array
    """(33,) chance that the landmark is in the picture and not hidden."""
    world: Array
    """(33, 3) metres from the middle of the hips, OpenCV camera axes as if seen straight ahead."""
    score: float
    """0–1: is there a person in the region."""
    next_region: Region
    """Where to look for the same person in the next frame."""
    mask: npt.NDArray[np.float32]
    """(256, 256) 0–1, the person in the region."""


class BlazePose:
    """Both networks, loaded once; belongs to one thread."""

    def __init__(self, model: Path = MODEL_FILE, threads: int = 2) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise DetectorError(
                "the pose detector needs LiteRT, which is not installed: pip install ai-edge-litert"
            ) from error
        if not model.is_file():
            raise DetectorError(f"no pose networks at {model}: install posefit again")
        with zipfile.ZipFile(model) as task:
            self._detector, self._landmarker = (
                Interpreter(model_content=task.read(name), num_threads=threads)
                for name in ("pose_detector.tflite", "pose_landmarks_detector.tflite")
            )
        self._detector.allocate_tensors()
        self._landmarker.allocate_tensors()

    def detect(self, image: npt.NDArray[np.uint8], within: Array | None = None) -> list[Region]:
        """The people in a picture, most certain first.

        Args:
            image: (H, W, 3) RGB.
            within: (4,) x0 y0 x1 y1, look only here (and a little around), source pixels.

        Returns:
            A region for each person.
        """
        frame = _square_around(image.shape, within)
        pixels = sample_region(image, frame, DETECTOR_SIDE)
        boxes, scores = _run(self._detector, pixels * 2.0 - 1.0)
        found = decode_people(boxes[0], scores[0, :, 0])
        return [_person_region(person, frame) for person in found]

    def landmarks(self, image: npt.NDArray[np.uint8], region: Region) -> Landmarks:
        """The landmarks of the person in a region of a picture (H, W, 3) RGB."""
        pixels = sample_region(image, region, LANDMARK_SIDE)
        raw, score, mask, heat, world = _run(self._landmarker, pixels)
        raw = raw.reshape(-1, 5).astype(np.float64)
        raw[:, :2] = refine_from_heatmaps(raw[:, :2], heat[0])
        source = raw[:, :2] @ region.to_source(LANDMARK_SIDE)[:, :2].T
        source += region.to_source(LANDMARK_SIDE)[:, 2]
        return Landmarks(
            pixels=source[:33],
            confidence=(expit(raw[:, 3]) * expit(raw[:, 4]))[:33],
            world=_turn(world.reshape(-1, 3)[:33].astype(np.float64), region.angle),
            score=float(score[0, 0]),
            next_region=_region_from_points(source[33], source[34]),
            mask=expit(mask[0, :, :, 0]).astype(np.float32),
        )


def sample_region(
    image: npt.NDArray[np.uint8], region: Region, size: int
) -> npt.NDArray[np.float32]:
    """The region of a picture as (size, size, 3), 0–1; black outside the picture."""
    to_source = region.to_source(size)
    # OpenCV counts pixel centres from 0, regions count them from 0.5.
    to_source[:, 2] += to_source[:, :2].sum(axis=1) * 0.5 - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, to_source, (size, size), flags=flags).astype(np.float32) / 255.0


def decode_people(boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> list[Array]:
    """Detections after merging those that overlap.

    Args:
        boxes: (2254, 12) raw centre, size and four key points, detector pixels about the anchors.
        scores: (2254,) raw scores.

    Returns:
        For each person (6, 2): two box corners, hip middle, circle point and two of the upper body,
        in detector pixels; most certain first.
    """
    score = expit(np.clip(scores.astype(np.float64), -100, 100))
    chosen = np.flatnonzero(score >= MIN_SCORE)
    chosen = chosen[np.argsort(-score[chosen])]
    values = boxes[chosen].astype(np.float64).reshape(-1, 6, 2)
    points = np.empty_like(values)
    points[:, 2:] = values[:, 2:] + anchors()[chosen, None]
    center = values[:, 0] + anchors()[chosen]
    points[:, 0], points[:, 1] = center - values[:, 1] / 2, center + values[:, 1] / 2
    return _merge_overlapping(points, score[chosen])


def _merge_overlapping(points: Array, scores: Array, threshold: float = 0.3) -> list[Array]:
    """Weighted non-maximum suppression: overlapping detections become their weighted mean."""
    people = []
    left = np.arange(len(points))
    while len(left):
        overlap = box_overlap(points[left[0], :2].reshape(4), points[left, :2].reshape(-1, 4))
        same = left[overlap > threshold]
        same = same if len(same) else left[:1]
        people.append(np.average(points[same], axis=0, weights=scores[same]))
        left = np.setdiff1d(left, same, assume_unique=True)
        left = left[np.argsort(-scores[left], kind="stable")]
    return people


@cache
def anchors() -> Array:
    """(2254, 2) anchor centres, detector pixels."""
    layers = []
    for cells, per_cell in _ANCHOR_LAYERS:
        steps = (np.arange(cells) + 0.5) * (DETECTOR_SIDE / cells)
        grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        layers.append(np.repeat(grid, per_cell, axis=0))
    return np.concatenate(layers)


def refine_from_heatmaps(
    points: Array, heat: npt.NDArray[np.float32], kernel: int = 7, minimum: float = 0.5
) -> Array:
    """Points moved to the centre of mass of their heatmap around them, where that is certain.

    Args:
        points: (N, 2) landmark pixels in the 256² region.
        heat: (64, 64, N) raw heatmaps.
        kernel: cells a side of the neighbourhood.
        minimum: least certainty in it at which the point is moved.

    Source: MediaPipe's RefineLandmarksFromHeatmapCalculator.
    """
    cells = heat.shape[0]
    scale = LANDMARK_SIDE / cells
    refined = points.copy()
    reach = kernel // 2
    for k, (column, row) in enumerate((points / scale).astype(int)):
        if not (0 <= column < cells and 0 <= row < cells):
            continue
        rows = slice(max(row - reach, 0), min(row + reach + 1, cells))
        columns = slice(max(column - reach, 0), min(column + reach + 1, cells))
        weight = expit(heat[rows, columns, k].astype(np.float64))
        if weight.max() < minimum:
            continue
        y, x = np.mgrid[rows, columns]
        refined[k] = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum() * scale
    return refined


def box_overlap(box: npt.ArrayLike, boxes: npt.ArrayLike) -> Array:
    """Intersection over union of a box (4,) x0 y0 x1 y1 with boxes (…, 4)."""
    box, boxes = np.asarray(box, np.float64), np.asarray(boxes, np.float64)
    low = np.maximum(box[:2], boxes[..., :2])
    high = np.minimum(box[2:], boxes[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    area = np.prod(box[2:] - box[:2]) + np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
    return np.asarray(shared / np.maximum(area - shared, 1e-9))


def _square_around(shape: tuple[int, ...], within: Array | None) -> Region:
    height, width = shape[:2]
    if within is None:
        return Region((width / 2, height / 2), float(max(width, height)))
    x0, y0, x1, y1 = (float(v) for v in within)
    side = max(x1 - x0, y1 - y0, 1.0) * (1 + 2 * REGION_MARGIN)
    return Region(((x0 + x1) / 2, (y0 + y1) / 2), side)


def _person_region(points: Array, frame: Region) -> Region:
    affine = frame.to_source(DETECTOR_SIDE)
    source = points @ affine[:, :2].T + affine[:, 2]
    return _region_from_points(source[2], source[3])


def _region_from_points(middle: Array, circle: Array) -> Region:
    """The region of a person from the hips' middle and a point on the circle around the body."""
    across = circle - middle
    return Region(
        center=(float(middle[0]), float(middle[1])),
        side=max(2.0 * REGION_SCALE * float(np.hypot(*across)), 1.0),
        angle=math.remainder(math.pi / 2 - math.atan2(-across[1], across[0]), 2 * math.pi),
    )


def _turn(points: Array, angle: float) -> Array:
    cos, sin = math.cos(angle), math.sin(angle)
    turned = points.copy()
    turned[:, 0] = cos * points[:, 0] - sin * points[:, 1]
    turned[:, 1] = sin * points[:, 0] + cos * points[:, 1]
    return turned


def _run(network: Any, pixels: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """The network's outputs, in the order of their numbers, for one picture (side, side, 3)."""
    network.set_tensor(network.get_input_details()[0]["index"], pixels[None].astype(np.float32))
    network.invoke()
    outputs = sorted(network.get_output_details(), key=lambda detail: detail["name"])
    return [network.get_tensor(detail["index"]) for detail in outputs]
