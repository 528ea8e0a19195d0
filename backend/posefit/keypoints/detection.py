# SPDX-License-Identifier: Apache-2.0
"""One person's landmarks through footage: found once, followed, found again after a gap.

The evidence of the first estimate and of every refinement that uses keypoints. The networks are in
`blazepose`; what the landmarks mean on a body is the solver's knowledge.

Following: the last frame's landmarks say where to look in the next one. A frame in which they end
elsewhere than expected, or see nobody, looks for people again and takes the one nearest to where
the person was; somebody else is never taken over, that frame counts as not found. Last, the track
as a whole is mended: sides that traded places (`sides`), landmarks that leapt
(`steadiness`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from ..ahead import frames_ahead
from ..footage import Footage
from .blazepose import MIN_SCORE, BlazePose, Landmarks, Region, box_overlap
from .sides import mend_sides
from .steadiness import doubt_jumps
from .tracks import KEYPOINTS, MASK_SIDE, Keypoints, read_keypoints, write_keypoints

__all__ = [
    "KEYPOINTS",
    "Keypoints",
    "KeypointsCancelledError",
    "detect_keypoints",
    "read_keypoints",
    "write_keypoints",
]

MIN_CONFIDENCE = 0.3
"""Landmarks below this do not shape the person's box."""
BOX_MARGIN = 0.08
"""Share of the landmarks' extent added around them: they lie inside the body."""
SAME_PERSON_OVERLAP = 0.3
"""Least overlap of the boxes of one person in two neighbouring frames."""
STEADY_OVERLAP = 0.75
"""Least overlap of a region and the person found in it; below, they are looked at again."""
TILE_SHARE = 0.6
"""Side of the overlapping tiles in which small people are looked for, as a share of the picture."""
_NO_MASK = np.zeros((0, 0), np.float32)

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


class KeypointsCancelledError(RuntimeError):
    """The caller asked to stop."""


def detect_keypoints(
    footage: Footage,
    frame_indices: Sequence[int] | npt.NDArray[np.int64] | None = None,
    *,
    box_hint: npt.ArrayLike | None = None,
    person: int = 0,
    with_masks: bool = True,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Keypoints:
    """The landmarks of one person in chosen frames.

    Args:
        footage: where the frames come from.
        frame_indices: (T,) decoded frames, best in rising order; all of them by default.
        box_hint: (4,) or (T, 4) x0 y0 x1 y1 where the person is, source pixels (NaN: unknown);
            with it nobody else is looked at.
        person: without a hint, which person: 0 is the largest and most central one of the first
            frame that shows anybody.
        with_masks: also keep the person's mask, 16 kB a frame.
        progress: called with frames done and frames in all.
        cancelled: asked before each frame.

    Raises:
        FootageError: a frame cannot be decoded.
        DetectorError: the networks cannot be run.
        KeypointsCancelledError: `cancelled` said so.
    """
    indices = np.arange(len(footage)) if frame_indices is None else np.asarray(frame_indices)
    hints = _hints(box_hint, len(indices))
    follower = _Follower(BlazePose(), person)
    seen: list[Landmarks | None] = []
    masks = np.zeros((len(indices), MASK_SIDE, MASK_SIDE), np.uint8)
    boxes = np.zeros((len(indices), 4), np.float32)
    frame_bytes = 3 * footage.size[0] * footage.size[1]
    with frames_ahead(footage.read, indices, frame_bytes) as pictures:
        for k, image in enumerate(pictures):
            if cancelled is not None and cancelled():
                raise KeypointsCancelledError("looking for keypoints was cancelled")
            step = int(indices[k] - indices[k - 1]) if k else 1
            landmarks, region = follower.follow(image, hints[k], step)
            if landmarks is not None and region is not None and with_masks:
                masks[k], boxes[k] = _upright_mask(landmarks.mask, region)
            # A region's mask is 256 kB a frame: what is wanted of it lies in `masks`.
            seen.append(landmarks and replace(landmarks, mask=_NO_MASK))
            if progress is not None:
                progress(k + 1, len(indices))
    found = _gather(indices, seen, masks if with_masks else None, boxes if with_masks else None)
    return doubt_jumps(mend_sides(found), footage.times[found.frame_indices])


def _gather(
    indices: npt.NDArray[np.int64],
    seen: list[Landmarks | None],
    masks: npt.NDArray[np.uint8] | None,
    boxes: npt.NDArray[np.float32] | None,
) -> Keypoints:
    count = len(indices)
    pixels = np.zeros((count, KEYPOINTS, 2), np.float32)
    world = np.zeros((count, KEYPOINTS, 3), np.float32)
    confidence = np.zeros((count, KEYPOINTS), np.float32)
    person_box = np.zeros((count, 4), np.float32)
    for k, landmarks in enumerate(seen):
        if landmarks is not None:
            pixels[k], world[k] = landmarks.pixels, landmarks.world
            confidence[k], person_box[k] = landmarks.confidence, landmark_box(landmarks)
    return Keypoints(
        frame_indices=np.asarray(indices, np.int64),
        pixels=pixels,
        confidence=confidence,
        world=world,
        person_box=person_box,
        found=np.array([landmarks is not None for landmarks in seen], bool),
        masks=masks,
        mask_box=boxes,
    )


class _Follower:
    """Where the person was last, and how to find them again."""

    def __init__(self, networks: BlazePose, person: int) -> None:
        self._networks = networks
        self._person = person
        self._region: Region | None = None
        self._box: npt.NDArray[np.float64] | None = None
        self._missed = 0

    def follow(
        self, image: npt.NDArray[np.uint8], hint: npt.NDArray[np.float64] | None, step: int
    ) -> tuple[Landmarks | None, Region | None]:
        """The person's landmarks in the next picture and the region they were seen in."""
        expected = self._box if hint is None else hint
        region = self._region if abs(step) <= 2 and hint is None else None
        seen = self._look(image, region) if region is not None else None
        if seen is None or not self._is_expected(seen[0], expected):
            region = self._find(image, expected, hint)
            seen = self._look(image, region) if region is not None else None
            if seen is not None and not self._is_expected(seen[0], expected):
                seen = None
        if seen is None:
            self._region, self._missed = None, self._missed + max(abs(step), 1)
            return None, None
        self._region, self._missed = seen[0].next_region, 0
        self._box = landmark_box(seen[0])
        return seen

    def _look(
        self, image: npt.NDArray[np.uint8], region: Region
    ) -> tuple[Landmarks, Region] | None:
        """Landmarks in a region, looked at once more where the person turns out to be."""
        landmarks = self._networks.landmarks(image, region)
        if landmarks.score >= MIN_SCORE:
            better = landmarks.next_region
            if box_overlap(region.box, better.box) < STEADY_OVERLAP:
                again = self._networks.landmarks(image, better)
                if again.score >= MIN_SCORE:
                    return again, better
            return landmarks, region
        return None

    def _find(
        self,
        image: npt.NDArray[np.uint8],
        expected: npt.NDArray[np.float64] | None,
        hint: npt.NDArray[np.float64] | None,
    ) -> Region | None:
        """The region of the person in a whole picture, or in the part that a hint names."""
        people = self._networks.detect(image, hint)
        if expected is not None and hint is None:
            people += self._networks.detect(image, expected)
        wanted = self._person + 1 if expected is None else 1
        if len(people) < wanted and hint is None:
            people = distinct(
                people
                + [p for tile in tiles(image.shape) for p in self._networks.detect(image, tile)]
            )
        if not people:
            return None
        if expected is None:
            ranked = sorted(people, key=lambda region: -_prominence(region, image.shape))
            return ranked[self._person] if self._person < len(ranked) else None
        distance = [_distance(region.box, expected) for region in people]
        return people[int(np.argmin(distance))]

    def _is_expected(self, landmarks: Landmarks, expected: npt.NDArray[np.float64] | None) -> bool:
        """Whether this can be the person: near enough, also after the frames without them."""
        if expected is None:
            return True
        box = landmark_box(landmarks)
        if self._missed == 0:
            overlap = float(box_overlap(expected, box))
            return overlap > SAME_PERSON_OVERLAP or _distance(box, expected) < 0.35
        return _distance(box, expected) < min(0.5 + 0.05 * self._missed, 2.0)


def landmark_box(landmarks: Landmarks) -> npt.NDArray[np.float64]:
    """(4,) x0 y0 x1 y1 of the person: the certain landmarks and a margin around them."""
    certain = landmarks.confidence >= MIN_CONFIDENCE
    points = landmarks.pixels[certain] if certain.sum() >= 4 else landmarks.pixels
    low, high = points.min(axis=0), points.max(axis=0)
    margin = BOX_MARGIN * float((high - low).max())
    return np.concatenate([low - margin, high + margin])


def distinct(people: list[Region]) -> list[Region]:
    """The people without those found twice."""
    kept: list[Region] = []
    for region in people:
        if all(box_overlap(region.box, other.box) < SAME_PERSON_OVERLAP for other in kept):
            kept.append(region)
    return kept


def tiles(shape: tuple[int, ...]) -> list[npt.NDArray[np.float64]]:
    """Overlapping squares that cover a picture of this shape, for people too small for it whole."""
    height, width = shape[:2]
    side = TILE_SHARE * min(height, width)
    columns = max(int(np.ceil(width / side)), 1)
    rows = max(int(np.ceil(height / side)), 1)
    xs, ys = (
        np.linspace(0, max(width - side, 0), columns),
        np.linspace(0, max(height - side, 0), rows),
    )
    return [np.array([x, y, x + side, y + side]) for y in ys for x in xs]


def _prominence(region: Region, shape: tuple[int, ...]) -> float:
    """How likely this is the person a picture is of: large, and near its middle."""
    height, width = shape[:2]
    off = np.hypot(region.center[0] / width - 0.5, region.center[1] / height - 0.5)
    return region.side * float(1.0 - off)


def _distance(box: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    """Distance of two boxes' middles in lengths of the expected one, plus their size difference."""
    side = max(float((expected[2:] - expected[:2]).max()), 1.0)
    other = max(float((box[2:] - box[:2]).max()), 1.0)
    middle = (box[:2] + box[2:] - expected[:2] - expected[2:]) / 2
    return float(np.hypot(*middle)) / side + 0.5 * abs(float(np.log(other / side)))


def _hints(box_hint: npt.ArrayLike | None, count: int) -> list[npt.NDArray[np.float64] | None]:
    if box_hint is None:
        return [None] * count
    boxes = np.asarray(box_hint, np.float64)
    if boxes.shape not in ((4,), (count, 4)):
        raise ValueError(f"box_hint is {boxes.shape}, expected (4,) or ({count}, 4)")
    boxes = np.broadcast_to(boxes, (count, 4))
    return [box if np.isfinite(box).all() else None for box in boxes]


def _upright_mask(
    mask: npt.NDArray[np.float32], region: Region
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A region's mask on an upright square around it, and that square."""
    turn = abs(np.cos(region.angle)) + abs(np.sin(region.angle))
    side = region.side * turn
    x0, y0 = region.center[0] - side / 2, region.center[1] - side / 2
    to_source = np.vstack([region.to_source(mask.shape[0]), [0, 0, 1]])
    scale = side / MASK_SIDE
    upright = np.array([[scale, 0, x0], [0, scale, y0], [0, 0, 1]])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    affine = np.linalg.inv(half) @ np.linalg.inv(to_source) @ upright @ half
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    turned = cv2.warpAffine(mask, affine[:2], (MASK_SIDE, MASK_SIDE), flags=flags)
    box = np.array([x0, y0, x0 + side, y0 + side], np.float32)
    return (turned * 255).round().astype(np.uint8), box
