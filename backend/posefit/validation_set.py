# SPDX-License-Identifier: Apache-2.0
"""The rendered validation set: pictures with exact truth, and wrong estimates to start from.

A folder with `set.npz`, `images/pNN/fNN.jpg` and `masks/pNN/fNN.png`, a folder a person.
tools/blender/render_validation.py makes it; docs/validation.md says what is in it and what it may
be used to claim. Scoring estimators and refinement is `benchmarks/validation_set.py`'s business.
"""

from __future__ import annotations

import dataclasses
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from posefit_shared.sequence import Sequence

from .errors import PosefitError
from .rasterizer import Fragments, interpolate
from .refinement.pictures import project_points

__all__ = [
    "PERSON",
    "SCHEMA",
    "ValidationSet",
    "ValidationSetError",
    "points_visible",
    "read_validation_set",
    "true_displacement",
    "write_validation_set",
]

SCHEMA = 1
"""Schema that is written, and the newest that is read."""
PERSON = 1
"""Value of a mask where the person of the frame is seen; 0 nothing, 2 another person, 3 things."""

_FILE = "set.npz"
_FLAGS = ("blurred", "shallow", "crowded", "occluded", "truncated")


class ValidationSetError(PosefitError):
    """A validation set that cannot be read or does not fit the body."""


@dataclass(frozen=True)
class ValidationSet:
    """All frames of all people; a person's frames are consecutive and in the order of time."""

    folder: Path
    """Where pictures and masks are."""
    body: str
    """Content hash of the body that everything here belongs to."""
    people: tuple[str, ...]
    """(P,) names."""
    clips: tuple[str, ...]
    """(P,) motion clips that they move by."""
    frame_rates: npt.NDArray[np.float64]
    """(P,) frames per second of each person's pictures."""
    levels: tuple[str, ...]
    """(S,) names of the simulated estimates, from good to bad."""
    image_size: tuple[int, int]
    """Width and height, pixels."""
    person: npt.NDArray[np.int64]
    """(N,) person of each frame."""
    files: tuple[str, ...]
    """(N,) file names without suffix: `pNN/fNN`."""
    intrinsics: npt.NDArray[np.float64]
    """(N, 3, 3) pixels."""
    world_to_camera: npt.NDArray[np.float64]
    """(N, 4, 4) OpenCV camera, metres."""
    betas: npt.NDArray[np.float32]
    """(P, B) true shape."""
    poses: npt.NDArray[np.float32]
    """(N, 24, 3) true rotation vectors, world with z up."""
    trans: npt.NDArray[np.float32]
    """(N, 3) true translations, metres."""
    start_betas: npt.NDArray[np.float32]
    """(S, P, B) simulated estimates' shape."""
    start_poses: npt.NDArray[np.float32]
    """(S, N, 24, 3) simulated estimates' rotation vectors."""
    start_trans: npt.NDArray[np.float32]
    """(S, N, 3) simulated estimates' translations, metres."""
    blurred: npt.NDArray[np.bool_]
    """(N,) with motion blur."""
    shallow: npt.NDArray[np.bool_]
    """(N,) with depth of field."""
    crowded: npt.NDArray[np.bool_]
    """(N,) a second person is seen."""
    occluded: npt.NDArray[np.bool_]
    """(N,) something stands before the person."""
    truncated: npt.NDArray[np.bool_]
    """(N,) the frame's border cuts the person."""

    def __post_init__(self) -> None:
        frames, people, levels = len(self.files), len(self.people), len(self.levels)
        shapes = {
            "person": (frames,),
            "frame_rates": (people,),
            "intrinsics": (frames, 3, 3),
            "world_to_camera": (frames, 4, 4),
            "betas": (people, -1),
            "poses": (frames, 24, 3),
            "trans": (frames, 3),
            "start_betas": (levels, people, -1),
            "start_poses": (levels, frames, 24, 3),
            "start_trans": (levels, frames, 3),
        } | dict.fromkeys(_FLAGS, (frames,))
        for name, shape in shapes.items():
            found = getattr(self, name).shape
            if len(found) != len(shape) or any(
                b not in (-1, a) for a, b in zip(found, shape, strict=True)
            ):
                raise ValidationSetError(
                    f"{name} of the validation set {self.folder} is {found}, expected {shape}: "
                    "render the set again"
                )

    def __len__(self) -> int:
        return len(self.files)

    def frames_of(self, person: int) -> npt.NDArray[np.int64]:
        """(T,) frames of one person, in the order of time."""
        return np.flatnonzero(self.person == person)

    def truth(self, person: int) -> Sequence:
        """One person's true motion; frame indices count that person's own frames."""
        return self._sequence(person, self.betas[person], self.poses, self.trans)

    def start(self, level: str | int, person: int) -> Sequence:
        """One person's simulated estimate.

        Args:
            level: its name or place in `levels`.
            person: place in `people`.

        Raises:
            ValidationSetError: there is no such level.
        """
        index = self.levels.index(level) if level in self.levels else level
        if not isinstance(index, int) or not 0 <= index < len(self.levels):
            raise ValidationSetError(
                f"the validation set has no starts called {level!r}, it has "
                f"{', '.join(self.levels)}"
            )
        return self._sequence(
            person,
            self.start_betas[index, person],
            self.start_poses[index],
            self.start_trans[index],
        )

    def _sequence(
        self, person: int, betas: np.ndarray, poses: np.ndarray, trans: np.ndarray
    ) -> Sequence:
        frames = self.frames_of(person)
        return Sequence(
            poses=poses[frames],
            trans=trans[frames],
            betas=betas,
            body=self.body,
            mocap_framerate=float(self.frame_rates[person]),
            intrinsics=self.intrinsics[frames],
            world_to_camera=self.world_to_camera[frames],
            image_size=self.image_size,
            world="gravity",
            person_id=person,
        )

    def footage_folder(self, person: int) -> Path:
        """The folder with one person's pictures, in the order of time and nothing else."""
        return (self.folder / "images" / self.files[self.frames_of(person)[0]]).parent

    def image(self, frame: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB of a frame.

        Raises:
            ValidationSetError: the file is missing or broken.
        """
        return self._picture("images", f"{self.files[frame]}.jpg", "RGB")

    def mask(self, frame: int) -> npt.NDArray[np.uint8]:
        """(H, W) what is seen at each pixel of a frame: `PERSON`, 2 another person, 3 things.

        Raises:
            ValidationSetError: the file is missing or broken.
        """
        return self._picture("masks", f"{self.files[frame]}.png", "P")

    def _picture(self, kind: str, name: str, mode: str) -> npt.NDArray[np.uint8]:
        path = self.folder / kind / name
        try:
            with Image.open(path) as picture:
                pixels = np.array(picture.convert(mode) if picture.mode != mode else picture)
        except OSError as error:
            raise ValidationSetError(f"{path} cannot be read ({error}): render the set") from error
        width, height = self.image_size
        if pixels.shape[:2] != (height, width):
            raise ValidationSetError(
                f"{path} is {pixels.shape[1]} × {pixels.shape[0]}, expected {width} × {height}"
            )
        return pixels

    def check_body(self, content_hash: str) -> None:
        """Raises ValidationSetError unless the set was made with this body."""
        if content_hash != self.body:
            raise ValidationSetError(
                f"the validation set {self.folder} was rendered with body {self.body[:12]}, the "
                f"body at hand is {content_hash[:12]}: render it again with "
                "tools/blender/render_validation.py"
            )


def write_validation_set(dataset: ValidationSet) -> Path:
    """Writes `set.npz` into the set's folder; pictures and masks are put there by who made them.

    Args:
        dataset: what to write.

    Returns:
        The file.
    """
    values = {
        field.name: getattr(dataset, field.name)
        for field in dataclasses.fields(dataset)
        if field.name != "folder"
    }
    arrays = {
        name: np.array(value) if isinstance(value, tuple | str) else value
        for name, value in values.items()
    }
    dataset.folder.mkdir(parents=True, exist_ok=True)
    everything: dict[str, Any] = {"schema": SCHEMA, **arrays}
    np.savez_compressed(dataset.folder / _FILE, **everything)
    return dataset.folder / _FILE


def read_validation_set(folder: str | Path) -> ValidationSet:
    """The set in a folder.

    Args:
        folder: with `set.npz`, `images` and `masks`.

    Returns:
        The set; pictures are read when they are asked for.

    Raises:
        ValidationSetError: there is none, or one that this version cannot read.
    """
    path = Path(folder) / _FILE
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValidationSetError(
            f"{path} is no validation set ({error}): make one with "
            "tools/blender/render_validation.py (docs/validation.md)"
        ) from error
    schema = int(arrays.pop("schema", 0))
    if schema != SCHEMA:
        raise ValidationSetError(f"{path} has schema {schema}, this version reads {SCHEMA}")
    names = {field.name for field in dataclasses.fields(ValidationSet)} - {"folder"}
    missing = names - arrays.keys()
    if missing:
        raise ValidationSetError(f"{path} lacks {', '.join(sorted(missing))}: render it again")
    texts = ("people", "clips", "levels", "files")
    values = {name: arrays[name] for name in names - {*texts, "body", "image_size"}}
    return ValidationSet(
        folder=Path(folder),
        body=str(arrays["body"]),
        image_size=(int(arrays["image_size"][0]), int(arrays["image_size"][1])),
        **{name: tuple(str(word) for word in arrays[name]) for name in texts},
        **values,
    )


def true_displacement(
    fragments: Fragments,
    faces: Int[Tensor, "face 3"],
    true_vertices: Float[Tensor, "batch vertex 3"],
    world_to_camera: Float[Tensor, "batch 4 4"],
    intrinsics: Float[Tensor, "batch 3 3"],
) -> Float[Tensor, "batch height width 2"]:
    """Where each rendered surface point of an estimate truly projects, from where it is rendered.

    Args:
        fragments: of the estimate's rendering.
        faces: of the body.
        true_vertices: of the true body, world, metres.
        world_to_camera: OpenCV.
        intrinsics: of the crop that was rendered, pixels.

    Returns:
        Crop pixels, x right and y down; zero where no body was rendered, NaN where the true point
        lies behind the camera.
    """
    batch, height, width = fragments.pix_to_face.shape
    points = interpolate(fragments, faces, true_vertices)
    places = project_points(points.flatten(1, 2), world_to_camera, intrinsics)
    rows, columns = torch.meshgrid(
        torch.arange(height, device=places.device) + 0.5,
        torch.arange(width, device=places.device) + 0.5,
        indexing="ij",
    )
    moved = places.view(batch, height, width, 2) - torch.stack([columns, rows], dim=-1)
    return torch.where((fragments.pix_to_face >= 0)[..., None], moved, 0.0)


def points_visible(
    estimate: Fragments,
    truth: Fragments,
    faces: Int[Tensor, "face 3"],
    true_depths: Float[Tensor, "batch vertex 1"],
    displacement: Float[Tensor, "batch height width 2"],
    masks: UInt8[Tensor, "batch height width"],
    *,
    tolerance_m: float = 0.03,
) -> Bool[Tensor, "batch height width"]:
    """Whether the surface point that each pixel of an estimate shows is seen in the picture.

    It is where the true body has no surface in front of it and the mask shows the person.

    Args:
        estimate: fragments of the estimate's rendering.
        truth: fragments of the true body in the same crop.
        faces: of the body.
        true_depths: camera z of the true vertices, metres.
        displacement: from `true_displacement`.
        masks: the set's masks, cut like the crop.
        tolerance_m: how much nearer the true surface may be, metres.
    """
    batch, height, width = masks.shape
    depth = interpolate(estimate, faces, true_depths)[..., 0]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = displacement.nan_to_num(1e6) + torch.stack([columns, rows], -1) + 0.5
    column, row = pixels.floor().long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    frame = torch.arange(batch)[:, None, None]
    nearest = truth.zbuf[frame, row, column]
    in_front = (nearest > 0) & (nearest < depth - tolerance_m)
    shown = masks[frame, row, column] == PERSON
    return (estimate.pix_to_face >= 0) & inside & shown & ~in_front
