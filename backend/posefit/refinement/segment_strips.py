# SPDX-License-Identifier: Apache-2.0
"""Limbs' skin, unrolled: what a frame shows at each angle about a bone and each place along it.

A limb that turns about its bone keeps its outline and its place; its unrolled skin slides round by
the angle. Frames of one person can so be compared under every hypothesis of every segment's turn
from a single rendering each. `twist_evidence` compares, `twist_search` concludes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from ..body import BodyModel, vertex_normals
from ..body_model import kept_with_body
from ..crop import crop_frames
from ..gpu.upload import upload
from ..rasterizer import Fragments, rasterize
from ..texture.observation import outline_trust
from .others import Occluders
from .pictures import Picture, body_boxes

__all__ = ["ANGLES", "SEGMENTS", "SegmentGrid", "Strips", "observe_strips", "segment_grid"]

SEGMENTS: tuple[tuple[int, int], ...] = (
    (1, 4), (2, 5), (4, 7), (5, 8), (16, 18), (17, 19), (18, 20), (19, 21), (12, 15),
)  # fmt: skip
"""Thighs, shins, upper arms, forearms, neck: the joint that turns each, and the one at its end.
All that hangs on them lies on their axis, so that a turn moves skin and nothing else."""
ANGLES = 72
"""Angles about the bone."""
_ROWS = 20
_ALONG = (0.12, 0.98)
"""First and last row, as a share of the bone from its joint on."""
_LEAST_HOLD, _FULL_HOLD = 0.5, 0.8
"""Skinning weight of the segment's own joint from which a point counts, and counts fully."""
_CROP_SIZE, _CROP_MARGIN = 384, 1.15
_LEAST_COSINE, _FULL_COSINE = 0.25, 0.75
_LEAST_TRUST, _FULL_TRUST = 0.35, 0.87
"""Distance from outlines (`outline_trust`): 2 and 5 pixels of the crop."""
_DEPTH_TOLERANCE_M = 0.02
_BATCH_FRAMES = 16
_GPU_BATCH_FRAMES = 64
"""Frames rendered at once on a CPU and on a GPU; bounds memory."""
_CHROMA_SCALE, _LUMA_SCALE = 0.03, 0.06
"""Differences of chromaticity and log luma that are no noise."""
_REC_601 = np.array([0.299, 0.587, 0.114])
"""Luma of red, green and blue."""
_BOUND = 1.5
"""Scales beyond which a difference says no more: occluders and highlights are no pattern."""
_SHADE_ROWS = 5
"""Rows either way whose mean luma is taken for shading."""


@dataclass(frozen=True)
class SegmentGrid:
    """Points of the skin about each bone, as places on the mesh; the same on every shape."""

    corners: Int[Tensor, "segment row angle 3"]
    """Vertices of each point's face."""
    bary_coords: Float[Tensor, "segment row angle 3"]
    """Where it lies on it; zeros where there is no skin."""
    hold: Float[Tensor, "segment row angle"]
    """How much a point turns with its segment, 0 to 1; 0 where there is no skin."""
    cell_m2: Float[Tensor, "segment row angle"]
    """Skin about each point, m² of the mean body."""

    def on_surface(self, values: Float[Tensor, "batch vertex channel"]) -> Tensor:
        """Vertex values at the points, (batch, segment, row, angle, channel)."""
        return (values[:, self.corners] * self.bary_coords[..., None]).sum(-2)


@dataclass(frozen=True)
class Strips:
    """What frames show of each segment's skin."""

    features: Float[Tensor, "frame segment row angle 3"]
    """Two chromaticities and luma without shading, about their means, in scales of noise."""
    weight: Float[Tensor, "frame segment row angle"]
    """Source pixels' worth of each point, √ of them; 0 where it isn't seen."""


@kept_with_body
def segment_grid(body: BodyModel) -> SegmentGrid:
    """Where rays from each bone leave the mean body's skin.

    Args:
        body: at rest.
    """
    parts = [_one_segment(body, joint, end) for joint, end in SEGMENTS]
    return SegmentGrid(*(torch.stack(values) for values in zip(*parts, strict=True)))


def _one_segment(body: BodyModel, joint: int, end: int) -> tuple[Tensor, ...]:
    origin, bone = body.joint_template[joint], body.joint_template[end]
    length, axis = (bone - origin).norm(), normalize(bone - origin, dim=0)
    toward = torch.eye(3, dtype=axis.dtype, device=axis.device)[axis.abs().argmin()]
    first = normalize(toward - (toward @ axis) * axis, dim=0)
    second = torch.linalg.cross(axis, first)
    angles = (torch.arange(ANGLES, device=axis.device) + 0.5).to(axis) * (2 * math.pi / ANGLES)
    rays = angles.cos()[:, None] * first + angles.sin()[:, None] * second
    along = torch.linspace(*_ALONG, _ROWS, dtype=axis.dtype, device=axis.device) * length
    own = body.lbs_weights[:, joint]
    faces = body.faces[(own[body.faces] > 0.2).all(1)]
    height = ((body.v_template - origin) @ axis)[faces]
    corners, places, radii = [], [], []
    for at in along:
        crossing = faces[(height.amin(1) <= at) & (height.amax(1) >= at)]
        face, bary, radius = _first_hits(body.v_template[crossing], origin + at * axis, rays)
        corners.append(crossing[face] if len(crossing) else faces[:1].expand(ANGLES, -1))
        places.append(bary)
        radii.append(radius)
    corner, place, radius = torch.stack(corners), torch.stack(places), torch.stack(radii)
    hold = ((own[corner] * place).sum(-1) - _LEAST_HOLD) / (_FULL_HOLD - _LEAST_HOLD)
    cell = radius * (2 * math.pi / ANGLES) * (along[1] - along[0])
    return corner, place, hold.clamp(0.0, 1.0), cell


def _first_hits(
    triangles: Float[Tensor, "face 3 3"], origin: Float[Tensor, " 3"], rays: Float[Tensor, "ray 3"]
) -> tuple[Int[Tensor, " ray"], Float[Tensor, "ray 3"], Float[Tensor, " ray"]]:
    """Face, barycentric coordinates and distance of each ray's first hit; zeros where none is.

    Source:
        Möller and Trumbore 1997.
    """
    if not len(triangles):
        zeros = rays.new_zeros(len(rays))
        return zeros.long(), rays.new_zeros(len(rays), 3), zeros
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    across = torch.linalg.cross(rays[:, None], second[None])
    scale = (across * first).sum(-1)
    scale = torch.where(scale.abs() < 1e-12, 1e-12, scale)
    offset = origin - triangles[:, 0]
    u = (across * offset).sum(-1) / scale
    normal = torch.linalg.cross(offset, first)
    v = (rays @ normal.T) / scale
    distance = (normal * second).sum(-1) / scale
    is_hit = (u >= -1e-4) & (v >= -1e-4) & (u + v <= 1 + 1e-4) & (distance > 0)
    nearest, face = torch.where(is_hit, distance, torch.inf).min(1)
    ray = torch.arange(len(rays), device=rays.device)
    bary = torch.stack([1 - u[ray, face] - v[ray, face], u[ray, face], v[ray, face]], -1)
    found = nearest.isfinite()
    return face, bary * found[:, None], torch.where(found, nearest, 0.0)


def observe_strips(
    grid: SegmentGrid,
    body: BodyModel,
    vertices: Float[Tensor, "frame vertex 3"],
    pictures: Sequence[Picture | None],
    *,
    others: Occluders | None = None,
    backend: str = "warp",
) -> Strips:
    """The unrolled skin that each frame shows under its estimate.

    Args:
        grid: of the body.
        body: whose faces are drawn.
        vertices: posed, world, metres.
        pictures: of each frame; None where there is none, which then shows nothing.
        others: who else is there, in the same frames; what they hide is not seen.
        backend: of the rasterizer.
    """
    shape = (len(pictures), *grid.hold.shape)
    rgb, weight = vertices.new_zeros(*shape, 3), vertices.new_zeros(shape)
    rows, present, boxes = _in_view(vertices, pictures)
    batch = _GPU_BATCH_FRAMES if vertices.device.type == "cuda" else _BATCH_FRAMES
    for first in range(0, len(rows), batch):
        part = slice(first, first + batch)
        frames = rows[part].tolist()
        hide = None if others is None else partial(others.hide, frames=frames, backend=backend)
        chosen = upload(rows[part], vertices.device)
        rgb[chosen], weight[chosen] = _look(
            grid, body, vertices[chosen], present[part], boxes[part], hide, backend
        )
    return Strips(_without_light(rgb, weight), weight)


def _in_view(
    vertices: Float[Tensor, "frame vertex 3"], pictures: Sequence[Picture | None]
) -> tuple[npt.NDArray[np.int64], list[Picture], npt.NDArray[np.float64]]:
    """Frames that show the body, their pictures, and boxes about it."""
    rows = np.array([k for k, picture in enumerate(pictures) if picture is not None], np.int64)
    present = [picture for picture in pictures if picture is not None]
    if not present:
        return rows, present, np.zeros((0, 3))
    cameras = [picture.camera for picture in present]
    boxes = body_boxes(vertices[upload(rows, vertices.device)], cameras, margin=_CROP_MARGIN)
    seen = np.flatnonzero(np.isfinite(boxes).all(1))
    return rows[seen], [present[k] for k in seen], boxes[seen]


def _look(
    grid: SegmentGrid,
    body: BodyModel,
    vertices: Float[Tensor, "batch vertex 3"],
    pictures: Sequence[Picture],
    boxes: npt.NDArray[np.float64],
    hide: Callable[..., Fragments] | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Colours of the points, and √ of the pixels that each stands for."""
    size, device = (_CROP_SIZE, _CROP_SIZE), vertices.device
    images, cameras = [one.image for one in pictures], [one.camera for one in pictures]
    crop = crop_frames(images, boxes, cameras, _CROP_SIZE, device=device)
    extrinsics = np.stack([camera.world_to_camera for camera in cameras])
    world_to_camera = upload(extrinsics, device).to(vertices.dtype)
    intrinsics = crop.intrinsics.to(vertices.dtype)
    in_camera = (
        vertices @ world_to_camera[:, :3, :3].transpose(1, 2) + world_to_camera[:, None, :3, 3]
    )
    fragments = rasterize(in_camera, body.faces, intrinsics, size, backend=backend)
    if hide is not None:
        fragments = hide(fragments, world_to_camera=world_to_camera, intrinsics=intrinsics)
    points = grid.on_surface(in_camera)
    normals = normalize(grid.on_surface(vertex_normals(in_camera, body.faces)), dim=-1)
    seen = points @ intrinsics[:, None, None].transpose(-1, -2)
    depth = points[..., 2].clamp_min(1e-3)
    places = seen[..., :2] / depth[..., None] / (_CROP_SIZE / 2) - 1.0
    trust = _sample(outline_trust(fragments)[:, None].to(places), places)[..., 0]
    surface = _sample(fragments.zbuf[:, None].to(places), places, "nearest")[..., 0]
    cosine = -(normals * normalize(points, dim=-1)).sum(-1)
    is_seen = (surface > 0) & (depth < surface + _DEPTH_TOLERANCE_M) & (places.abs() < 1).all(-1)
    weight = grid.hold * is_seen * _ramp(cosine, _LEAST_COSINE, _FULL_COSINE)
    weight = weight * _ramp(trust, _LEAST_TRUST, _FULL_TRUST)
    pixels = grid.cell_m2 * (intrinsics[:, 0, 0, None, None, None] / depth).square()
    return _sample(crop.images.to(places), places), weight * pixels.sqrt()


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    return ((values - low) / (high - low)).clamp(0.0, 1.0)


def _sample(images: Tensor, places: Tensor, mode: str = "bilinear") -> Tensor:
    """Channels last, at places from −1 to 1 (batch, segment, row, angle, 2)."""
    sampled = grid_sample(
        images, places.flatten(1, 2), mode=mode, padding_mode="border", align_corners=False
    )
    return sampled.permute(0, 2, 3, 1).unflatten(1, places.shape[1:3])


def _without_light(
    rgb: Float[Tensor, "frame segment row angle 3"],
    weight: Float[Tensor, "frame segment row angle"],
) -> Float[Tensor, "frame segment row angle 3"]:
    """Chromaticities, and what luma differs by from rows nearby: shading runs along a limb."""
    red, green, blue = rgb.unbind(-1)
    total = red + green + blue + 0.15
    luma = (rgb @ upload(_REC_601, rgb.device).to(rgb) + 0.05).log()
    nearby = _sum_of_rows(luma * weight) / _sum_of_rows(weight).clamp_min(1e-4)
    chroma = torch.stack([(red - green) / total, (blue - 0.5 * (red + green)) / total], -1)
    values = torch.cat([chroma / _CHROMA_SCALE, (luma - nearby)[..., None] / _LUMA_SCALE], -1)
    known = weight.sum((2, 3)).clamp_min(1e-3)[..., None, None, None]
    mean = (values * weight[..., None]).sum((2, 3), keepdim=True) / known
    return _BOUND * torch.tanh((values - mean) / _BOUND)


def _sum_of_rows(values: Float[Tensor, "frame segment row angle"]) -> Tensor:
    """For each row the sum over it and its neighbours."""
    padded = torch.nn.functional.pad(values, (0, 0, _SHADE_ROWS + 1, _SHADE_ROWS)).cumsum(2)
    return padded[:, :, 2 * _SHADE_ROWS + 1 :] - padded[:, :, : -2 * _SHADE_ROWS - 1]
