# SPDX-License-Identifier: Apache-2.0
"""Which of several found people is the one of a sequence, and their keypoints as evidence."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared import frames as coordinate_frames
from posefit_shared.sequence import Sequence

from ..body import BodyModel, pose_body
from ..parameters import parameters_of_sequence
from ..solver import LandmarkPixels, LandmarkTable
from ..views import View
from .errors import EvidenceError
from .keypoint_files import FoundPeople
from .keypoint_layouts import HAND_NAMES

__all__ = ["choose_person", "landmark_evidence", "likeness"]

logger = logging.getLogger(__name__)

KEYPOINT_SIGMA = 0.02
"""σ of a detector's landmark, as a share of the person's length in the picture."""
FINE_SHARE = 0.3
"""σ of a point of a hand's 21 by a body landmark's: they are found in a picture of the hand alone,
and a finger is no longer than the body landmarks' σ."""
_LIKENESS_SIGMA = 0.15
"""How far, in lengths of the person, landmarks may be from the current body's: as far as bad
estimates are off."""
_LEAST_LIKENESS = 0.2
"""Below this nobody who was found is the person."""
_POSING_BATCH = 64
Array = npt.NDArray[np.float64]


def likeness(people: Array, expected: Array, length: float) -> Array:
    """How well each found person lies over a body: COCO's object keypoint similarity.

    Args:
        people: (people, landmark, 3) x, y, confidence.
        expected: (landmark, 2) the body's landmarks in the same pixels; NaN where it has none.
        length: of the body in the picture, pixels.

    Returns:
        (people,) 0 to 1: mean of exp(−d² / 2 σ²) over landmarks, by confidence.
    """
    known = np.asarray(np.isfinite(expected).all(-1))
    distance = np.square(people[..., :2] - np.where(known[:, None], expected, 0.0)).sum(-1)
    alike = np.exp(-0.5 * distance / (_LIKENESS_SIGMA * max(length, 1.0)) ** 2)
    weight = people[..., 2] * known
    return (alike * weight).sum(-1) / np.maximum(weight.sum(-1), 1e-9)


def choose_person(people: Array, expected: Array, length: float) -> Array | None:
    """(landmark, 3) of the person who lies over a body best; None where nobody does.

    Args:
        people, expected, length: as for `likeness`.
    """
    if not len(people):
        return None
    scores = likeness(people, expected, length)
    best = int(scores.argmax())
    return people[best] if scores[best] >= _LEAST_LIKENESS else None


def landmark_evidence(
    found: FoundPeople, sequence: Sequence, view: View, body: BodyModel
) -> LandmarkPixels:
    """The sequence's person among those found in a view, as evidence.

    Args:
        found: everybody, by decoded frame of the view's footage.
        sequence: where the person is thought to be.
        view: its camera and frames.
        body: the model that the sequence poses.

    Raises:
        EvidenceError: nobody who was found lies over the person in any frame.
    """
    expected, lengths = _expected(found.table, sequence, view, body)
    chosen = np.zeros((len(sequence), len(found.table.names), 3))
    count = 0
    for t, frame in enumerate(view.frame_indices):
        people = found.people.get(int(frame)) if view.has_picture(t) else None
        person = None if people is None else choose_person(people, expected[t], lengths[t])
        if person is not None:
            chosen[t], count = person, count + 1
    if not count:
        raise EvidenceError(
            f"none of the people in the keypoint files lies over the person of the sequence in "
            f"{view.name!r}: check that files, footage and sequence belong together"
        )
    logger.info("keypoints of the person in %d of %d frames of %s", count, len(chosen), view.name)
    cameras = [view.camera(t) for t in range(len(sequence))]
    pixels = np.stack(
        [
            coordinate_frames.undistort_points(camera, points[:, :2])
            for camera, points in zip(cameras, chosen, strict=True)
        ]
    )

    def tensor(values: npt.NDArray[np.floating]) -> torch.Tensor:
        return torch.tensor(values, dtype=body.dtype, device=body.device)

    shares = np.array([FINE_SHARE if name in HAND_NAMES else 1.0 for name in found.table.names])
    scales = np.maximum(KEYPOINT_SIGMA * lengths[:, None] * shares, shares)
    return LandmarkPixels(
        table=found.table,
        targets=tensor(pixels),
        weights=tensor(chosen[..., 2]),
        scales=tensor(scales),
        intrinsics=tensor(np.stack([camera.intrinsics for camera in cameras])),
        world_to_camera=tensor(np.stack([camera.world_to_camera for camera in cameras])),
    )


def _expected(
    table: LandmarkTable, sequence: Sequence, view: View, body: BodyModel
) -> tuple[Array, Array]:
    """(T, landmark, 2) source pixels of the body's landmarks, NaN where unknown; (T,) lengths."""
    bound = table.bind(body, body.dtype)
    parameters = parameters_of_sequence(sequence, body)
    pixels, lengths = [], []
    for first in range(0, len(sequence), _POSING_BATCH):
        posed = pose_body(body, parameters[first : first + _POSING_BATCH])
        sources = torch.cat([posed.joints, posed.vertices[:, bound.vertices]], 1)
        landmarks = torch.einsum("bsc,sl->blc", sources, bound.mixture)
        for k in range(len(landmarks)):
            camera = view.camera(first + k)
            place, depth = coordinate_frames.project(camera, landmarks[k].cpu().numpy())
            is_there = (depth > 0.05) & bound.known.cpu().numpy()
            pixels.append(np.where(is_there[:, None], place, np.nan))
            joints, _ = coordinate_frames.project(camera, posed.joints[k].cpu().numpy())
            lengths.append(float((joints.max(0) - joints.min(0)).max()))
    return np.stack(pixels), np.array(lengths)
