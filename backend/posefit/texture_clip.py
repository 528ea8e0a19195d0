# SPDX-License-Identifier: Apache-2.0
"""The person's texture from a clip: which frames paint it, and which paint it for which frame.

A few frames, spread over time, directions of view and poses, are looked at once. The map that a
frame is compared with is then merged from those of them that do not share its error: none nearer
in time than a stated interval in any view, and those seen from elsewhere or in another pose count
more. When poses have been refined, painting again gives a sharper map.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence as PoseSequence

from .body import BodyModel, PoseParameters, axis_angle_to_matrix, pose_body
from .crop import crop_frames
from .gpu.upload import upload
from .keypoints.detection import detect_keypoints
from .parameters import parameters_of_sequence
from .rasterizer import Fragments
from .refinement.others import Occluders
from .refinement.pictures import body_boxes
from .texture import (
    SurfaceColors,
    TexelGrid,
    Texture,
    TextureError,
    TexturePainter,
    observe_surface,
    texel_grid,
)
from .views import View

__all__ = [
    "Circumstances",
    "Source",
    "choose_sources",
    "circumstances_of",
    "paint_from_views",
    "paint_texture",
    "source_weights",
]

logger = logging.getLogger(__name__)

_MOST_CANDIDATES = 64
"""Frames that are considered as sources; the cost of choosing, not of painting."""
_TIME_SCALE_S = 1.0
_VIEW_SCALE_RAD = 0.5
_POSE_SCALE_RAD = 0.35
"""Differences in time, direction of view and mean joint angle that are far enough to be another
picture of the person: their errors have little in common."""
_KIN_WEIGHT = 0.2
"""What a source counts that sees the person just as the target does."""
_REMEMBERED_MAPS = 256
"""Maps kept between rounds: 64 MB at 256 × 256."""
_CROP_MARGIN = 1.15


@dataclass(frozen=True)
class Source:
    """One picture of the person."""

    view: int
    """Which view."""
    frame: int
    """Which frame of the sequence."""


@dataclass(frozen=True)
class Circumstances:
    """What makes two pictures of a person alike, for every frame and view."""

    times: Float[Tensor, " frame"]
    """Seconds."""
    root_to_camera: Float[Tensor, "view frame 3 3"]
    """How the person is turned towards each camera. An error that is constant in the picture lies
    elsewhere on the surface when the person is seen from another side, or upside down."""
    rotations: Float[Tensor, "frame joint 3 3"]
    """Body pose."""

    def differences(self, target: Source, sources: Sequence[Source]) -> tuple[Tensor, ...]:
        """Seconds, radians between views of the root and mean radians between joints."""
        views = [source.view for source in sources]
        frames = [source.frame for source in sources]
        seconds = (self.times[frames] - self.times[target.frame]).abs()
        own_view = self.root_to_camera[target.view, target.frame]
        view_angle = _angle_between(self.root_to_camera[views, frames], own_view)
        pose_angle = _angle_between(self.rotations[frames], self.rotations[target.frame])
        return seconds, view_angle, pose_angle.mean(-1)


def paint_from_views(
    sequence: PoseSequence,
    views: Sequence[View],
    body: BodyModel,
    *,
    exclusion_seconds: float = 0.25,
    max_sources: int = 16,
    texture_size: int = 256,
    others: Occluders | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Callable[[Sequence[int]], Float[Tensor, "texture 4 size size"] | None]:
    """The map that each frame of a sequence is compared with, painted by other frames.

    Args:
        sequence: estimates under which the frames are looked at.
        views: pictures of the person.
        body: must be the one that the sequence poses.
        exclusion_seconds: frames nearer than this, in any view, never paint for a frame.
        max_sources: frames that are looked at.
        texture_size: side of the maps, texels.
        others: who else is there; what they hide is not painted.
        check_cancelled: called between frames; raises to stop.

    Returns:
        A function from frames of the sequence to their maps (RGB and coverage, 0 to 1), or to
        None where the body has no texture coordinates or no frame shows it.

    Raises:
        FootageError: a frame cannot be decoded.
    """
    if body.vt is None:
        logger.warning("the body %s has no texture coordinates: no texture is used", body.name)
        return lambda frames: None
    parameters = parameters_of_sequence(sequence, body)
    circumstances = circumstances_of(sequence, views, parameters)
    sources = choose_sources(views, circumstances, max_sources)
    grid = texel_grid(body, texture_size)
    seen, colors = _observe(sources, views, parameters, body, grid, others, check_cancelled)
    if colors is None:
        logger.warning("no frame shows the person: no texture is used")
        return lambda frames: None
    painter = TexturePainter(grid, colors)

    @lru_cache(maxsize=_REMEMBERED_MAPS)
    def one_map(frame: int) -> Tensor:
        weights = source_weights(circumstances, frame, seen, exclusion_seconds)
        return (painter.paint(weights) * 255).round().byte()

    def maps(frames: Sequence[int]) -> Tensor:
        stacked = torch.stack([one_map(int(frame)) for frame in frames])
        return stacked.to(body.dtype) / 255.0

    return maps


def paint_texture(
    sequence: PoseSequence,
    views: Sequence[View],
    body: BodyModel,
    *,
    max_sources: int = 24,
    texture_size: int = 1024,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Texture:
    """The person's texture as all well-spread frames together paint it.

    Args:
        sequence: estimates under which the frames are looked at.
        views: pictures of the person.
        body: must be the one that the sequence poses.
        max_sources: frames that are looked at.
        texture_size: side of the map, texels.
        check_cancelled: called between frames; raises to stop.

    Raises:
        TextureError: the body has no texture coordinates, or no frame shows the person.
        FootageError: a frame cannot be decoded.
    """
    grid = texel_grid(body, texture_size)
    parameters = parameters_of_sequence(sequence, body)
    sources = choose_sources(views, circumstances_of(sequence, views, parameters), max_sources)
    _, colors = _observe(
        sources,
        views,
        parameters,
        body,
        grid,
        None,
        check_cancelled,
        crop_size=min(max(texture_size, 384), 1024),
    )
    if colors is None:
        raise TextureError(
            "no frame shows the person where the sequence puts it: check that the sequence, its "
            "camera and the footage belong together"
        )
    return TexturePainter(grid, colors).texture()


def choose_sources(views: Sequence[View], circumstances: Circumstances, most: int) -> list[Source]:
    """Pictures that differ in time, direction of view and pose, by farthest-point sampling."""
    frames = len(circumstances.times)
    per_view = max(1, _MOST_CANDIDATES // max(1, len(views)))
    spread = np.unique(np.linspace(0, frames - 1, min(frames, per_view)).round().astype(int))
    candidates = [
        Source(k, int(frame))
        for k, view in enumerate(views)
        for frame in spread
        if view.has_picture(int(frame))
    ]
    if len(candidates) <= most:
        return candidates
    chosen = [len(candidates) // 2]
    nearest = _distance(circumstances, candidates[chosen[0]], candidates)
    while len(chosen) < most:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(
            nearest, _distance(circumstances, candidates[chosen[-1]], candidates)
        )
    return [candidates[k] for k in sorted(chosen)]


def source_weights(
    circumstances: Circumstances, frame: int, sources: Sequence[Source], exclusion_seconds: float
) -> Float[Tensor, " source"]:
    """What each source counts for a frame: 0 near it in time, more the less it is like it.

    Where several views show the frame, a source is like it if it is like any of them.
    """
    kinship = torch.zeros(len(sources), dtype=circumstances.times.dtype)
    kinship = kinship.to(circumstances.times.device)
    for view in range(len(circumstances.root_to_camera)):
        target = Source(view, frame)
        _, view_angle, pose_angle = circumstances.differences(target, sources)
        squared = (view_angle / _VIEW_SCALE_RAD).square() + (pose_angle / _POSE_SCALE_RAD).square()
        kinship = torch.maximum(kinship, torch.exp(-0.5 * squared))
    seconds = (
        circumstances.times[[source.frame for source in sources]] - circumstances.times[frame]
    ).abs()
    itself = torch.tensor([source.frame == frame for source in sources], device=seconds.device)
    allowed = (seconds >= exclusion_seconds) & ~itself
    return (1.0 - (1.0 - _KIN_WEIGHT) * kinship) * allowed


def _distance(
    circumstances: Circumstances, source: Source, candidates: Sequence[Source]
) -> Float[Tensor, " candidate"]:
    seconds, view_angle, pose_angle = circumstances.differences(source, candidates)
    return (
        (seconds / _TIME_SCALE_S).clamp(max=2.0)
        + view_angle / _VIEW_SCALE_RAD
        + pose_angle / _POSE_SCALE_RAD
    )


def circumstances_of(
    sequence: PoseSequence, views: Sequence[View], parameters: PoseParameters
) -> Circumstances:
    """What distinguishes the pictures of a sequence, for every frame and view."""
    like = parameters.transl
    root = axis_angle_to_matrix(parameters.global_orient)
    turns = []
    for view in views:
        extrinsics = np.stack([view.camera(t).world_to_camera for t in range(len(sequence))])
        turns.append(root.new_tensor(extrinsics[:, :3, :3]) @ root)
    if sequence.times is not None:
        times = np.asarray(sequence.times, np.float64)
    else:
        times = np.arange(len(sequence)) / sequence.mocap_framerate
    return Circumstances(
        times=torch.tensor(times, dtype=like.dtype, device=like.device),
        root_to_camera=torch.stack(turns),
        rotations=axis_angle_to_matrix(parameters.body_pose),
    )


def _angle_between(
    rotations: Float[Tensor, "*batch 3 3"], other: Float[Tensor, "*other 3 3"]
) -> Float[Tensor, "*batch"]:
    """Radians that lead from one rotation to the other."""
    trace = (rotations * other).sum((-1, -2))
    return ((trace - 1) / 2).clamp(-1, 1).acos()


def _observe(
    sources: Sequence[Source],
    views: Sequence[View],
    parameters: PoseParameters,
    body: BodyModel,
    grid: TexelGrid,
    others: Occluders | None,
    check_cancelled: Callable[[], None],
    *,
    crop_size: int = 384,
) -> tuple[list[Source], SurfaceColors | None]:
    """Colours of the sources that show the person, and which those are."""
    seen: list[Source] = []
    parts: list[SurfaceColors] = []
    for k, view in enumerate(views):
        frames = [source.frame for source in sources if source.view == k]
        if not frames:
            continue
        chosen = torch.tensor(frames, device=body.device)
        vertices = pose_body(body, parameters[chosen]).vertices
        boxes = body_boxes(vertices, [view.camera(t) for t in frames], margin=_CROP_MARGIN)
        visible = np.flatnonzero(np.isfinite(boxes).all(1))
        masks = _person_masks(view, [frames[i] for i in visible], boxes[visible], check_cancelled)
        for i, mask in zip(visible, masks, strict=True):
            check_cancelled()
            picture = view.footage.read(int(view.frame_indices[frames[i]]))
            shot = _Shot(picture, mask, view.camera(frames[i]), boxes[i])
            hide = None if others is None else partial(others.hide, frames=[frames[i]])
            parts.append(_observe_shot(shot, vertices[i], body, grid, crop_size, hide))
            seen.append(Source(k, frames[i]))
    return seen, SurfaceColors.join(parts) if parts else None


@dataclass(frozen=True)
class _Shot:
    """One frame on its way to being looked at."""

    picture: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8] | None
    camera: Camera
    box: npt.NDArray[np.float64]


def _observe_shot(
    shot: _Shot,
    vertices: Float[Tensor, "vertex 3"],
    body: BodyModel,
    grid: TexelGrid,
    crop_size: int,
    hide: Callable[..., Fragments] | None,
) -> SurfaceColors:
    images = [shot.picture]
    if shot.mask is not None:
        images.append(np.repeat(shot.mask[..., None], 3, axis=-1))
    boxes, cameras = np.tile(shot.box, (len(images), 1)), [shot.camera] * len(images)
    crop = crop_frames(images, boxes, cameras, crop_size, device=body.device)
    person = crop.images[1:, 0].to(body.dtype) if shot.mask is not None else None
    extrinsics = upload(shot.camera.world_to_camera[None], body.device).to(body.dtype)
    intrinsics = crop.intrinsics[:1].to(body.dtype)
    if hide is not None:
        hide = partial(hide, world_to_camera=extrinsics, intrinsics=intrinsics)
    return observe_surface(
        grid,
        body,
        vertices[None],
        crop.images[:1].to(body.dtype),
        extrinsics,
        intrinsics,
        person,
        hide,
    )


def _person_masks(
    view: View,
    frames: Sequence[int],
    boxes: npt.NDArray[np.float64],
    check_cancelled: Callable[[], None],
) -> list[npt.NDArray[np.uint8] | None]:
    """(H, W) 0 to 255 where the person is, for each frame; None where nobody was found."""
    if not frames:
        return []
    centre, half = boxes[:, :2], boxes[:, 2:] / (2 * _CROP_MARGIN)
    keypoints = detect_keypoints(
        view.footage,
        view.frame_indices[list(frames)],
        box_hint=np.concatenate([centre - half, centre + half], axis=1),
        progress=lambda done, total: check_cancelled(),
    )
    size = view.footage.size
    return [
        (keypoints.mask(k, size) * 255).astype(np.uint8) if keypoints.found[k] else None
        for k in range(len(frames))
    ]
