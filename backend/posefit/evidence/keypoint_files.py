# SPDX-License-Identifier: Apache-2.0
"""Keypoint files of OpenPose, COCO and MediaPipe: every person of every frame, as they stand there.

Who of them is the person of a sequence is `person_choice`'s question. Formats: docs/evidence.md.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from posefit_shared.damaged_files import DAMAGED_ARRAYS

from ..solver import BLAZEPOSE, COCO_17, LandmarkTable
from .errors import EvidenceError
from .frame_files import FrameNames, files_by_frame
from .keypoint_layouts import BY_POINT_COUNT, FACE_POINTS, HAND_POINTS, openpose_table

__all__ = ["FoundPeople", "read_keypoint_files"]

_MAX_BYTES = 1 << 30
_NORMALISED_LIMIT = 4.0
"""MediaPipe coordinates below this are shares of the picture's sides: no person is 4 pixels big."""
_MEDIAPIPE_POINTS = 33
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FoundPeople:
    """What a detector found in some footage."""

    table: LandmarkTable
    """What its points are on a body."""
    people: dict[int, Array]
    """(people, landmark, 3) x and y in source pixels and confidence, by decoded frame; frames
    that the files do not name are not there."""


def read_keypoint_files(path: Path, names: FrameNames, image_size: tuple[int, int]) -> FoundPeople:
    """The people in a keypoint file or folder; its kind is seen from what it holds.

    Args:
        path: a folder of OpenPose's `…_keypoints.json`, one such file, a COCO results or annotation
            file, or MediaPipe landmarks as JSON, CSV or npz.
        names: of the footage's frames.
        image_size: width and height of the footage, for coordinates that are shares of it.

    Raises:
        EvidenceError: nothing there can be read as keypoints.
    """
    if path.is_dir():
        return _openpose(files_by_frame(path, (".json",), names, "_keypoints"))
    if not path.is_file():
        raise EvidenceError(f"no keypoint file at {path}: check the path")
    if path.stat().st_size > _MAX_BYTES:
        raise EvidenceError(f"{path.name} is larger than {_MAX_BYTES >> 30} GiB: split it")
    if path.suffix.lower() == ".npz":
        return _mediapipe(_from_npz(path), image_size, path)
    if path.suffix.lower() == ".csv":
        return _mediapipe(_from_csv(path), image_size, path)
    data = _json(path)
    if isinstance(data, dict) and "people" in data:
        return _openpose(files_by_frame(path, (".json",), names, "_keypoints"))
    entries = data.get("annotations", []) if isinstance(data, dict) else data
    if isinstance(entries, list) and any("image_id" in e for e in entries if isinstance(e, dict)):
        return _coco(data, names, path)
    return _mediapipe(_from_json(data, path), image_size, path)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise EvidenceError(f"{path.name} is no JSON ({error}): write it again") from error


def _openpose(files: dict[int, Path]) -> FoundPeople:
    """OpenPose's output folder: a file a frame."""
    people: dict[int, list[Array]] = {}
    counts = set()
    for frame, path in files.items():
        data = _json(path)
        entries = data.get("people") if isinstance(data, dict) else None
        if not isinstance(entries, list):
            raise EvidenceError(f"{path.name} lists no people: expected OpenPose's keypoint file")
        people[frame] = [_openpose_person(entry, path) for entry in entries]
        counts |= {len(person) for person in people[frame]}
    extra = 2 * HAND_POINTS + len(FACE_POINTS)
    if not counts:
        raise EvidenceError("the OpenPose files name no person in any frame: check the footage")
    if len(counts) > 1 or counts.pop() - extra not in BY_POINT_COUNT:
        raise EvidenceError(
            "the OpenPose files are of another body model, expected BODY_25 or COCO (18) "
            "throughout: run it again with --model_pose BODY_25"
        )
    points = next(len(p) for found in people.values() for p in found)
    table = openpose_table(BY_POINT_COUNT[points - extra])
    return FoundPeople(table, {frame: _stack(found, points) for frame, found in people.items()})


def _openpose_person(entry: Any, path: Path) -> Array:
    """(landmark, 3) of body, hands and face; parts that the file lacks have confidence 0."""

    def part(key: str, points: int | None) -> Array:
        values = entry.get(key) or [] if isinstance(entry, dict) else []
        array = _numbers(values, path)
        if points is not None and array.size != 3 * points:
            return np.zeros((points, 3))
        return array.reshape(-1, 3) if array.size % 3 == 0 else np.zeros((0, 3))

    face = part("face_keypoints_2d", 70)[list(FACE_POINTS)]
    hands = [part(f"hand_{side}_keypoints_2d", HAND_POINTS) for side in ("left", "right")]
    return np.concatenate([part("pose_keypoints_2d", None), *hands, face])


def _coco(data: Any, names: FrameNames, path: Path) -> FoundPeople:
    """COCO results (a list of detections) or annotations (with images, visibility as flags)."""
    is_annotation = isinstance(data, dict)
    entries = data["annotations"] if is_annotation else data
    by_id = {}
    if is_annotation:
        for image in data.get("images", []):
            by_id[image.get("id")] = names.index(str(image.get("file_name", "")))
    people: dict[int, list[Array]] = defaultdict(list)
    for entry in entries:
        if not isinstance(entry, dict) or "keypoints" not in entry:
            continue
        points = _numbers(entry["keypoints"], path)
        if points.size != 51:
            raise EvidenceError(
                f"{path.name} holds a person of {points.size // 3} keypoints, expected COCO's 17"
            )
        image = entry.get("image_id")
        frame = by_id.get(image, names.index(image) if isinstance(image, int | str) else None)
        if frame is None:
            raise EvidenceError(
                f"{path.name}: image_id {image!r} names no frame of the footage: use frame numbers "
                "or the images' file names"
            )
        person = points.reshape(17, 3)
        if is_annotation:  # 0 not labelled, 1 hidden, 2 seen
            person[:, 2] = person[:, 2] / 2.0
        people[frame].append(person)
    if not people:
        raise EvidenceError(f"{path.name} holds no keypoints: expected COCO results of keypoints")
    return FoundPeople(COCO_17, {frame: _stack(found, 17) for frame, found in people.items()})


def _mediapipe(people: dict[int, Array], image_size: tuple[int, int], path: Path) -> FoundPeople:
    """MediaPipe's 33 landmarks, in pixels or as shares of the picture's sides."""
    if not people or any(p.shape[1:] != (_MEDIAPIPE_POINTS, 3) for p in people.values()):
        raise EvidenceError(
            f"{path.name} holds no frames of {_MEDIAPIPE_POINTS} landmarks: see docs/evidence.md "
            "for the layouts that are read"
        )
    sizes = [np.nanmax(np.abs(p[..., :2]), initial=0.0) for p in people.values() if p.size]
    scale = np.array([1.0, 1.0, 1.0])
    if max(sizes, default=0.0) <= _NORMALISED_LIMIT:
        scale = np.array([image_size[0], image_size[1], 1.0])
    return FoundPeople(BLAZEPOSE, {frame: p * scale for frame, p in people.items()})


def _from_npz(path: Path) -> dict[int, Array]:
    """`landmarks` or `pixels` (T, 33, ≥ 2), `visibility` or `confidence` (T, 33), `frame_indices`.

    A fourth column of `landmarks` is the visibility where there is no array of it.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except DAMAGED_ARRAYS as error:
        raise EvidenceError(f"{path.name} is no readable .npz ({error}): save it again") from error
    points = arrays.get("landmarks", arrays.get("pixels"))
    if points is None or points.ndim != 3 or points.shape[2] < 2:
        raise EvidenceError(f"{path.name} lacks 'landmarks' (frames, 33, 2 to 4): add them")
    sure = arrays.get("visibility", arrays.get("confidence"))
    if sure is None:
        sure = points[..., 3] if points.shape[2] > 3 else np.ones(points.shape[:2])
    if "found" in arrays:
        sure = sure * arrays["found"][:, None]
    frames = arrays.get("frame_indices", np.arange(len(points)))
    if sure.shape != points.shape[:2] or frames.shape != (len(points),):
        raise EvidenceError(
            f"{path.name}: visibility is {sure.shape} and frame_indices {frames.shape}, expected "
            f"{points.shape[:2]} and ({len(points)},)"
        )
    whole = np.concatenate([points[..., :2], sure[..., None]], -1).astype(np.float64)
    return {int(frame): one[None] for frame, one in zip(frames, whole, strict=True)}


def _from_csv(path: Path) -> dict[int, Array]:
    """One row a landmark: `frame,landmark,x,y[,z],visibility`; `person` tells people apart."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        people: dict[tuple[int, int], Array] = {}
        for row in rows:
            key = int(row["frame"]), int(row.get("person") or 0)
            person = people.setdefault(key, np.zeros((_MEDIAPIPE_POINTS, 3)))
            sure = row.get("visibility") or row.get("confidence") or 1.0
            person[int(row["landmark"])] = float(row["x"]), float(row["y"]), float(sure)
    except (OSError, KeyError, TypeError, ValueError, IndexError, csv.Error) as error:
        raise EvidenceError(
            f"{path.name} is no landmark table ({error}): expected the columns frame, landmark, "
            "x, y, visibility"
        ) from error
    frames: dict[int, list[Array]] = defaultdict(list)
    for (frame, _), person in sorted(people.items()):
        frames[frame].append(person)
    return {frame: np.stack(found) for frame, found in frames.items()}


def _from_json(data: Any, path: Path) -> dict[int, Array]:
    """A list with an entry a frame, or `{"frames": […]}`; see `_frame_of` for the entries."""
    entries = data.get("frames") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise EvidenceError(
            f"{path.name} is neither OpenPose's, COCO's nor a list of MediaPipe's frames: see "
            "docs/evidence.md for the layouts that are read"
        )
    try:
        return dict(_frame_of(entry, k) for k, entry in enumerate(entries))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise EvidenceError(
            f"{path.name} holds a frame that is no list of landmarks ({error}): expected x, y and "
            "visibility of 33 of them"
        ) from error


def _frame_of(entry: Any, position: int) -> tuple[int, Array]:
    """One frame: its landmarks, a list of people's, or an object with `frame` and `landmarks`.

    A landmark is an object (x, y, visibility, as MediaPipe's) or a list (x, y, …, visibility).
    """
    frame = position
    if isinstance(entry, dict):
        frame = int(entry.get("frame", position))
        entry = entry.get("pose_landmarks", entry.get("landmarks")) or []
    if not entry:
        return frame, np.zeros((0, _MEDIAPIPE_POINTS, 3))
    is_one = isinstance(entry[0], dict) or not isinstance(entry[0][0], list | dict)
    people = [entry] if is_one else entry
    return frame, np.array([[_landmark(point) for point in person] for person in people], float)


def _landmark(point: Any) -> tuple[float, float, float]:
    if isinstance(point, dict):
        return float(point["x"]), float(point["y"]), float(point.get("visibility", 1.0))
    return float(point[0]), float(point[1]), float(point[-1]) if len(point) > 2 else 1.0


def _numbers(values: Any, path: Path) -> Array:
    try:
        array = np.array(values, np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise EvidenceError(f"{path.name} holds keypoints that are no numbers: {error}") from error
    return np.where(np.isfinite(array), array, 0.0)


def _stack(people: list[Array], points: int) -> Array:
    stacked = np.stack(people) if people else np.zeros((0, points, 3))
    stacked[..., 2] = np.clip(stacked[..., 2], 0.0, 1.0)
    return stacked
