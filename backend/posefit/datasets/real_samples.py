# SPDX-License-Identifier: Apache-2.0
"""Training batches from real pictures: simulated wrong estimates, true displacements.

A batch has the form of the synthetic generator's: several people over several frames each, so that
a frame's texture comes from the person's other frames under their wrong estimates. The true
displacement is that of the data set's body, and a point counts as visible where that body has no
surface of its own in front of it. Whether something *else* stands in front (another person, a
table) no such data set says: there visibility and displacement are trained on what the body alone
would show.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..body import BodyModel, vertex_normals
from ..crop import Crop, crop_frames
from ..displacement.inputs import network_inputs
from ..footage import Footage, open_footage
from ..refinement.pictures import body_boxes
from ..training import personal_texture
from ..training.batch import SyntheticModalities, TrainingBatch
from ..training.config import GeneratorConfig
from ..training.drawing import Drawing
from ..training.draws import Draws
from ..training.estimate_errors import sample_errors, sample_personal, sample_twists
from ..training.generator import HIDDEN_MARGIN_M, LARGEST_DISPLACEMENT
from ..training.occlusion import pixel_grid
from ..training.scenes import project
from .bodies import Bodies
from .real_people import RealPerson, errors_of, pose_person
from .recording import DatasetError, FrameSample, Recording

__all__ = ["RealSamples", "read_picture"]

_MARGIN = (1.12, 1.5)
"""Side of the crop by the side of the estimate's bounds."""
_NEIGHBOURHOOD = (6, 100)
"""Frames of the recording from which a person's frames are taken, at least and at most."""
_KEPT_VIDEOS = 4


@dataclass(frozen=True)
class _Frames:
    """A batch's people, side by side."""

    true: Float[Tensor, "batch vertex 3"]
    estimated: Float[Tensor, "batch vertex 3"]
    colors: Float[Tensor, "batch vertex 3"]
    crop: Crop
    in_picture: Bool[Tensor, "batch height width"]
    assumed: Float[Tensor, "batch 3 3"]
    """Intrinsics of the crops as the estimates have them."""


class RealSamples:
    """Makes training batches from recordings; two with equal seeds make equal ones."""

    def __init__(
        self,
        recordings: Many[Recording],
        bodies: Bodies,
        drawing: Drawing,
        config: GeneratorConfig,
        seed: int,
    ) -> None:
        """Takes what it needs; pictures are read when batches are made.

        Args:
            recordings: with body parameters and cameras, of bodies with one mesh.
            bodies: their models.
            drawing: the rasterizer.
            config: people and frames of a batch, size of crops, errors of the estimates; what it
                says of clothes, lights and occluders does not apply.
            seed: of the random numbers.

        Raises:
            DatasetError: no recording has as many usable frames with pictures as a batch takes.
        """
        self.config, self.drawing, self.bodies = config, drawing, bodies
        usable = [recording for recording in recordings if recording.has_body]
        samples = [[s for s in r.samples() if _has_picture(s)] for r in usable]
        pairs = [(r, s) for r, s in zip(usable, samples, strict=True) if len(s) >= config.frames]
        if not pairs:
            raise DatasetError(
                f"none of {len(recordings)} recordings has {config.frames} usable frames with "
                "pictures: check where the pictures lie (docs/datasets.md)"
            )
        self._pairs = pairs
        device = bodies.of(pairs[0][0].sequence).device
        self.draws = Draws(seed, device)
        self._videos: dict[Path, Footage] = {}

    @torch.no_grad()
    def batch(self) -> TrainingBatch:
        """The next batch.

        Raises:
            DatasetError: a picture cannot be read or has another size than its camera.
        """
        frames = self._frames()
        config, faces, size = self.config, self._faces, (self.config.size, self.config.size)
        drawn = self.drawing.rasterize(
            frames.estimated.contiguous(), faces, frames.assumed, size, face_mask=None
        )
        truth = self.drawing.rasterize(
            frames.true.contiguous(), faces, frames.crop.intrinsics, size, face_mask=None
        )
        person = truth.pix_to_face >= 0
        modalities, true_points = self._render(frames, drawn, person)
        render, image = network_inputs(frames.crop.images, modalities)
        displacement, mask, visible = self._displacement(
            frames, drawn.pix_to_face >= 0, true_points, truth.zbuf
        )
        assert len(render) == config.people * config.frames, "a row a frame"
        return TrainingBatch(render, image, displacement, mask, visible)

    def _frames(self) -> _Frames:
        """Draws people and frames, reads their pictures and poses true and wrong bodies."""
        config, draws = self.config, self.draws
        personal = sample_personal(draws, config)
        errors = sample_errors(draws, config, personal)
        twists = sample_twists(draws, config, personal)
        people: list[RealPerson] = []
        colors, crops, insides, assumed = [], [], [], []
        for number in range(config.people):
            part = slice(number * config.frames, (number + 1) * config.frames)
            recording, samples = self._choose()
            body = self.bodies.of(recording.sequence)
            self._check_mesh(body)
            person = pose_person(samples, body, errors_of(errors, part), twists[part])
            people.append(person)
            crop, inside, intrinsics = self._crop(samples, person)
            crops.append(crop)
            insides.append(inside)
            assumed.append(intrinsics)
            colors.append(body.vertex_colors.expand(config.frames, -1, -1))
        crop = Crop(
            *(torch.cat([getattr(crop, name) for crop in crops])
              for name in ("images", "intrinsics", "source_to_crop"))
        )  # fmt: skip
        return _Frames(
            torch.cat([person.true_vertices for person in people]),
            torch.cat([person.estimated_vertices for person in people]),
            torch.cat(colors),
            crop,
            torch.cat(insides),
            torch.cat(assumed),
        )

    def _choose(self) -> tuple[Recording, list[FrameSample]]:
        """A recording and different frames of it, in the order of time, not far apart."""
        count = self.config.frames
        recording, samples = self._pairs[int(self.draws.integers(len(self._pairs)))]
        low, high = _NEIGHBOURHOOD
        width = int(self.draws.log_uniform(1, low=low, high=high + 1)[0])
        width = min(max(width, count), len(samples))
        start = int(self.draws.integers(len(samples) - width + 1))
        places = self.draws.uniform(width).argsort()[:count].sort().values
        return recording, [samples[start + int(place)] for place in places]

    def _check_mesh(self, body: BodyModel) -> None:
        if not hasattr(self, "_faces"):
            self._faces = body.faces
        if body.faces.shape != self._faces.shape or not torch.equal(body.faces, self._faces):
            raise DatasetError(
                "the recordings are of bodies with different meshes: train on one model type at "
                "a time"
            )

    def _crop(
        self, samples: list[FrameSample], person: RealPerson
    ) -> tuple[Crop, Bool[Tensor, "frame height width"], Float[Tensor, "frame 3 3"]]:
        """Crops around the estimates, where they lie in the picture, and assumed intrinsics."""
        margin = float(self.draws.uniform(1, low=_MARGIN[0], high=_MARGIN[1])[0])
        boxes = body_boxes(person.estimated_vertices, person.assumed_cameras, margin=margin)
        for box, camera in zip(boxes, person.true_cameras, strict=True):
            if not np.isfinite(box).all():
                width, height = camera.image_size
                box[:] = width / 2, height / 2, max(width, height)
        pictures = [self._picture(sample) for sample in samples]
        cameras, size = person.true_cameras, self.config.size
        device = person.true_vertices.device
        crop = crop_frames(pictures, boxes, cameras, size, device=device)
        white = [np.full_like(picture, 255) for picture in pictures]
        inside = crop_frames(white, boxes, cameras, size, device=device).images[:, 0] > 0.5
        stacked = np.stack([camera.intrinsics for camera in person.assumed_cameras])
        intrinsics = torch.tensor(stacked, dtype=torch.float32, device=device)
        return crop, inside, crop.source_to_crop @ intrinsics

    def _picture(self, sample: FrameSample) -> npt.NDArray[np.uint8]:
        path = sample.picture
        assert path is not None, "samples without pictures were left out"
        if sample.picture_frame is None:
            return read_picture(sample)
        if path not in self._videos:
            if len(self._videos) >= _KEPT_VIDEOS:
                self._videos.pop(next(iter(self._videos))).close()
            self._videos[path] = open_footage(path)
        return _fitting(self._videos[path].read(sample.picture_frame), sample)

    def _render(
        self, frames: _Frames, drawn: object, person: Bool[Tensor, "batch height width"]
    ) -> tuple[SyntheticModalities, Float[Tensor, "batch height width 3"]]:
        """The estimates' renderings, and the true position of each pixel's surface point."""
        config, draws, faces = self.config, self.draws, self._faces
        normals = vertex_normals(frames.estimated, faces)
        towards = -torch.nn.functional.normalize(frames.estimated, dim=2)
        masked = draws.happens(config.masked_texture_share, config.people)
        usable = person | ~masked.repeat_interleave(config.frames)[:, None, None]
        depth = drawn.zbuf.clamp_min(0.0)  # type: ignore[attr-defined]
        usable = usable & frames.in_picture
        sources = personal_texture.Sources(
            torch.cat([frames.crop.images, depth[:, None], usable[:, None].float()], dim=1),
            project(frames.estimated, frames.assumed),
            frames.estimated[..., 2:],
            (normals * towards).sum(-1, keepdim=True),
        )
        others = personal_texture.source_attributes(sources, config.frames)
        columns = torch.cat([frames.true, normals, frames.colors, others], dim=2)
        seen = self.drawing.interpolate(drawn, faces, columns)
        true_points, normals, colors, others = seen.split([3, 3, 3, seen.shape[3] - 9], dim=3)
        used = personal_texture.sample_source_use(draws, config)
        views = personal_texture.source_views(others, sources.pictures, used, config.frames)
        texture, valid = personal_texture.median_color(*views)
        mask = (drawn.pix_to_face >= 0)[:, None]  # type: ignore[attr-defined]
        modalities = SyntheticModalities(
            texture,
            (valid[:, None] & mask).float(),
            depth[:, None],
            torch.nn.functional.normalize(normals, dim=3).permute(0, 3, 1, 2),
            colors.permute(0, 3, 1, 2),
            mask.float(),
        )
        return modalities, true_points

    def _displacement(
        self,
        frames: _Frames,
        on_body: Bool[Tensor, "batch height width"],
        true_points: Float[Tensor, "batch height width 3"],
        true_depth: Float[Tensor, "batch height width"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """True displacement, which pixels count, and whether their point can be seen."""
        size = self.config.size
        x, y = pixel_grid(size, true_points.device)
        target = project(true_points.flatten(1, 2), frames.crop.intrinsics)
        target = target.unflatten(1, (size, size))
        displacement = target - torch.stack([x, y], dim=2)
        mask = on_body & (true_points[..., 2] > 0.1)
        mask = mask & (displacement.abs().amax(-1) < LARGEST_DISPLACEMENT * size / 256)
        cell = target.floor().long()
        inside = ((cell >= 0) & (cell < size)).all(-1)
        column, row = cell.clamp(0, size - 1).unbind(-1)
        index = (row * size + column).flatten(1)
        shown = true_depth.flatten(1).gather(1, index).view_as(mask)
        in_picture = frames.in_picture.flatten(1).gather(1, index).view_as(mask)
        behind = (shown > 0) & (true_points[..., 2] > shown + HIDDEN_MARGIN_M)
        visible = mask & inside & in_picture & ~behind
        return (displacement * mask[..., None]).permute(0, 3, 1, 2), mask, visible


def read_picture(sample: FrameSample) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB of a frame, turned so that it fits its camera.

    Args:
        sample: whose picture is an image file or a video.

    Raises:
        DatasetError: there is no such picture, or it has another size than the camera.
        FootageError: the video cannot be decoded.
    """
    if sample.picture is None:
        raise DatasetError(
            f"{sample.recording} has no pictures: put them where docs/datasets.md says"
        )
    if sample.picture_frame is not None:
        with open_footage(sample.picture) as footage:
            return _fitting(footage.read(sample.picture_frame), sample)
    try:
        with Image.open(sample.picture) as image:
            return _fitting(np.array(image.convert("RGB")), sample)
    except (UnidentifiedImageError, OSError) as error:
        raise DatasetError(f"{sample.picture} cannot be read as a picture ({error})") from error


def _fitting(picture: npt.NDArray[np.uint8], sample: FrameSample) -> npt.NDArray[np.uint8]:
    turned = np.ascontiguousarray(np.rot90(picture, -sample.quarter_turns))
    height, width = turned.shape[:2]
    if (width, height) != sample.camera.image_size:
        raise DatasetError(
            f"{sample.picture} is {width}×{height}, its camera is for "
            f"{sample.camera.image_size[0]}×{sample.camera.image_size[1]}: use the pictures as "
            "published, at full size"
        )
    return turned


def _has_picture(sample: FrameSample) -> bool:
    return sample.picture is not None and sample.picture.is_file()
