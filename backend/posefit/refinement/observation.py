# SPDX-License-Identifier: Apache-2.0
"""One look at the pictures: render the bodies, predict displacements, make evidence of them.

Steps 1 to 4 of the method for some frames of one view, in batches that bound memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..body import BodyModel, PoseParameters, pose_body
from ..body_model import kept_with_body
from ..crop import crop_frames
from ..displacement import DisplacementEstimator, DisplacementField
from ..gpu.graphs import replayed
from ..gpu.memory import give_back
from ..gpu.upload import upload
from ..modalities import Modalities, render_modalities
from ..rasterizer import Fragments
from ..solver import SurfacePoints
from ..vertex_targets import VertexTargets, aggregate, surface_points
from .others import Occluders
from .pictures import Picture, body_boxes, project_points

__all__ = ["Look", "LookFigures", "Observer", "withheld_patches"]

TextureMaps = Callable[[Sequence[int]], Float[Tensor, "texture 4 height width"] | None]
"""For frames of the sequence, the map each is compared with: RGB and validity."""

logger = logging.getLogger(__name__)

_PATCH_M = 0.06
"""Side of the patches of skin that are withheld, metres at rest."""
_GPU_TIMES = 8
"""A GPU takes so many times as many frames at once."""
_WITHHELD = 4
"""One patch in so many is withheld."""


@dataclass(frozen=True)
class LookFigures:
    """How far a look found each body from its picture; NaN where nothing certain was seen."""

    disagreement: Float[Tensor, " batch"]
    """How far the rendered body is from the picture: the certain pixels' mean of
    d² / (d² + (2 σ)² ) with d the displacement; 0 lies right over it, 1 nowhere near."""
    error_m: Float[Tensor, " batch"]
    """How far the body is off as far as can be seen, metres on the person: the certain pixels' mean
    of |d|."""
    doubt_m: Float[Tensor, " batch"]
    """The same mean of the displacement's σ, metres on the person."""
    seen_share: Float[Tensor, " batch"]
    """How much of what the rendering shows can be seen in the picture, 0 to 1."""


@dataclass(frozen=True)
class Look:
    """What one look at a view's frames gave."""

    points: SurfacePoints
    """Evidence for the solver; frames without a picture have weight zero."""
    withheld: SurfacePoints
    """The same of patches of skin that no solve is ever told of: they judge what was found."""
    figures: LookFigures
    """How far off the bodies look."""


@dataclass(frozen=True)
class Observer:
    """Everything that stays the same from one look to the next."""

    body: BodyModel
    estimator: DisplacementEstimator
    crop_size: int = 256
    """Side of the crops, pixels."""
    crop_margin: float = 1.3
    """Side of the crop by that of the body's bounds."""
    rasterizer: str = "warp"
    """`warp` or `pytorch3d`."""
    batch_frames: int = 16
    """Frames rendered and predicted at once on a CPU; bounds memory."""
    max_points: int = 1200
    """Surface points a frame that go to the solver."""
    withheld_points: int = 300
    """Surface points a frame that judge it."""
    others: Occluders | None = None
    """Who else is there and may hide this person."""

    def look(
        self,
        pictures: Sequence[Picture | None],
        frames: Sequence[int],
        parameters: PoseParameters,
        textures: TextureMaps,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> Look:
        """Compare the bodies with the pictures.

        Args:
            pictures: of each frame.
            frames: frames of the sequence that the pictures show.
            parameters: the current estimate of each.
            textures: gives the map that each frame is compared with.
            check_cancelled: called between batches; raises to stop.
        """
        looks = []
        batch = self.batch_frames * (_GPU_TIMES if self.body.device.type == "cuda" else 1)
        first = 0
        while first < len(frames):
            check_cancelled()
            part = slice(first, first + batch)
            try:
                looks.append(self._look(pictures[part], frames[part], parameters[part], textures))
                first += batch
                continue
            except torch.cuda.OutOfMemoryError:
                if min(batch, len(frames) - first) == 1:
                    raise
            # Out here the error is gone, and with it what it kept of the look that broke off.
            batch = min(batch, len(frames) - first) // 2
            give_back()
            logger.warning("the GPU's memory does not hold so many frames: %d at once", batch)
        return _join(looks)

    def _look(
        self,
        pictures: Sequence[Picture | None],
        frames: Sequence[int],
        parameters: PoseParameters,
        textures: TextureMaps,
    ) -> Look:
        vertices = pose_body(self.body, parameters).vertices
        shown = [k for k, picture in enumerate(pictures) if picture is not None]
        present = [picture for picture in pictures if picture is not None]
        if present:
            of_shown = vertices if len(shown) == len(vertices) else vertices[shown]
            boxes = body_boxes(
                of_shown, [picture.camera for picture in present], margin=self.crop_margin
            )
            visible = np.isfinite(boxes[:, 2])
            shown = [k for k, is_visible in zip(shown, visible, strict=True) if is_visible]
            present = [p for p, is_visible in zip(present, visible, strict=True) if is_visible]
            boxes = boxes[visible]
        if not present:
            return _nothing(len(frames), self.max_points, self.withheld_points, vertices)
        if len(shown) < len(vertices):
            vertices = vertices[shown]
        seen = self._predict(present, boxes, [frames[k] for k in shown], vertices, textures)
        return _spread(seen, shown, len(frames))

    def _predict(
        self,
        pictures: Sequence[Picture],
        boxes: np.ndarray,
        frames: Sequence[int],
        vertices: Float[Tensor, "batch vertex 3"],
        textures: TextureMaps,
    ) -> Look:
        device = vertices.device
        crop = crop_frames(
            [picture.image for picture in pictures],
            boxes,
            [picture.camera for picture in pictures],
            self.crop_size,
            device=device,
        )
        world_to_camera = upload(
            np.stack([picture.camera.world_to_camera for picture in pictures]), device
        ).to(vertices.dtype)
        count, texture, images, intrinsics = (
            len(pictures), textures(frames), crop.images, crop.intrinsics,
        )  # fmt: skip
        if vertices.is_cuda and _padded(count) > count:
            # A recording is of one number of frames: a few numbers serve for all.
            rows = torch.arange(_padded(count), device=device)
            rows = rows.clamp(max=count - 1)
            vertices, world_to_camera = vertices[rows], world_to_camera[rows]
            images, intrinsics = images[rows], intrinsics[rows]
            if texture is not None and len(texture) > 1:
                texture = texture[rows]
        modalities, fragments = replayed(
            _rendered, self.body, vertices, world_to_camera, intrinsics, self.crop_size, texture,
            self.rasterizer,
        )  # fmt: skip
        field = self.estimator.predict(images, modalities)
        if self.others is not None:
            everyone = [frames[min(k, count - 1)] for k in range(len(vertices))]
            seen = self.others.hide(
                fragments, everyone, world_to_camera, intrinsics, backend=self.rasterizer
            )
            field = replace(field, visibility=field.visibility * (seen.pix_to_face >= 0))
        look = replayed(
            _look_of, self.body, withheld_patches(self.body), vertices, world_to_camera, intrinsics,
            fragments, field, self.max_points, self.withheld_points,
        )  # fmt: skip
        return look if len(vertices) == count else _first(look, count)


def _padded(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def _rendered(
    body: BodyModel,
    vertices: Float[Tensor, "batch vertex 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
    intrinsics: Float[Tensor, "batch 3 3"],
    size: int,
    texture: Tensor | None,
    rasterizer: str,
) -> tuple[Modalities, Fragments]:
    return render_modalities(
        body, vertices, world_to_camera, intrinsics, (size, size),
        texture=texture, backend=rasterizer,
    )  # fmt: skip


def _look_of(
    body: BodyModel,
    is_withheld: Bool[Tensor, " vertex"],
    vertices: Float[Tensor, "batch vertex 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
    intrinsics: Float[Tensor, "batch 3 3"],
    fragments: Fragments,
    field: DisplacementField,
    max_points: int,
    withheld_points: int,
) -> Look:
    """What a predicted field says of each body."""
    targets = aggregate(fragments, body.faces, body.num_vertices, field)
    projected = project_points(vertices, world_to_camera, intrinsics).nan_to_num(0.0)
    points, withheld = (
        surface_points(
            replace(targets, weight=targets.weight * part),
            projected,
            intrinsics,
            world_to_camera,
            max_points=count,
        )
        for part, count in ((~is_withheld, max_points), (is_withheld, withheld_points))
    )
    metres = _metres_per_pixel(vertices, world_to_camera, intrinsics)
    return Look(points, withheld, _figures(targets, fragments, field, metres))


def _figures(
    targets: VertexTargets,
    fragments: Fragments,
    field: DisplacementField,
    metres: Float[Tensor, " batch"],
) -> LookFigures:
    """How far off the bodies look.

    Args:
        targets: displacement of each vertex.
        fragments: of the renderings.
        field: displacement of each pixel.
        metres: for a pixel of each crop.
    """
    certainty = targets.weight / (targets.scale.square() + 1.0)
    squared = targets.displacement.square().sum(-1)
    misfit = squared / (squared + 4.0 * (targets.scale.square() + 1.0))
    total = certainty.sum(1)
    is_seen = total > 1e-3

    def mean(values: Float[Tensor, "batch vertex"]) -> Float[Tensor, " batch"]:
        return torch.where(is_seen, (certainty * values).sum(1) / total.clamp_min(1e-9), torch.nan)

    shown = fragments.pix_to_face >= 0
    pixels = shown.flatten(1).sum(1)
    seen_share = (field.visibility * shown).flatten(1).sum(1) / pixels.clamp_min(1)
    return LookFigures(
        disagreement=mean(misfit),
        error_m=mean(squared.sqrt()) * metres,
        doubt_m=mean(targets.scale) * metres,
        seen_share=torch.where(is_seen, seen_share, torch.nan),
    )


@kept_with_body
def withheld_patches(body: BodyModel) -> Bool[Tensor, " vertex"]:
    """Which vertices lie in the patches of skin that no solve is told of: about one in four.

    The patches belong to the body, not to the picture: what judges a result was never told to any
    of the rounds that led to it.
    """
    cell = (body.v_template / _PATCH_M).floor().long()
    return (cell * cell.new_tensor([1, 2, 3])).sum(-1) % _WITHHELD == 0


def _metres_per_pixel(
    vertices: Float[Tensor, "batch vertex 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
    intrinsics: Float[Tensor, "batch 3 3"],
) -> Float[Tensor, " batch"]:
    """Metres across the view, at the body's distance, for a pixel of each crop."""
    middle = vertices.mean(1)
    depth = (world_to_camera[:, 2, :3] * middle).sum(1) + world_to_camera[:, 2, 3]
    return depth.clamp_min(0.1) / intrinsics[:, 0, 0]


_POINT_FIELDS = (
    "vertex_indices", "targets", "weights", "scales", "intrinsics", "world_to_camera",
)  # fmt: skip


def _first(look: Look, count: int) -> Look:
    """The first rows of a look."""

    def cut(points: SurfacePoints) -> SurfacePoints:
        return SurfacePoints(**{name: getattr(points, name)[:count] for name in _POINT_FIELDS})

    figures = LookFigures(**{name: v[:count] for name, v in vars(look.figures).items()})
    return Look(cut(look.points), cut(look.withheld), figures)


def _spread(look: Look, rows: Sequence[int], frames: int) -> Look:
    """A look at some rows as a look at all, the others having seen nothing."""
    if len(rows) == frames:
        return look

    def wide(values: Tensor, fill: float) -> Tensor:
        result = values.new_full((frames, *values.shape[1:]), fill)
        result[list(rows)] = values
        return result

    def wide_points(points: SurfacePoints) -> SurfacePoints:
        fields = {name: wide(getattr(points, name), 0.0) for name in _POINT_FIELDS}
        fields["intrinsics"] = _identity_where_empty(fields["intrinsics"])
        fields["world_to_camera"] = _identity_where_empty(fields["world_to_camera"])
        return SurfacePoints(**fields)

    figures = LookFigures(**{k: wide(v, torch.nan) for k, v in vars(look.figures).items()})
    return Look(wide_points(look.points), wide_points(look.withheld), figures)


def _identity_where_empty(matrices: Tensor) -> Tensor:
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return torch.where((matrices == 0).all(-1).all(-1)[:, None, None], identity, matrices)


def _nothing(frames: int, points: int, withheld: int, like: Tensor) -> Look:
    zeros = like.new_zeros

    def nowhere(count: int) -> SurfacePoints:
        return SurfacePoints(
            vertex_indices=zeros(frames, count).long(),
            targets=zeros(frames, count, 2),
            weights=zeros(frames, count),
            scales=zeros(frames, count) + 1.0,
            intrinsics=_identity_where_empty(zeros(frames, 3, 3)),
            world_to_camera=_identity_where_empty(zeros(frames, 4, 4)),
        )

    unknown = zeros(frames) + torch.nan
    figures = LookFigures(unknown, unknown, unknown, unknown)
    return Look(nowhere(points), nowhere(withheld), figures)


def _join(looks: Sequence[Look]) -> Look:
    if len(looks) == 1:
        return looks[0]

    def joined(parts: Sequence[SurfacePoints]) -> SurfacePoints:
        fields = {n: torch.cat([getattr(part, n) for part in parts]) for n in _POINT_FIELDS}
        return SurfacePoints(**fields)

    names = vars(looks[0].figures)
    figures = {n: torch.cat([getattr(look.figures, n) for look in looks]) for n in names}
    return Look(
        joined([look.points for look in looks]),
        joined([look.withheld for look in looks]),
        LookFigures(**figures),
    )
