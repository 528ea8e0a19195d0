# SPDX-License-Identifier: Apache-2.0
"""Person masks as evidence: cut around the body, with distances and an outline to be reached.

A mask is one picture a frame: white (from 192) is the person, black (below 64) is not, and grey is
unknown: there something may hide the person. Masks of 0 and 1 are taken for 0 and 255.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence

from ..body import BodyModel, pose_body
from ..crop import crop_frames
from ..parameters import parameters_of_sequence
from ..picture_files import PictureError, read_picture
from ..refinement.others import Occluders
from ..refinement.pictures import body_boxes
from ..solver import Silhouettes
from ..views import View
from .errors import EvidenceError
from .frame_files import FrameNames, files_by_frame

__all__ = ["MaskFiles", "read_mask", "silhouette_evidence", "spread_vertices"]

logger = logging.getLogger(__name__)

MAP_SIZE = 192
"""Side of the maps, pixels."""
OUTLINE_POINTS = 160
"""Points of the outline a frame."""
_BOX_MARGIN = 1.6
"""Side of the maps by the side of the body's bounds: as far as an estimate is off."""
_SIGMA = 0.015
"""σ of the outline as a share of the map's person: the mask's error and clothes."""
_SPACING_M = 0.04
"""Distance between the vertices that stand for the surface."""
_PERSON, _NOBODY = 192, 64


@dataclass(frozen=True)
class MaskFiles:
    """The masks of one footage."""

    files: dict[int, Path]
    """By decoded frame."""

    @classmethod
    def of(cls, folder: Path, names: FrameNames) -> MaskFiles:
        """The masks in a folder of pictures, one a frame.

        Raises:
            EvidenceError: there are none.
        """
        return cls(files_by_frame(folder, (".png", ".jpg", ".jpeg", ".bmp"), names))


def read_mask(path: Path, image_size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(H, W) mask, 0 to 255.

    Raises:
        EvidenceError: it is no picture, or of another size.
    """
    try:
        mask = read_picture(path, lambda image: np.asarray(image.convert("L")))
    except PictureError as error:
        raise EvidenceError(f"the mask {path.name} is no picture ({error})") from error
    if mask.shape != image_size[::-1]:
        raise EvidenceError(
            f"the mask {path.name} is {mask.shape[1]} × {mask.shape[0]}, the footage "
            f"{image_size[0]} × {image_size[1]}: make the masks from the footage's own frames"
        )
    return mask * np.uint8(255) if mask.max(initial=0) == 1 else mask


def silhouette_evidence(
    masks: MaskFiles,
    sequence: Sequence,
    view: View,
    body: BodyModel,
    others: Occluders | None = None,
) -> Silhouettes:
    """What the masks of a view say of the sequence's person.

    Args:
        masks: by decoded frame of the view's footage.
        sequence: where the person is thought to be.
        view: its camera and frames.
        body: the model that the sequence poses.
        others: who else is there; where they stand in front is unknown.

    Raises:
        EvidenceError: a mask is broken, or none shows the person.
    """
    frames = len(sequence)
    parameters = parameters_of_sequence(sequence, body)
    maps = [_Map.empty() for _ in range(frames)]
    intrinsics = np.tile(np.eye(3), (frames, 1, 1))
    for t in range(frames):
        path = masks.files.get(int(view.frame_indices[t])) if view.has_picture(t) else None
        if path is None:
            continue
        camera = view.camera(t)
        vertices = pose_body(body, parameters[t : t + 1]).vertices
        box = body_boxes(vertices, [camera], margin=_BOX_MARGIN)
        if not np.isfinite(box).all():
            continue
        mask = read_mask(path, camera.image_size)
        known = (mask < _NOBODY) | (mask >= _PERSON)
        picture = np.stack([(mask >= _PERSON) * 255, known * 255, 0 * mask], -1).astype(np.uint8)
        crop = crop_frames([picture], box, [camera], MAP_SIZE)
        is_known = crop.images[0, 1].numpy() > 0.5
        if others is not None:
            is_known &= ~_hidden(others, t, vertices, camera, crop.intrinsics)
        maps[t] = _Map.of(crop.images[0, 0].numpy() > 0.5, is_known)
        intrinsics[t] = crop.intrinsics[0].numpy()
    if not any(one.weights.any() for one in maps):
        raise EvidenceError(
            f"no mask of {view.name!r} shows the person of the sequence: check that masks, footage "
            "and sequence belong together"
        )

    def tensor(values: npt.NDArray[np.floating] | list[npt.NDArray[np.floating]]) -> torch.Tensor:
        return torch.tensor(np.asarray(values), dtype=body.dtype, device=body.device)

    return Silhouettes(
        vertex_indices=spread_vertices(body, _SPACING_M),
        distance=tensor([one.distance for one in maps]),
        outline=tensor([one.outline for one in maps]),
        inward=tensor([one.inward for one in maps]),
        weights=tensor([one.weights for one in maps]),
        scales=tensor(np.full(frames, _SIGMA * MAP_SIZE / _BOX_MARGIN)),
        intrinsics=tensor(intrinsics),
        world_to_camera=tensor(np.stack([view.camera(t).world_to_camera for t in range(frames)])),
    )


def _hidden(
    others: Occluders, frame: int, vertices: torch.Tensor, camera: Camera, intrinsics: torch.Tensor
) -> npt.NDArray[np.bool_]:
    """(H, W) where somebody stands before the middle of the body."""
    extrinsics = torch.tensor(camera.world_to_camera[None]).to(vertices)
    middle = extrinsics[0, 2, :3] @ vertices.mean((0, 1)) + extrinsics[0, 2, 3]
    lens = intrinsics.to(vertices)
    depth = others.depth([frame], extrinsics, lens, (MAP_SIZE, MAP_SIZE))
    return (depth[0] < middle).cpu().numpy()


@dataclass(frozen=True)
class _Map:
    """One mask, cut out."""

    distance: npt.NDArray[np.float64]
    outline: npt.NDArray[np.float64]
    inward: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]

    @classmethod
    def empty(cls) -> _Map:
        zeros = np.zeros((OUTLINE_POINTS, 2))
        return cls(np.zeros((MAP_SIZE, MAP_SIZE)), zeros, zeros, zeros[:, 0])

    @classmethod
    def of(cls, person: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> _Map:
        """The map of a mask (person) and of where it says anything (known)."""
        empty = cls.empty()
        if not person.any():
            return empty
        nobody = (~person & known).astype(np.uint8)
        distance = cv2.distanceTransform(nobody, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        outline = _outline(person, known)
        if not len(outline):
            return empty
        smooth = cv2.GaussianBlur(person.astype(np.float32), (0, 0), 2.0)
        slope = np.stack(
            [cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)], -1
        )
        steps = np.linspace(0, len(outline) - 1, OUTLINE_POINTS).round().astype(int)
        chosen = outline[steps]
        inward = slope[chosen[:, 1], chosen[:, 0]].astype(np.float64)
        length = np.linalg.norm(inward, axis=1, keepdims=True)
        return cls(
            distance=distance.astype(np.float64),
            outline=chosen.astype(np.float64) + 0.5,
            inward=inward / np.maximum(length, 1e-6),
            weights=(length[:, 0] > 1e-3).astype(np.float64),
        )


def _outline(person: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(N, 2) x and y of the mask's border pixels, in order, without those at unknown ground: what
    hides the person there drew that border."""
    contours, _ = cv2.findContours(person.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate([contour[:, 0] for contour in contours]).astype(np.int64)
    blocked = cv2.dilate((~known).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    side = person.shape[0]
    inside = ((points > 0) & (points < side - 1)).all(1)
    return points[inside & ~blocked[points[:, 1], points[:, 0]]]


def spread_vertices(body: BodyModel, spacing_m: float) -> torch.Tensor:
    """Vertices about evenly spread over the body: the first of each cell of a grid at rest.

    Args:
        body: the model.
        spacing_m: side of the cells, metres.
    """
    cells = torch.floor(body.v_template.double().cpu() / spacing_m).long().numpy()
    _, first = np.unique(cells, axis=0, return_index=True)
    return torch.tensor(np.sort(first), device=body.device)
